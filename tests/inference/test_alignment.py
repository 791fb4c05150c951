import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.alignment import (
    AlignSettings,
    alignment_folder,
    choose_contexts,
    read_alignment,
)
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.inference import alignment
from sciembed_train.inference.alignment import aligned
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.cocitations import CocitationSampling
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.training.recipe_corpus import with_alignment
from tests.helpers.plain_alignment import plain_alignment


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    """A corpus of papers in all forms, and of citing sentences, many of one pair."""
    folder = tmp_path_factory.mktemp("aligning")
    rng = np.random.default_rng(0)

    def sentence():
        text = " ".join(f"word{w}" for w in rng.integers(0, 200, rng.integers(2, 9)))
        return text.capitalize() + "."

    def letters():  # contexts that differ in their numbers alone are one
        return " ".join(rng.choice(list("abcdefghij"), 8))

    papers = []
    for i in range(24):
        sentences = [sentence() for _ in range(rng.integers(1, 6))]
        abstract = [" ".join(sentences), [*sentences, " "], None][i % 3 if i % 4 else 0]
        papers.append({"paper_id": f"p{i:02}", "title": sentence(), "abstract": abstract})
    contexts = [
        {
            "text": f"Of these {letters()}",
            "cited_ids": [f"p{n:02}" for n in rng.choice(24, 2, replace=False)],
            "citing_id": f"c{i}",
        }
        for i in range(40)
    ]
    contexts += [
        {"text": f"Both {letters()}", "cited_ids": ["p00", "p01"], "citing_id": f"d{i}"}
        for i in range(30)
    ]
    pairs = [{"paper_a": f"p{i:02}", "paper_b": f"p{i + 1:02}"} for i in range(0, 20, 2)]
    settings = PrepareSettings(
        papers=write_jsonl(folder / "papers.jsonl", papers),
        contexts=write_jsonl(folder / "contexts.jsonl", contexts),
        cocitations=write_jsonl(folder / "pairs.jsonl", pairs),
        dev_ids=_lines(folder / "dev.txt", ["p20", "p21", "p22", "p23"]),
        test_share=0.0,
        to=folder / "corpus",
        tokenizer=tiny_bert,
        sentence_tokens=True,
    )
    corpus = prepare(settings)
    encoder = Encoder.load(tiny_bert)
    return SimpleNamespace(folder=folder, corpus=corpus, model=tiny_bert, encoder=encoder)


def _lines(path, ids):
    path.write_text("\n".join(ids) + "\n")
    return path


@pytest.fixture
def own(place, tmp_path):
    """A copy of the corpus that a test may change."""
    shutil.copytree(place.corpus.folder, tmp_path / "c")
    return Corpus.open(tmp_path / "c")


def vectors(place, texts):
    composed = [place.encoder.compose(text, None) for text in texts]
    return place.encoder.encode_texts(composed).numpy()


@pytest.mark.parametrize("similarity", ["recorded", "cosine", "dot"])
def test_sentences_are_aligned_as_plain_loops_align_them(place, own, similarity):
    settings = AlignSettings(similarity, contexts=3)
    name = aligned(own, place.model, settings)
    texts = pq.read_table(own.folder / "contexts.parquet").column("text").to_pylist()
    of_contexts = vectors(place, texts)
    of_papers = [vectors(place, s or [title]) for title, s in own.sentences()]
    by = "euclidean" if similarity == "recorded" else similarity
    without = 0
    for split in ("train", "dev"):
        found = read_alignment(own, name, split)
        chosen = choose_contexts(own, split, settings)
        assert len(found) == len(own.cocitations(split)) > 0
        for row, (a, b) in enumerate(own.cocitations(split).tolist()):
            mine = of_contexts[
                chosen.contexts[chosen.range_starts[row] : chosen.range_starts[row + 1]]
            ]
            without += not len(mine)
            want = plain_alignment(of_papers[a], of_papers[b], mine, by)
            assert found[row].tolist() == want, (split, row)
    assert without > 0
    info = json.loads((alignment_folder(own, name) / "alignment.json").read_text())
    told = info["counts"]
    assert sum(c["pairs"] - c["with_contexts"] for c in told.values()) == without
    assert info["similarity"] == by
    assert not (alignment_folder(own, name) / "work").exists()


