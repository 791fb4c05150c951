import json

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.precomputed import MissingVectorsError, Precomputed
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.options import ScoreSettings
from tests.evaluation.test_trec_run import FOLDERS
from tests.helpers.benchmark_folders import write_searches
from tests.helpers.small_suite import write_suite
from tests.inference.test_vectors_by_id import write_shards


def write_vectors(path, vectors):
    rows = [{"paper_id": name, "embedding": list(map(float, v))} for name, v in vectors.items()]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def random_vectors(names, width=6, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=width).astype(np.float32) for name in names}


def papers_of(folder):
    path = next(iter([*folder.glob("*papers.jsonl"), *folder.glob("abstracts-*.jsonl")]))
    return path, [json.loads(line)["paper_id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("benchmark", "ending"),
    [
        ("csfcube", ".jsonl"),
        ("relish", ".parquet"),
        ("review", ".npy"),
        ("review", ""),  # a folder of shards
        ("cocitations", ".jsonl"),
    ],
)
def test_vectors_that_embed_wrote_score_as_their_model(tmp_path, tiny_bert, benchmark, ending):
    folder = FOLDERS[benchmark](tmp_path / "data", tiny_bert)
    papers, _ = papers_of(folder)
    st.embed(tiny_bert, papers, tmp_path / f"v{ending}", device="cpu")
    for similarity in (None, "cosine"):
        score = ScoreSettings(similarity=similarity)
        model = st.evaluate(tiny_bert, benchmark, folder, score=score)
        found = st.evaluate(
            None, benchmark, folder, embeddings=tmp_path / f"v{ending}", score=score
        )
        assert found.metrics == pytest.approx(model.metrics, abs=1e-6)
        assert found.per_query.keys() == model.per_query.keys()
        assert found.settings["similarity"] == (similarity or "euclidean")
        assert found.settings["dim"] == 32
        assert found.model == str(tmp_path / f"v{ending}")


def test_shards_are_compared_as_their_model_does_it(tmp_path):
    folder = write_shards(tmp_path / "v")
    assert Precomputed(folder).similarity == "cosine"
    assert Precomputed(folder, "euclidean").similarity == "euclidean"
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("cosine", "dot"))
    with pytest.raises(UserError, match=r"v compares its vectors by dot; .* with --similarity"):
        Precomputed(folder)


def test_citations_of_a_corpus_and_a_sample_of_it(tmp_path, tiny_bert):
    folder = FOLDERS["citations"](tmp_path / "data", tiny_bert)
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "papers.parquet").to_pylist()
    papers = tmp_path / "papers.jsonl"
    keys = ("paper_id", "title", "abstract")
    papers.write_text("".join(f"{json.dumps({k: r[k] for k in keys})}\n" for r in rows))
    st.embed(tiny_bert, papers, tmp_path / "v.npy", device="cpu")
    for sample in (None, 20):
        model = st.evaluate(tiny_bert, "citations", folder, sample=sample)
        found = st.evaluate(None, "citations", folder, embeddings=tmp_path / "v.npy", sample=sample)
        assert found.metrics == pytest.approx(model.metrics, abs=1e-6)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_a_ranking_is_that_of_the_distances_in_plain_loops(tmp_path, similarity):
    vectors = random_vectors("abcdef")
    system = Precomputed(write_vectors(tmp_path / "v.jsonl", vectors), similarity)
    search = Search(
        [], 6, np.array([0, 5]), np.arange(6), query_ids=["a", "f"], paper_ids=list("abcdef")
    )
    pooled = Search(
        [],
        6,
        np.array([0, 5]),
        np.arange(6),
        [np.array([1, 3]), np.array([0, 2, 4])],
        query_ids=["first/a", "second/f"],
        paper_ids=list("abcdef"),
        query_papers=["a", "f"],
    )
    scale = {n: 1 / np.linalg.norm(v) if similarity == "cosine" else 1 for n, v in vectors.items()}
    expected = [
        [np.linalg.norm(vectors[q] * scale[q] - vectors[p] * scale[p]) for p in "abcdef"]
        for q in "af"
    ]
    np.testing.assert_allclose(list(system.distances(search)), expected, atol=1e-6)
    first, second = system.distances(pooled)
    np.testing.assert_allclose(first, np.array(expected[0])[[1, 3]], atol=1e-6)
    np.testing.assert_allclose(second, np.array(expected[1])[[0, 2, 4]], atol=1e-6)


@pytest.fixture
def searches(tmp_path):
    """Papers p1 to p4; the queries 1 and 2 in words, 3 a paper."""
    folder = write_searches(tmp_path)
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    assert [query.get("paper_id") for query in queries if query["query_id"] == "3"] == ["p1"]
    return folder


