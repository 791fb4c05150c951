import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import RunError, UserError
from sciembed_train.inference import sentence_embedding
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.sentence_embedding import (
    PaperSentences,
    alone,
    in_papers,
    nearest_pair,
    sentenced,
    transported,
)
from sciembed_train.losses import transport as moving
from sciembed_train.losses.transport import TransportSettings

SETTINGS = EmbedSettings(device="cpu", batch_tokens=60)
MOVES = TransportSettings(5000.0)


def stored(vectors):
    """Vectors of papers, two papers at a time."""
    width = max(v.shape[1] for v in vectors)
    parts = [vectors[i : i + 2] for i in range(0, len(vectors), 2)]
    return PaperSentences.write(iter(parts), width)


@pytest.fixture
def papers():
    """Eleven papers of 0 to 6 sentences."""
    rng = np.random.default_rng(0)
    counts = [3, 1, 0, 6, 2, 2, 5, 0, 1, 4, 3]
    return [rng.normal(size=(n, 5)).astype(np.float32) * 3 for n in counts]


def test_a_text_is_the_sentences_of_its_abstract():
    assert sentenced(("T", "One is here. Two is  there.")) == (
        "T",
        ["One is here.", "Two is there."],
    )
    assert sentenced(("T", ["One.", " ", "", "Two. And three."])) == (
        "T",
        ["One.", "Two. And three."],
    )
    assert sentenced(("T", None)) == ("T", [])
    assert sentenced((None, "One.")) == (None, ["One."])


def test_papers_come_back_as_they_were_kept(papers):
    kept = stored(papers)
    for number, vectors in enumerate(papers):
        np.testing.assert_array_equal(kept.of(number), vectors)
    some = np.array([3, 2, 0, 3])
    np.testing.assert_array_equal(kept.gathered(some), np.concatenate([papers[i] for i in some]))
    none = stored([np.empty((0, 5), np.float32)] * 3)
    assert none.vectors.shape == (0, 5)
    assert none.counts(np.arange(3)).tolist() == [0, 0, 0]


def test_a_full_disk_is_told():
    def parts():
        yield [np.zeros((1, 2), np.float32)]
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="TMPDIR"):
        PaperSentences.write(parts(), 2)


@pytest.mark.parametrize("part", [1, 4, 2**14])
def test_the_nearest_pair_equals_a_loop_over_all_pairs(papers, monkeypatch, part):
    monkeypatch.setattr(sentence_embedding, "PART", part)
    kept, pool = stored(papers), np.array([9, 2, 0, 3, 8, 3, 1])
    asking = papers[6]
    found = nearest_pair(asking, kept, pool)
    for place, paper in enumerate(pool):
        want = np.inf
        for a in asking.astype(np.float64):
            for b in papers[paper].astype(np.float64):
                want = min(want, np.sqrt(((a - b) ** 2).sum()))
        assert found[place] == pytest.approx(want, rel=1e-6)
    assert found[3] == found[5]
    assert np.isinf(nearest_pair(asking[:0], kept, pool)).all()


def test_the_nearest_pair_is_the_best_match_that_is_trained(papers):
    kept, pool = stored(papers), np.array([0, 3, 9])
    most = max(len(papers[p]) for p in pool)
    b, there = torch.zeros(3, most, 5), torch.zeros(3, most, dtype=torch.bool)
    for row, paper in enumerate(pool):
        b[row, : len(papers[paper])] = torch.from_numpy(papers[paper])
        there[row, : len(papers[paper])] = True
    a = torch.from_numpy(papers[4]).expand(3, -1, -1)
    distances = moving.sentence_distances(a, b)
    want, _, _ = moving.best_match(distances, torch.ones(3, 2, dtype=torch.bool), there)
    np.testing.assert_allclose(nearest_pair(papers[4], kept, pool), want.numpy(), rtol=1e-6)


def one_by_one(a, b, settings):
    """A pair of papers by itself, without padding."""
    a, b = (torch.from_numpy(x).double()[None] for x in (a, b))
    a_there, b_there = (torch.ones(x.shape[:2], dtype=torch.bool) for x in (a, b))
    return float(moving.transport(a, b, a_there, b_there, settings).cost)


@pytest.mark.parametrize("entries", [1, 300, 2**21])
def test_transport_of_pools_equals_one_pair_after_another(papers, monkeypatch, entries):
    monkeypatch.setattr(sentence_embedding, "ENTRIES", entries)
    kept, pool = stored(papers), np.array([9, 2, 0, 3, 8, 3, 1, 4])
    for settings in (MOVES, TransportSettings(1.0, blur=0.3, scaling=0.5)):
        found = transported(papers[6], kept, pool, settings)
        for place, paper in enumerate(pool):
            if len(papers[paper]):
                want = one_by_one(papers[6], papers[paper], settings)
                assert found[place] == pytest.approx(want, rel=1e-6)
            else:
                assert np.isinf(found[place])
        assert found[3] == found[5]
    assert np.isinf(transported(papers[6][:0], kept, pool, MOVES)).all()


def sinkhorn_cost(a, b, blur, steps=4000):
    """``sum P C`` of the plan for equal weights, by the plain iteration on its two scalings."""
    cost = np.array([[np.sqrt(((x - y) ** 2).sum()) for y in b] for x in a])
    kernel = np.exp(-cost / blur)
    u, v = np.ones(len(a)), np.ones(len(b))
    for _ in range(steps):
        u = (1 / len(a)) / (kernel @ v)
        v = (1 / len(b)) / (kernel.T @ u)
    return float((u[:, None] * kernel * v[None, :] * cost).sum())


