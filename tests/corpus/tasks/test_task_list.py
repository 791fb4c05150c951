import json

import pytest

from sciembed_train.corpus.tasks.task_list import read_tasks
from sciembed_train.errors import UserError
from tests.helpers.task_files import entry, write_tasks


def test_a_folder_gives_the_tasks_that_have_data_in_it_and_names_the_others(tmp_path):
    write_tasks(tmp_path, {"mesh": 1, "specter": 1, "s2and": 1})
    entries = [entry(kind) for kind in ("mesh", "specter", "s2and")]
    for one in entries:
        del one["data_files"]
        one["dataset"] = {"path": "allenai/scirepeval", "name": f"config_{one['name']}"}
    (tmp_path / "tasks_config.json").write_text(json.dumps(entries))
    (tmp_path / "specter.jsonl").rename(tmp_path / "specter_small.json")
    (tmp_path / "mesh.jsonl").rename(tmp_path / "config_mesh_train.jsonl.gz")
    (tmp_path / "s2and.jsonl").rename(tmp_path / "s2and_dev.jsonl")
    result = read_tasks(tmp_path)
    assert {t.name: t.sources["train"].place for t in result.tasks} == {
        "mesh": str(tmp_path / "config_mesh_train.jsonl.gz"),
        "specter": str(tmp_path / "specter_small.json"),
    }
    assert result.without_data == ("s2and",)
    assert "s2and" in result.notes[0]
    named = read_tasks(tmp_path / "tasks_config.json").tasks[0].sources["train"]
    assert (named.place, named.dataset, named.config) == ("allenai/scirepeval", True, "config_mesh")


def test_keys_that_are_not_read_are_noted(tmp_path):
    write_tasks(tmp_path, {"mesh": 1}, mesh={"colour": "red"})
    assert "`colour` is not read (mesh)" in read_tasks(tmp_path).notes[0]


def test_a_list_that_is_none_is_refused(tmp_path):
    path = tmp_path / "tasks_config.json"
    for text, message in (
        ("{", "tasks_config.json:1: this is not JSON"),
        ("[]", "names no task"),
        ("[1]", "no list of tasks"),
        ('[{"name": "a", "type": "ir"}]', "there is no data"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_tasks(path)
    with pytest.raises(UserError, match="no such file"):
        read_tasks(tmp_path / "other.json")
    path.unlink()
    with pytest.raises(UserError, match="holds no list of tasks"):
        read_tasks(tmp_path)


def test_two_tasks_of_a_name_and_a_folder_without_any_data_are_refused(tmp_path):
    write_tasks(tmp_path, {"mesh": 1})
    twice = json.dumps([entry("mesh"), entry("mesh")])
    (tmp_path / "tasks_config.json").write_text(twice)
    with pytest.raises(UserError, match="another task's too"):
        read_tasks(tmp_path)
    away = entry("specter") | {"data_files": None, "dataset": {"path": "a/b"}}
    (tmp_path / "tasks_config.json").write_text(json.dumps([away]))
    with pytest.raises(UserError, match="the data of not one of its 1 tasks"):
        read_tasks(tmp_path)
