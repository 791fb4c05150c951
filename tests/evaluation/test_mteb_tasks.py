import json

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.evaluation.mteb_tasks import tasks_of, tasks_of_suite
from sciembed_train.inference.options import ScoreSettings
from tests.evaluation.test_trec_run import FOLDERS
from tests.helpers.benchmark_folders import write_searches
from tests.helpers.small_suite import write_suite

# What its libraries emit.
pytestmark = pytest.mark.filterwarnings("ignore")
COSINE = ScoreSettings(similarity="cosine")


@pytest.fixture(scope="module")
def mteb():
    return pytest.importorskip("mteb", reason="mteb is not installed")


@pytest.fixture(scope="module")
def exported(tiny_bert, tmp_path_factory):
    """A model for sentence-transformers that joins title and abstract by a space."""
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.text.input_format import InputFormat

    folder = tmp_path_factory.mktemp("export") / "model"
    encoder = Encoder.load(tiny_bert, pooling="mean", input_format=InputFormat("space"))
    encoder.save(folder, {"similarity": "cosine"})
    return folder


@pytest.fixture(scope="module")
def model(mteb, exported):
    transformers = pytest.importorskip("sentence_transformers")
    return transformers.SentenceTransformer(str(exported), device="cpu")


def scores_of(mteb, model, task):
    found = mteb.evaluate(
        model, task, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 8}
    )
    (result,) = found.task_results
    ((scores,),) = result.scores.values()
    return scores


SHARED = {
    "retrieval": {"ndcg10_log2": "ndcg_at_10", "map_grade1": "map_at_1000"},
    "citations": {"ndcg10_log2": "ndcg_at_10", "map": "map_at_1000", "recall10": "recall_at_10"},
    "review": {"map": "map_at_1000"},
    "cocitations": {"ndcg10_log2": "ndcg_at_10"},
    "abstract_halves": {"ndcg10_log2": "ndcg_at_10", "map": "map_at_1000"},
    "relish": {"ndcg20_log2": "ndcg_at_20"},
}


@pytest.mark.parametrize("benchmark", SHARED)
def test_mteb_finds_our_scores(mteb, model, exported, tmp_path, tiny_bert, benchmark):
    folder = FOLDERS[benchmark](tmp_path / "data", tiny_bert)
    ours = st.evaluate(exported, benchmark, folder, score=COSINE)
    (task,) = tasks_of(benchmark, folder)
    assert task.metadata.type == ("Reranking" if benchmark == "relish" else "Retrieval")
    theirs = scores_of(mteb, model, task)
    for own, name in SHARED[benchmark].items():
        assert ours[f"{benchmark}/{own}"] == pytest.approx(theirs[name], abs=1e-5), own
    assert theirs["main_score"] == theirs["ndcg_at_10"]


def test_pools_of_csfcube_are_reranked_by_facet(mteb, model, exported, tmp_path, tiny_bert):
    folder = FOLDERS["csfcube"](tmp_path / "data", tiny_bert)
    ours = st.evaluate(exported, "csfcube", folder, score=COSINE)
    (task,) = tasks_of("csfcube", folder)
    task.load_data()
    data = task.dataset["default"]["test"]
    assert set(data["queries"]["id"]) == set(data["top_ranked"]) == ours.per_query.keys()
    theirs = scores_of(mteb, model, task)
    mean = np.mean([row["ndcg20_log2"] for row in ours.per_query.values()])
    assert theirs["ndcg_at_20"] == pytest.approx(mean, abs=1e-5)


def test_words_and_papers_of_the_same_id_are_two_texts(mteb, tmp_path):
    """Else mteb takes the paper out of the ranking of the words, as if it were the query."""
    folder = write_searches(tmp_path)
    papers = [json.loads(line) for line in (folder / "papers.jsonl").read_text().splitlines()]
    for row in papers:
        row["paper_id"] = row["paper_id"].removeprefix("p")
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)))
    for name in ("qrels.tsv", "queries.jsonl"):
        (folder / name).write_text(
            (folder / name).read_text().replace("p", "").replace("aer", "paper")
        )
    (task,) = tasks_of("retrieval", folder)
    task.load_data()
    data = task.dataset["default"]["test"]
    assert data["queries"]["id"] == ["query 1", "query 2", "1"]  # the third is the paper 1
    assert set(data["corpus"]["id"]) == {"1", "2", "3", "4"}
    assert data["relevant_docs"]["query 1"] == {"1": 2, "3": 1, "2": 0}


def test_labels_are_classified_and_clustered(mteb, model, tmp_path):
    folder = write_suite(tmp_path / "suite") / "topics"
    tasks = tasks_of("labels", folder, "my/topics")
    names = [task.metadata.name for task in tasks]
    assert names == ["my-topics-classification", "my-topics-clustering"]
    tasks[0].load_data()
    train, test = (tasks[0].dataset[split] for split in ("train", "test"))
    assert not set(train["text"]) & set(test["text"])
    assert sorted(train["label"]) == sorted(test["label"]) == sorted([0, 1, 2] * 5)
    tasks[0].unload_data()
    found = [scores_of(mteb, model, task) for task in tasks]
    for scores, name in zip(found, ("accuracy", "v_measure"), strict=True):
        assert scores["main_score"] == scores[name]
        assert 0 < scores[name] <= 1
    assert found[0]["accuracy"] > 0.5  # a third of the papers has each label's word


def test_a_suite_gives_the_tasks_of_its_benchmarks(mteb, tmp_path):
    suite = write_suite(tmp_path / "suite")
    (suite / "plain" / "papers.jsonl").unlink()
    names = [task.metadata.name for task in tasks_of_suite(suite)]
    assert names == [
        "mine-citations",
        "reviews-one-review",
        "topics-labels-classification",
        "topics-labels-clustering",
    ]


def test_other_data_or_texts_are_another_revision(mteb, tmp_path):
    folder = write_suite(tmp_path / "suite") / "mine"

    def revision(**settings):
        (task,) = tasks_of("citations", folder, **settings)
        return task.metadata.revision

    before = revision()
    assert revision() == before
    assert revision(separator="[SEP]") != before
    assert revision(queries=5) != before
    with (folder / "papers.jsonl").open("a") as file:
        file.write(json.dumps({"paper_id": "new", "title": "New", "abstract": "x"}) + "\n")
    assert revision() != before


def test_the_separator_stands_between_title_and_abstract(mteb, tmp_path):
    folder = write_suite(tmp_path / "suite") / "mine"
    (task,) = tasks_of("citations", folder, separator="[SEP]")
    task.load_data()
    assert task.dataset["default"]["test"]["corpus"]["text"][0].startswith(
        "On the graph number 0[SEP]We study"
    )
    task.unload_data()
    task.load_data()  # again
    assert len(task.dataset["default"]["test"]["corpus"]) == 30


def test_benchmarks_of_several_tasks_are_refused(mteb, tmp_path):
    with pytest.raises(UserError, match="scidocs has several tasks"):
        tasks_of("scidocs", tmp_path)
