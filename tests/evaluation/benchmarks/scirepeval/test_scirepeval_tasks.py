import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_tasks import FewShot, read_tasks
from tests.helpers.small_scirepeval import write_tasks

HUB = {
    "name": "Fields of study",
    "type": "classification",
    "data": {
        "meta": {"name": "allenai/scirepeval", "config": "fos"},
        "test": {"name": "allenai/scirepeval_test", "config": "fos"},
    },
    "metrics": ["f1_macro"],
    "few_shot": [{"sample_size": 10, "iterations": 50}, {"sample_size": 5, "iterations": 100}],
    "multi_label": True,
}
LOCAL = {
    "name": "Search",
    "type": "adhoc_search",
    "data": {"meta": "search/meta.jsonl", "test": "search", "simple_format": True},
    "fields": ["title", "abstract", "venue", "year"],
    "embeddings": {"save": "anything.jsonl"},
    "metrics": ["ndcg"],
    "batch_size": 4,
}


def test_published_entries_are_read(tmp_path):
    write_tasks(tmp_path, HUB, LOCAL)
    fos, search = read_tasks(tmp_path)
    assert fos.documents == "allenai/scirepeval:fos@evaluation"
    assert fos.labels == "allenai/scirepeval_test:fos"
    assert fos.few_shot == (FewShot(10, 50), FewShot(5, 100))
    assert (fos.multi_label, fos.in_train, fos.fields) == (True, True, ("title", "abstract"))
    assert search.documents == str(tmp_path / "search/meta.jsonl")
    assert search.labels == str(tmp_path / "search")
    assert search.fields == ("title", "abstract", "venue", "year")
    assert search.metric_names == ("ndcg_log2",)


def test_tasks_are_chosen_by_name_or_type(tmp_path):
    write_tasks(tmp_path, HUB, LOCAL, {**LOCAL, "name": "TREC-CoVID"})
    place = tmp_path / "scirepeval_tasks.jsonl"
    assert [task.name for task in read_tasks(place, ["Fields of study"])] == ["Fields of study"]
    found = [task.name for task in read_tasks(place, ["adhoc_search"])]
    assert found == ["Search", "TREC-CoVID"]
    with pytest.raises(UserError, match="has no task 'MeSH'; it has 'Fields of study', 'Search'"):
        read_tasks(place, ["Search", "MeSH"])


def test_a_task_of_ones_own_may_say_that_it_was_trained_on(tmp_path):
    write_tasks(tmp_path, {**LOCAL, "name": "ours"}, {**LOCAL, "name": "mine", "in_train": True})
    assert [task.in_train for task in read_tasks(tmp_path)] == [False, True]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": ""}, ":1: `name` is the text ''"),
        ({"type": "ir"}, ":1: task 'Search': `type` is the text 'ir'; it is one of classif"),
        ({"data": {"test": "x"}}, "`data` is an object with 'test'; expected .* meta and test"),
        ({"data": {"meta": "a.jsonl"}}, "`data` has no test, the folder of the labels"),
        ({"data": {"meta": 3, "test": "x"}}, "`data.meta` is the number 3"),
        ({"metrics": []}, "`metrics` names none"),
        ({"metrics": ["f1"]}, "task 'Search': 'f1' is no metric of a ranking"),
        ({"fields": "title"}, "`fields` is the text 'title'; expected a list of names"),
        ({"multi_label": "yes"}, "`multi_label` is the text 'yes'; expected true or false"),
        ({"few_shot": [{"sample_size": 3, "iterations": 2}]}, "the type is adhoc_search"),
        (
            {"type": "classification", "metrics": ["f1"], "few_shot": [{"sample_size": 0}]},
            "`few_shot` has an object with 'sample_size'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path, change, told):
    write_tasks(tmp_path, {**LOCAL, **change})
    with pytest.raises(UserError, match=told):
        read_tasks(tmp_path)


def test_a_task_is_given_once(tmp_path):
    write_tasks(tmp_path, LOCAL, LOCAL)
    with pytest.raises(UserError, match=":2: the task 'Search' was given before"):
        read_tasks(tmp_path)


def test_a_folder_without_a_list_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"scirepeval_tasks.jsonl: there is no such file"):
        read_tasks(tmp_path)
    (tmp_path / "scirepeval_tasks.jsonl").write_text("\n")
    with pytest.raises(UserError, match="names no task"):
        read_tasks(tmp_path)
