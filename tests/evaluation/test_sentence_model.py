import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.losses import transport as moving
from sciembed_train.losses.transport import TransportSettings

TEXTS = [
    ("word1 word2", ["word3 word4", "word5", "word6 word7 word8"]),
    ("word9 word10", None),
    ("word11", ["word5", "word12 word13"]),
    ("word14", "Word15 word3 word4. Word16 word17."),
    ("word18", ["word19 word20", "word21", "word22", "word23 word5"]),
    ("", ""),
]
SENTENCES = [
    ["word3 word4", "word5", "word6 word7 word8"],
    [],
    ["word5", "word12 word13"],
    ["Word15 word3 word4.", "Word16 word17."],
    ["word19 word20", "word21", "word22", "word23 word5"],
]
ASKED = {
    "sentences": ScoreSettings("sentences"),
    "cosine": ScoreSettings("sentences", similarity="cosine"),
    "best_match": ScoreSettings("best_match"),
    "transport": ScoreSettings("transport", temperature=2.0),
}


def model(folder, scorer, **settings):
    return SentenceModel(str(folder), EmbedSettings(device="cpu", **settings), True, ASKED[scorer])


def vectors_of(encoder, scorer, number):
    """A text's sentence vectors, encoded by themselves, in float64."""
    title, own = TEXTS[number][0], SENTENCES[number]
    if scorer in ("sentences", "cosine"):
        found = encoder.encode_texts(own or [title]).double()
        return found / found.norm(dim=1, keepdim=True) if scorer == "cosine" else found
    return encoder.encode_sentences([(title, own)])[0].double()


def distance(a, b, scorer):
    if scorer != "transport":
        return min(float((x - y).norm()) for x in a for y in b)
    a_there, b_there = (torch.ones(1, len(x), dtype=torch.bool) for x in (a, b))
    settings = TransportSettings(2.0)
    return float(moving.transport(a[None], b[None], a_there, b_there, settings).cost)


@pytest.mark.parametrize("scorer", ASKED)
def test_distances_equal_a_loop_over_queries_and_papers(tiny_bert, scorer):
    system = model(tiny_bert, scorer)
    queries, papers = np.array([0, 3]), np.array([4, 1, 2, 5])
    rows = list(system.distances(Search(iter(TEXTS), 6, queries, papers)))
    own = [vectors_of(system.encoder, scorer, n) for n in range(5)]
    for query, row in zip(queries, rows, strict=True):
        want = [distance(own[query], own[p], scorer) for p in (4, 1, 2)]
        np.testing.assert_allclose(row[:3], want, atol=2e-4)
        assert row[3] == np.inf  # there is nothing to compare


@pytest.mark.parametrize("scorer", ASKED)
def test_only_the_sentences_that_ask_are_compared_and_only_with_the_pool(tiny_bert, scorer):
    system = model(tiny_bert, scorer)
    pools = [np.array([2, 1]), np.array([0, 1, 2]), np.array([2])]
    search = Search(TEXTS, 6, np.array([0, 4, 0]), np.array([3, 1, 2]), pools, [[0, 2], [3], None])
    rows = list(system.distances(search))
    own = [vectors_of(system.encoder, scorer, n) for n in range(5)]
    wanted = [(own[0][[0, 2]], (2, 1)), (own[4][[3]], (3, 1, 2)), (own[0], (2,))]
    for (asking, pool), row in zip(wanted, rows, strict=True):
        want = [distance(asking, own[p], scorer) for p in pool]
        np.testing.assert_allclose(row, want, atol=2e-4)
    if scorer == "sentences":
        assert rows[0][0] > rows[2][0] == 0  # "word5", which both papers say, did not ask
    assert system.notes == []


def test_the_scorers_differ(tiny_bert):
    rows = {}
    for scorer in ASKED:
        search = Search(TEXTS, 6, np.array([0]), np.arange(6))
        rows[scorer] = next(iter(model(tiny_bert, scorer).distances(search)))[1:5]
    for one in ASKED:
        for other in ASKED:
            assert one == other or np.abs(rows[one] - rows[other]).max() > 0.01, (one, other)
    assert rows["sentences"][1] == 0.0  # the same sentence, though its paper is another
    assert rows["best_match"][1] > 0.01


@pytest.mark.parametrize("scorer", ASKED)
def test_an_encoder_that_gives_one_vector_to_all_knows_no_difference(tiny_bert, tmp_path, scorer):
    encoder = Encoder.load(tiny_bert, pooling="mean")
    with torch.no_grad():
        last = encoder.backbone.encoder.layer[-1].output.LayerNorm
        last.weight.zero_()
        last.bias.fill_(0.7)
    encoder.save(tmp_path)
    rows = model(tmp_path, scorer).distances(Search(TEXTS, 6, np.array([0, 4]), np.arange(6)))
    for row in rows:
        assert len(set(row[:5].tolist())) == 1


def test_sentences_beyond_the_models_length_cannot_ask(tiny_bert):
    # [CLS] word1 word2 [SEP] word3 word4 word5 [SEP]
    system = model(tiny_bert, "best_match", max_length=8)
    pools = [np.array([1, 2, 3, 4])] * 2
    search = Search(TEXTS, 6, np.array([0, 0]), np.arange(6), pools, [[2], [1, 2]])
    cut, partly = list(system.distances(search))
    assert [n.split(" have")[0] for n in system.notes] == ["1 queries"]
    whole = Search(TEXTS, 6, np.array([0, 0]), np.arange(6), pools, [None, [1]])
    want, part = list(system.distances(whole))
    np.testing.assert_array_equal(cut, want)
    np.testing.assert_array_equal(partly, part)
    assert system.notes == []


@pytest.mark.parametrize("scorer", ["sentences", "best_match"])
def test_a_sentence_without_a_token_moves_no_other(tiny_bert, scorer):
    system = model(tiny_bert, scorer)
    texts = [*TEXTS[:5], ("word1 word2", ["word3 word4", "\x01", "word5", "word6 word7 word8"])]
    pools = [np.array([2, 4])] * 2
    search = Search(texts, 6, np.array([0, 5]), np.arange(6), pools, [[1], [1, 2]])
    one, other = list(system.distances(search))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_query_in_its_own_pool_is_an_error():
    with pytest.raises(ValueError, match="its own pool"):
        Search(TEXTS, 6, np.array([2]), np.array([3, 2]), [np.array([0, 1])])


def test_documents_are_for_another_class(tiny_bert):
    with pytest.raises(ValueError, match="documents"):
        SentenceModel(str(tiny_bert))


def test_what_it_ranks_by_is_described(tiny_bert):
    found = model(tiny_bert, "transport").describe()
    assert found["scorer"] == "transport"
    assert found["transport"] == {"temperature": 2.0, "blur": 0.05, "scaling": 0.9}
    assert model(tiny_bert, "cosine").describe()["similarity"] == "cosine"