def test_words_are_found_by_the_ids_of_queries(searches, tmp_path):
    vectors = random_vectors(["p1", "p2", "p3", "p4", "1", "2"])
    one = write_vectors(tmp_path / "one.jsonl", vectors)
    papers = write_vectors(tmp_path / "p.jsonl", {n: v for n, v in vectors.items() if n[0] == "p"})
    asking = {"1": vectors["1"], "2": vectors["2"], "3": vectors["p1"]}
    queries = write_vectors(tmp_path / "q.jsonl", asking)
    found = st.evaluate(None, "retrieval", searches, embeddings=one)
    apart = st.evaluate(None, "retrieval", searches, embeddings=papers, query_embeddings=queries)
    assert found.per_query == apart.per_query
    assert apart.settings["query_embeddings"] == str(queries)
    with pytest.raises(MissingVectorsError, match=r"p.jsonl: lacks 2 of 3 queries, such as 1; it"):
        st.evaluate(None, "retrieval", searches, embeddings=papers)
    del vectors["p3"]
    some = write_vectors(tmp_path / "some.jsonl", vectors)
    told = r"some.jsonl: lacks 1 of 4 papers, such as p3; it has 5 vectors, such as that of p1\."
    with pytest.raises(MissingVectorsError, match=told):
        st.evaluate(None, "retrieval", searches, embeddings=some)


def test_a_query_that_is_drawn_but_no_candidate_is_found_as_a_paper(searches, tmp_path):
    path = write_vectors(tmp_path / "v.jsonl", random_vectors(["p1", "p2", "p3", "p4", "1", "2"]))
    whole = st.evaluate(None, "retrieval", searches, embeddings=path)
    for seed in range(6):  # whatever is drawn
        found = st.evaluate(None, "retrieval", searches, embeddings=path, sample=3, seed=seed)
        assert found.per_query.keys() <= whole.per_query.keys()


@pytest.mark.parametrize("benchmark", ["title_abstract", "abstract_halves"])
def test_two_texts_of_a_paper_need_two_files(tmp_path, tiny_bert, benchmark):
    folder = FOLDERS["abstract_halves"](tmp_path / "data", tiny_bert)
    _, names = papers_of(folder)
    path = write_vectors(tmp_path / "v.jsonl", random_vectors(names))
    with pytest.raises(UserError, match=r"one vector for p0, .* \(20 of 20 queries are so\)"):
        st.evaluate(None, benchmark, folder, embeddings=path)
    other = write_vectors(tmp_path / "q.jsonl", random_vectors(names, seed=1))
    same = st.evaluate(None, benchmark, folder, embeddings=path, query_embeddings=path)
    assert same[f"{benchmark}/mrr"] == 1
    found = st.evaluate(None, benchmark, folder, embeddings=path, query_embeddings=other)
    assert found[f"{benchmark}/mrr"] < 0.5


def test_files_of_unlike_widths_are_refused(tmp_path):
    wide = write_vectors(tmp_path / "wide.jsonl", random_vectors("ab", 3))
    narrow = write_vectors(tmp_path / "narrow.jsonl", random_vectors("ab", 2))
    with pytest.raises(UserError, match=r"narrow.jsonl: holds vectors of width 2, and .* width 3"):
        Precomputed(wide, query_path=narrow)


def test_labels_and_records_are_found_by_their_ids(tmp_path):
    folder = write_suite(tmp_path / "suite") / "topics"
    _, names = papers_of(folder)
    labels = [line.split("\t") for line in (folder / "labels.tsv").read_text().splitlines()[1:]]
    kinds = sorted({label for _, label in labels})
    vectors = {name: np.eye(3)[kinds.index(label)] for name, label in labels}
    path = write_vectors(tmp_path / "v.jsonl", vectors)
    found = st.evaluate(None, "labels", folder, embeddings=path)
    assert found["labels/probe_accuracy"] == found["labels/v_measure"] == 1
    system = Precomputed(path)
    records = {names[2]: ("x",), names[0]: ("y",)}
    expected = np.array([vectors[names[2]], vectors[names[0]]], np.float32)
    np.testing.assert_array_equal(system.embed(records, "proximity"), expected)
    with pytest.raises(MissingVectorsError, match="lacks 1 of 1 texts, such as nobody"):
        system.embed({"nobody": ()}, "proximity")
    apart = Precomputed(path, query_path=write_vectors(tmp_path / "q.jsonl", {"q": [1, 1, 1]}))
    np.testing.assert_array_equal(apart.embed({"q": ()}, "adhoc_query"), np.ones((1, 3)))


def test_a_file_is_read_once_for_several_benchmarks(tmp_path):
    from sciembed_train.evaluation.evaluate_settings import EvaluateSettings

    path = write_vectors(tmp_path / "v.jsonl", random_vectors("ab"))
    systems = Systems()
    one = systems.system(EvaluateSettings("review", tmp_path, embeddings=path))
    assert systems.embedder(EvaluateSettings("labels", tmp_path, embeddings=path)) is one
    cosine = ScoreSettings(similarity="cosine")
    other = systems.system(EvaluateSettings("review", tmp_path, embeddings=path, score=cosine))
    assert other is not one
    assert other.similarity == "cosine"
