import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.evaluation.systems import Bm25, Model, RandomOrder, Search
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.prompted_models import PROMPTS, write_prompted

TEXTS = [
    ("Parallel sorting", "sorting networks sort in parallel"),
    ("Garbage", ["collection of cells", "and lists"]),
    ("Sorting lists", None),
    ("the of and", ""),
    ("sorting sorting zebra", ""),
]
STOP = {"the", "of", "and", "in"}


def words(text):
    title, body = text
    joined = f"{title} {body if isinstance(body, str) else ' '.join(body or [])}".lower()
    return [w for w in re.findall(r"\b\w\w+\b", joined) if w not in STOP]


def lucene_bm25(query, papers, k1=1.5, b=0.75):
    average = np.mean([len(p) for p in papers])
    scores = []
    for paper in papers:
        count, score = Counter(paper), 0.0
        for word in query:
            df = sum(word in p for p in papers)
            idf = math.log(1 + (len(papers) - df + 0.5) / (df + 0.5))
            tf = count[word]
            score += idf * tf / (tf + k1 * (1 - b + b * len(paper) / average))
        scores.append(score)
    return scores


def test_bm25_equals_its_equation():
    papers = np.arange(4)
    rows = list(Bm25().distances(Search(TEXTS, 5, np.array([4, 1, 3]), papers)))
    tokens = [words(t) for t in TEXTS]
    known = {w for p in papers for w in tokens[p]}
    for query, row in zip((4, 1, 3), rows, strict=True):
        asked = [w for w in tokens[query] if w in known]
        np.testing.assert_allclose(-row, lucene_bm25(asked, tokens[:4]), atol=1e-5)
    assert (rows[2] == 0).all()  # a query of stop words alone knows no difference


def test_bm25_over_papers_without_a_word():
    texts = [("the", ""), ("of", ""), ("a b", "")]
    rows = list(Bm25().distances(Search(texts, 3, np.array([2]), np.arange(3))))
    assert [row.tolist() for row in rows] == [[0.0, 0.0, 0.0]]


def test_bm25_without_its_library_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(UserError, match=r"sciembed_train\[bm25\]"):
        Bm25()


def test_chance_is_a_function_of_seed_and_query():
    def rows(seed, queries):
        return list(RandomOrder(seed).distances(Search([], 9, np.array(queries), np.arange(9))))

    np.testing.assert_array_equal(rows(0, [3, 5])[1], rows(0, [5])[0])
    assert (rows(0, [3])[0] != rows(1, [3])[0]).any()


def test_a_model_ranks_by_euclidean_distance(tiny_bert):
    model = Model(str(tiny_bert), EmbedSettings(device="cpu"), quiet=True)
    texts = [(f"word{i} word{i + 1}", "word3" if i % 2 else ["word4", "word5"]) for i in range(9)]
    papers = np.array([0, 2, 4, 5, 8])
    rows = list(model.distances(Search(iter(texts), 9, np.array([1, 5]), papers)))
    joined = [model.encoder.compose(*text) for text in texts]
    vectors = model.encoder.encode_texts(joined).double().numpy()
    for query, row in zip((1, 5), rows, strict=True):
        want = np.linalg.norm(vectors[papers] - vectors[query], axis=1)
        np.testing.assert_allclose(row, want, atol=1e-4)
    assert rows[1][3] == 0.0
    assert model.describe()["similarity"] == "euclidean"


