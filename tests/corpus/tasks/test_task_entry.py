import pytest

from sciembed_train.corpus.tasks.task_list import read_tasks
from sciembed_train.errors import UserError
from tests.helpers.task_files import EIGHT, write_lines, write_tasks


def message_on(folder, **values):
    """The message on a list whose one task has these values."""
    write_tasks(folder, {"mesh": 1}, mesh=values)
    with pytest.raises(UserError) as error:
        read_tasks(folder / "tasks_config.json")
    return str(error.value)


def test_all_eight_published_tasks_are_read(tmp_path):
    write_tasks(tmp_path, dict.fromkeys(EIGHT, 2))
    result = {task.name: task for task in read_tasks(tmp_path).tasks}
    assert tuple(result) == EIGHT
    formats = {name: (task.format, task.query_format) for name, task in result.items()}
    near = ("proximity", "proximity")
    assert formats == {
        **dict.fromkeys(("cite_pred", "year_pred"), ("regression", "regression")),
        **dict.fromkeys(("mesh", "fos"), ("classification", "classification")),
        "search": ("proximity", "adhoc_query"),
        **dict.fromkeys(("s2and", "cite_context", "specter"), near),
    }
    assert result["search"].fields == ("title", "abstract", "venue", "year")
    assert result["fos"].multi_label
    assert not result["mesh"].multi_label
    assert result["mesh"].labels == ("biology", "physics", "history")
    assert result["cite_pred"].labels_field == "log_citations"


def test_the_same_in_yaml_with_formats_by_name_and_labels_in_place(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{}])
    text = """
    - name: mine
      type: classification
      data_files: {train: a.jsonl}
      labels: [yes, no]
      labels_field: kind
      ctrl_token: classification
      sample_size: {train: 7}
    - {name: pairs, type: ir, data_files: {train: a.jsonl}}
    """
    (tmp_path / "tasks.yaml").write_text(text.replace("[yes, no]", '["yes", "no"]'))
    mine, pairs = read_tasks(tmp_path / "tasks.yaml").tasks
    assert (mine.labels, mine.labels_field, mine.format) == (("yes", "no"), "kind", mine.type)
    assert mine.sample_size == {"train": 7, "dev": -1}
    assert (pairs.format, pairs.query_format, pairs.labels_field) == (*["proximity"] * 2, "score")


def test_label_files_are_found_from_the_folder_above_on_as_in_the_published_list(tmp_path):
    folder = write_tasks(
        tmp_path / "sample_data", {"mesh": 1}, mesh={"labels": "sample_data/l.txt"}
    )
    (folder / "l.txt").write_bytes("\ufeffOne\r\nTwo\r\n".encode())
    assert read_tasks(folder).tasks[0].labels == ("One", "Two")


@pytest.mark.parametrize(
    ("values", "report_text"),
    [
        ({"labels": None}, "no `labels`"),
        ({"labels": "gone.txt"}, "no label file gone.txt"),
        ({"labels": ["one"]}, "names 1 classes"),
        ({"labels": ["a", "b", "a"]}, "names the class 'a' twice"),
        ({"type": "ranking"}, "`type` is the text 'ranking'"),
        ({"type": "regression", "multi_label": True}, "`multi_label` is for a classification"),
        ({"multi_label": True, "contrastive": True}, "`contrastive` is for texts of one class"),
        ({"ctrl_token": "[XYZ]"}, "`ctrl_token` is the text '[XYZ]'; it is one of [CLF]"),
        ({"ctrl_token": {"query": "[QRY]", "candidates": "[PRX]"}}, "has no queries"),
        ({"sample_size": 0}, "`sample_size` of train is the number 0; expected 1 or more"),
        ({"sample_size": {"train": 2.5}}, "`sample_size` of train is the number 2.5"),
        ({"sample_size": {"test": 5}}, "unknown key 'test'"),
        ({"input_fields": []}, "one name or more"),
        ({"data_files": {"train": "gone.jsonl"}}, "gone.jsonl: there is no such file"),
        ({"data_files": {"dev": "mesh.jsonl"}}, "no file of train"),
        ({"data_files": None}, "there is no data"),
        ({"dataset": {"path": "x/y"}}, "`data_files` and `dataset` are both given"),
        ({"name": "a/b"}, "may hold no /"),
        ({"name": None}, "task 1 has no `name`"),
    ],
)
def test_a_wrong_value_is_reported_with_file_and_task(tmp_path, values, report_text):
    message = message_on(tmp_path, **values)
    assert report_text in message
    assert str(tmp_path / "tasks_config.json") in message
    assert values.get("name", "mesh") is None or "task" in message