def test_the_cost_is_that_of_the_optimal_plan(papers):
    kept, pool = stored(papers), np.array([0, 1, 3, 9])
    settings = TransportSettings(1e9, blur=0.5, scaling=0.99)
    found = transported(papers[6], kept, pool, settings)
    for place, paper in enumerate(pool):
        a, b = papers[6].astype(np.float64), papers[paper].astype(np.float64)
        # The solver ends where its blur does, a little before the iteration has converged.
        assert found[place] == pytest.approx(sinkhorn_cost(a, b, 0.5), rel=5e-3)


def test_papers_of_equal_vectors_cost_bit_equally_in_any_company(papers, monkeypatch):
    rng = np.random.default_rng(1)
    twin = papers[3]
    for entries in (1, 500, 2**21):
        monkeypatch.setattr(sentence_embedding, "ENTRIES", entries)
        others = [rng.normal(size=(n, 5)).astype(np.float32) for n in (9, 1, 6, 6, 12)]
        kept = stored([twin, *others[:3], twin, *others[3:], twin])
        everyone = np.arange(8)
        for row in (
            nearest_pair(papers[6], kept, everyone),
            transported(papers[6], kept, everyone, MOVES),
        ):
            assert row[0] == row[4] == row[7]
            assert len(set(row.tolist())) == 6


def test_each_scorer_prefers_another_paper():
    """Four papers on a line, each the nearest by one way of comparing."""
    query = np.array([[0.0], [10.0]], np.float32)
    one_alike = np.array([[0.1], [60.0]], np.float32)  # one sentence nearly the same
    all_near = np.array([[1.0], [8.0]], np.float32)  # every sentence has a near partner
    same_mean = np.array([[5.0]], np.float32)  # alike only as a whole
    kept = stored([one_alike, all_near, same_mean])
    pool = np.arange(3)
    means = [abs(query.mean() - p.mean()) for p in (one_alike, all_near, same_mean)]
    assert np.argsort(means).tolist() == [2, 1, 0]
    assert np.argsort(nearest_pair(query, kept, pool)).tolist() == [0, 1, 2]
    assert np.argsort(transported(query, kept, pool, MOVES)).tolist() == [1, 2, 0]


@pytest.fixture
def encoder(tiny_bert):
    return Encoder.load(tiny_bert, pooling="mean")


TEXTS = [
    ("word1 word2", ["word3 word4", "word5", "word6 word7 word8"]),
    ("word9", []),
    ("", []),
    (None, ["word10 word11"]),
    ("  ", ["\x01"]),
    *((f"word{i}", [f"word{i + 1} word{i + 2}"] * (i % 4)) for i in range(90)),
]


def test_sentences_alone_are_what_the_encoder_gives_of_each(encoder):
    done = []
    parts = list(alone(encoder, iter(TEXTS), SETTINGS, done.append))
    assert [len(part) for part in parts] == [64, 31]  # two chunks
    assert sum(done) == len(TEXTS)
    found = [vectors for part in parts for vectors in part]
    for (title, own), vectors in zip(TEXTS, found, strict=True):
        texts = own or [title]
        if not "".join(texts).strip(" \x01"):
            texts = []
        assert vectors.shape == (len(texts), encoder.dim)
        for text, vector in zip(texts, vectors, strict=True):
            want = encoder.encode_texts([text])[0].numpy()
            np.testing.assert_allclose(vector, want, atol=1e-5)


def test_sentences_in_papers_are_means_over_their_tokens_in_the_whole_text(encoder, tiny_bert):
    from transformers import AutoModel

    found = [v for part in in_papers(encoder, iter(TEXTS), SETTINGS) for v in part]
    assert [len(v) for v in found[:5]] == [3, 1, 0, 1, 0]
    model = AutoModel.from_pretrained(tiny_bert).eval()
    title, own = TEXTS[0]
    ids = encoder.tokenizer.hf(f"{title}{encoder.tokenizer.sep_token}{' '.join(own)}")["input_ids"]
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    # [CLS] word1 word2 [SEP] word3 word4 word5 word6 word7 word8 [SEP]
    for vector, tokens in zip(found[0], ([4, 5], [6], [7, 8, 9]), strict=True):
        np.testing.assert_allclose(vector, states[tokens].mean(0), atol=1e-5)
    lone = next(alone(encoder, iter(TEXTS[:1]), SETTINGS))[0]
    assert np.abs(found[0] - lone).max() > 0.01  # the company of a sentence matters


@pytest.mark.parametrize("encode", [alone, in_papers])
def test_a_paper_of_which_the_tokenizer_leaves_nothing_has_no_sentence(encoder, encode):
    papers = [("\ufffd\ufffd", []), ("word1", []), ("?", []), ("\u200b", ["\ufffd"])]
    found = [len(v) for part in encode(encoder, iter(papers), SETTINGS) for v in part]
    assert found == [0, 1, 1, 0]


def test_vectors_that_are_not_finite_are_refused(encoder):
    with torch.no_grad():
        encoder.backbone.embeddings.LayerNorm.bias[0] = float("nan")
    for encode in (alone, in_papers):
        with pytest.raises(UserError, match="not finite"):
            list(encode(encoder, iter(TEXTS), SETTINGS))