def test_the_contexts_of_a_pair_are_a_draw_of_the_seed_and_the_pair(place):
    rows = pq.read_table(place.corpus.folder / "cocitations" / "train.parquet").to_pylist()
    found = {}
    for seed in (0, 1):
        chosen = choose_contexts(place.corpus, "train", AlignSettings(contexts=4, seed=seed))
        again = choose_contexts(place.corpus, "train", AlignSettings(contexts=4, seed=seed))
        assert np.array_equal(chosen.contexts, again.contexts)
        for i, row in enumerate(rows):
            mine = chosen.contexts[chosen.range_starts[i] : chosen.range_starts[i + 1]].tolist()
            assert set(mine) <= set(row["contexts"])
            assert len(mine) == len(set(mine)) == min(4, len(row["contexts"]))
            found.setdefault((row["a"], row["b"]), []).append(mine)
    assert max(len(row["contexts"]) for row in rows) >= 30
    assert any(one != other for one, other in found.values())
    # Only a pair that has more than 4 is drawn for.
    assert [pair for pair, (one, other) in found.items() if one != other] == [(0, 1)]


def test_numbers_of_aligned_sentences_are_those_of_the_tokens(place, own):
    """A sentence's text, as the encoder of sentences read it, is what its tokens say."""
    tokenizer = TextTokenizer.load(place.model)
    reading = TokenizationSpec(tokenizer, InputFormat(), 512, seed=0)
    name = aligned(own, place.model)
    examples = SentencePairSampling(align="abstract", aligned_by=name).open(own, reading, None)
    texts = list(own.sentences())
    batch = examples.batch(np.arange(examples.train), 0, 0)
    found = read_alignment(own, name, "train")
    rows = batch.rows.ids.split(batch.rows.lengths.tolist())
    range_starts = np.cumsum(batch.sentences.counts.numpy()) - batch.sentences.counts.numpy()
    checked = 0
    for pair, (papers, numbers) in enumerate(zip(examples.pairs, found[:, 2:], strict=True)):
        said = set()
        for side, row in enumerate((batch.anchor[pair], batch.positive[pair])):
            place_ = range_starts[row] + int(batch.aligned[pair, side])
            start, size = (
                int(x[place_]) for x in (batch.sentences.starts, batch.sentences.lengths)
            )
            said.add(tuple(rows[row][start : start + size].tolist()))
        want = {
            tuple(tokenizer.encode([(texts[p][1] or [texts[p][0]])[n]])[0])
            for p, n in zip(papers, numbers, strict=True)
        }
        assert said == want
        checked += 1
    assert checked == examples.train > 10


def test_an_alignment_is_made_once_and_named_by_model_and_settings(place, own, monkeypatch):
    name = aligned(own, place.model)
    monkeypatch.setattr(alignment, "_write_alignment", lambda *_: pytest.fail("made again"))
    assert aligned(own, place.model) == name
    assert aligned(own, name) == name  # a name for a model
    sampling = SentencePairSampling(align="context", aligned_by=str(place.model))
    assert with_alignment(sampling, own, Progress(quiet=True)).aligned_by == name
    with pytest.raises(UserError, match=r"data\.sampling\.aligned_by: .*there is no such folder"):
        with_alignment(SentencePairSampling("derangement", "context", "gone"), own, Progress(True))
    for other in (SentencePairSampling(), CocitationSampling()):
        assert with_alignment(other, own, Progress(quiet=True)) is other
    monkeypatch.undo()
    assert aligned(own, place.model, AlignSettings(seed=1)) != name
    assert aligned(own, place.model, AlignSettings("dot"), "mine") == "mine"
    with pytest.raises(UserError, match=r"mine was made by another model or with other settings"):
        aligned(own, place.model, AlignSettings("cosine"), "mine")
    with pytest.raises(UserError, match="expected letters"):
        aligned(own, place.model, name="../mine")