def test_a_graph_ranks_as_torch_does_and_its_vectors_are_kept_apart(with_onnx, tmp_path):
    texts = [(f"word{i} word{i + 1}", "word3 " * i) for i in range(9)]
    search = Search(texts, 9, np.array([1, 5]), np.array([0, 2, 4, 5, 8]))
    rows, kept = {}, {}
    for backend in ("torch", "onnx", "torch"):
        settings = EmbedSettings(device="cpu", backend=backend)
        model = Model(str(with_onnx), settings, quiet=True, cache=tmp_path)
        rows[backend] = np.stack(list(model.distances(search)))
        kept[backend] = len(list(tmp_path.iterdir()))
    assert kept == {"torch": 2, "onnx": 2}
    np.testing.assert_allclose(rows["onnx"], rows["torch"], atol=1e-4)
    assert model.describe().get("backend") is None
    about = [json.loads(path.read_text()) for path in tmp_path.glob("*/about.json")]
    assert sorted(plan.get("backend", "torch") for plan in about) == ["onnx", "torch"]


@pytest.mark.parametrize(
    ("settings", "asked", "papers", "words"),
    [
        ({}, None, "passage", "query"),
        ({}, "none", "passage", None),
        ({}, "Clustering", "passage", "Clustering"),
        ({"prompt": "none"}, None, None, "query"),
        ({"prompt": "query"}, "passage", "query", "passage"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_searches_and_papers_have_prompts_of_their_own(
    tiny_bert, tmp_path, settings, asked, papers, words, kept
):
    folder = write_prompted(tiny_bert, tmp_path / "m")
    embed = EmbedSettings(device="cpu", **settings)
    cache = tmp_path / "cache" if kept else None
    model = Model(str(folder), embed, quiet=True, query_prompt=asked, cache=cache)
    texts = [("word4", "word5"), ("word6", None), (None, "word4 word6")]
    search = Search(texts, 3, np.array([2, 0]), np.array([0, 1]), in_words=range(2, 3))
    rows = list(model.distances(search))
    before = [PROMPTS.get(name or "", "") for name in (papers, papers, words)]
    composed = [
        model.encoder.compose(*text, prompt) for text, prompt in zip(texts, before, strict=True)
    ]
    vectors = model.encoder.encode_texts(composed).double()
    unit = torch.nn.functional.normalize(vectors)  # such a folder compares by cosine
    for query, row in zip((2, 0), rows, strict=True):
        np.testing.assert_allclose(row, (unit[:2] - unit[query]).norm(dim=1), atol=1e-3)
    described = model.describe()
    assert described.get("query_prompt", "") == before[2]
    assert described["input_format"].get("prompt", "") == before[0]


def test_prompts_that_a_model_has_not_are_refused(tiny_bert):
    for settings, asked in (({"prompt": "query"}, None), ({}, "query")):
        with pytest.raises(UserError, match=r"prompt is .query., but .* has no prompts"):
            Model(str(tiny_bert), EmbedSettings(device="cpu", **settings), query_prompt=asked)


@pytest.mark.parametrize("name", ["model", "cosine", "bm25", "random"])
def test_a_pool_has_the_distances_that_its_papers_have_among_all(tiny_bert, name):
    settings = EmbedSettings(device="cpu")
    system = {
        "model": lambda: Model(str(tiny_bert), settings, quiet=True),
        "cosine": lambda: Model(str(tiny_bert), settings, quiet=True, similarity="cosine"),
        "bm25": Bm25,
        "random": RandomOrder,
    }[name]()
    queries, papers = np.array([4, 0, 4]), np.array([3, 1, 0, 2])
    pools = [np.array([3, 0]), np.array([0, 1, 3]), np.array([2])]
    whole = list(system.distances(Search(TEXTS, 5, queries, papers)))
    parts = list(system.distances(Search(TEXTS, 5, queries, papers, pools)))
    for row, part, pool in zip(whole, parts, pools, strict=True):
        np.testing.assert_array_equal(part, row[pool])


def test_a_model_ranks_by_cosine_where_it_is_asked_to(tiny_bert):
    model = Model(str(tiny_bert), EmbedSettings(device="cpu"), quiet=True, similarity="cosine")
    texts = [(f"word{i}", "word3" if i % 2 else "word4 word5") for i in range(7)]
    texts.append(texts[2])  # the same vector at another place
    papers = np.arange(8)
    rows = list(model.distances(Search(texts, 8, np.array([1, 2]), papers)))
    joined = [model.encoder.compose(*text) for text in texts]
    vectors = model.encoder.encode_texts(joined).double().numpy()
    lengths = np.linalg.norm(vectors, axis=1)
    for query, row in zip((1, 2), rows, strict=True):
        cosine = vectors @ vectors[query] / (lengths * lengths[query])
        np.testing.assert_allclose(row, np.sqrt(np.maximum(2 - 2 * cosine, 0)), atol=1e-3)
        assert row[2] == row[7]
    assert rows[1][7] == 0.0
    assert model.describe()["similarity"] == "cosine"
    assert "cosine" in model.describe()["ranked_by"]


def test_a_model_ranks_by_what_its_folder_records(tiny_bert, tmp_path):
    encoder = Encoder.load(tiny_bert, pooling="mean")
    for name, record in (("old", {}), ("new", {"similarity": "cosine"})):
        encoder.save(tmp_path / name, record)
    settings = EmbedSettings(device="cpu")
    assert Model(str(tmp_path / "old"), settings).scoring.similarity == "euclidean"
    assert Model(str(tmp_path / "new"), settings).scoring.similarity == "cosine"
    assert (
        Model(str(tmp_path / "new"), settings, similarity="euclidean").scoring.similarity
        == "euclidean"
    )


def test_a_folder_whose_similarity_is_not_built_is_refused_unless_one_is_named(tiny_bert, tmp_path):
    Encoder.load(tiny_bert).save(tmp_path, {"similarity": "dot"})
    with pytest.raises(UserError, match=r"by dot.*--similarity"):
        Model(str(tmp_path), EmbedSettings(device="cpu"))
    Model(str(tmp_path), EmbedSettings(device="cpu"), similarity="cosine")


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_signs_rank_by_their_hamming_distance(tiny_bert, similarity):
    settings = EmbedSettings(device="cpu", pooling="mean")
    texts = [(f"word{17 * n} " * 8, None) for n in range(5)]
    exact = Model(str(tiny_bert), settings, quiet=True, similarity=similarity)
    signs = exact.vectors(iter(texts), 5, settings) > 0
    model = Model(str(tiny_bert), settings, quiet=True, similarity=similarity, dtype="binary")
    papers = np.arange(1, 5)
    (row,) = model.distances(Search(texts, 5, np.array([0]), papers))
    hamming = (signs[papers] != signs[0]).sum(1)
    # Of unit vectors the squares are a 32nd.
    wanted = np.sqrt(4 * hamming / (32 if similarity == "cosine" else 1))
    np.testing.assert_allclose(row, wanted, atol=1e-5)
    assert model.describe()["dtype"] == "binary"
    assert "dtype" not in exact.describe()
    assert len(set(hamming.tolist())) > 1


def test_the_ranges_of_int8_are_those_of_the_candidates(tiny_bert):
    settings = EmbedSettings(device="cpu", pooling="mean")
    texts = [(f"word{17 * n} " * 8, None) for n in range(6)]
    model = Model(str(tiny_bert), settings, quiet=True, dtype="int8")
    exact = model.vectors(iter(texts), 6, settings)
    papers = np.array([5, 1, 2])  # the last text asks, and is in no range
    (row,) = model.distances(Search(texts, 6, np.array([0]), papers))
    lowest, highest = exact[papers].min(0), exact[papers].max(0)
    step = (highest - lowest) / 255
    stored = np.clip(np.rint((exact - lowest) / step), 0, 255) * step + lowest
    wanted = np.linalg.norm(stored[papers] - stored[0], axis=1)
    np.testing.assert_allclose(row, wanted, atol=1e-4)
    # With ranges of all texts the query would not be cut to those of the candidates.
    cut = np.abs(stored[0] - exact[0]).max()
    assert cut > 10 * step.max()