def test_of_several_who_ask_at_once_one_makes_it(place, own, monkeypatch):
    made = []
    make = alignment._write_alignment
    monkeypatch.setattr(
        alignment, "_write_alignment", lambda *given: (made.append(1), make(*given))
    )
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: aligned(own, place.model), range(4)))
    assert len(set(names)) == len(made) == 1


def test_a_model_with_other_weights_makes_another_alignment(place, own, tmp_path):
    shutil.copytree(place.model, tmp_path / "m")
    name = aligned(own, tmp_path / "m")
    assert name == aligned(own, place.model)  # wherever it lies
    from safetensors.torch import load_file, save_file

    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    weights["embeddings.word_embeddings.weight"] += 0.01
    save_file(weights, path, {"format": "pt"})
    assert aligned(own, tmp_path / "m") != name


def test_the_command_tells_what_it_did_and_refuses_what_it_cannot(place, own, tmp_path, capsys):
    words = ["align", str(own.folder), "--model", str(place.model)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["train"]["pairs"] == len(own.cocitations("train"))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"train {told['counts']['train']['pairs']} ({told['counts']['train']['with_contexts']} "
    assert "pairs aligned by euclidean" in out
    model = shutil.copytree(place.model, tmp_path / "m")
    record = {"version": 1, "pooling": "sentences", "max_length": 64, "similarity": "best_match"}
    record["input_format"] = InputFormat().as_dict()
    (model / "sciembed.json").write_text(json.dumps(record))
    for more, said in (
        (["--contexts", "0"], "--contexts must be 1 or more"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--model", str(model)], "gives vectors of sentences in their papers"),
        (["--model", str(tmp_path / "nothing")], "nothing"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    shutil.rmtree(own.folder / "cocitations")
    assert main(["align", str(own.folder), "--model", str(place.model), "--seed", "4"]) == 2
    assert "holds no co-cited papers" in capsys.readouterr().err


def test_without_a_citing_sentence_the_abstracts_are_aligned_and_that_is_told(
    place, tmp_path, capsys
):
    corpus = prepare(
        PrepareSettings(
            papers=place.folder / "papers.jsonl",
            cocitations=place.folder / "pairs.jsonl",
            to=tmp_path / "c",
        )
    )
    assert not corpus.has_sentences  # made by the way
    assert main(["align", str(tmp_path / "c"), "--model", str(place.model), "--name", "x"]) == 0
    assert "no pair has a citing sentence" in capsys.readouterr().out
    asked = SentencePairSampling(align="context", aligned_by=str(place.model))
    with pytest.raises(UserError, match="no citing sentence of any of its"):
        with_alignment(asked, corpus, Progress(quiet=True))
    assert len(list((tmp_path / "c" / "alignments").glob("*/"))) == 1  # nothing was encoded
    found = read_alignment(corpus, "x", "train")
    assert (found[:, :2] == -1).all()
    assert (found[:, 2:] >= 0).all()


def test_tables_that_do_not_fit_the_pairs_are_refused(place, own):
    settings = AlignSettings(seed=9)
    path = own.folder / "cocitations" / "train.parquet"
    table = pq.read_table(path)
    contexts = (own.folder / "contexts.parquet").read_bytes()
    for broken, said in ((table.slice(0, 5), "holds 5 pairs"), (table.slice(3), "holds other")):
        pq.write_table(broken, path)
        with pytest.raises(UserError, match=said):
            aligned(own, place.model, settings)
    pq.write_table(table, path)
    pq.write_table(
        pq.read_table(own.folder / "contexts.parquet").slice(4), own.folder / "c.parquet"
    )
    (own.folder / "c.parquet").replace(own.folder / "contexts.parquet")
    with pytest.raises(UserError, match=r"contexts of the pairs\. Remove the corpus"):
        aligned(own, place.model, settings)
    (own.folder / "contexts.parquet").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        aligned(own, place.model, settings)
    (own.folder / "contexts.parquet").write_bytes(contexts)
    (own.folder / "cocitations" / "train.parquet").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        aligned(own, place.model, settings)
    left = [p.name for p in (own.folder / "alignments").iterdir() if not p.name.endswith(".lock")]
    assert left == []
