import pytest

from sciembed_train.corpus.tasks.task_list import read_tasks
from sciembed_train.corpus.tasks.task_sources import open_records, source_files
from sciembed_train.errors import UserError
from tests.helpers.task_files import entry, records, write_lines, write_tasks

CONFIGS = """---
configs:
- config_name: mesh_descriptors
  data_files:
  - split: train
    path: mesh/train.jsonl
  - split: validation
    path: mesh/validation.jsonl
- config_name: cite_prediction
  data_files:
  - split: train
    path: specter.jsonl
- config_name: odd
  data_files:
  - split: evaluation
    path: specter.jsonl
---
"""


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A folder that the datasets library reads as one on the hub, and tasks that name it."""
    folder = tmp_path / "benchmark"
    (folder / "mesh").mkdir(parents=True)
    (folder / "README.md").write_text(CONFIGS)
    write_lines(folder / "mesh" / "train.jsonl", records("mesh", 20))
    write_lines(folder / "mesh" / "validation.jsonl", records("mesh", 5, seed=1))
    write_lines(folder / "specter.jsonl", records("specter", 7))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def tasks(place="benchmark", **configs):
        changed = {
            kind: {"data_files": None, "dataset": {"path": place, "name": config}}
            for kind, config in configs.items()
        }
        write_tasks(tmp_path, dict.fromkeys(configs, 1), **changed)
        return read_tasks(tmp_path / "tasks_config.json").tasks

    return tasks


def test_datasets_are_streamed_by_config_and_split(dataset):
    mesh, specter = dataset(mesh="mesh_descriptors", specter="cite_prediction")
    result = open_records(mesh)
    assert [row for _, row in result["train"].rows()] == records("mesh", 20)
    assert [row for _, row in result["dev"].rows()] == records("mesh", 5, seed=1)
    assert len(list(result["train"].rows())) == 20  # from the beginning again
    assert result["dev"].where(3) == "benchmark:mesh_descriptors@validation, record 3"
    assert list(open_records(specter)) == ["train"]


def test_a_stream_holds_no_split(dataset):
    from datasets import IterableDataset

    (mesh,) = dataset(mesh="mesh_descriptors")
    stream = open_records(mesh)["train"].stream
    assert stream is not None
    assert isinstance(stream.dataset, IterableDataset)


def test_a_dataset_is_known_by_its_files(dataset, tmp_path):
    (mesh,) = dataset(mesh="mesh_descriptors")
    before = source_files(open_records(mesh), "mesh")
    assert before == source_files(open_records(mesh), "mesh")
    assert [(s["task"], s["split"]) for s in before] == [("mesh", "train"), ("mesh", "dev")]
    write_lines(tmp_path / "benchmark" / "mesh" / "train.jsonl", records("mesh", 21))
    assert before != source_files(open_records(mesh), "mesh")


def test_a_saved_dataset_is_read_by_its_splits(dataset, tmp_path):
    from datasets import Dataset, DatasetDict

    parts = {"train": records("mesh", 6), "validation": records("mesh", 2, seed=1)}
    saved = DatasetDict({split: Dataset.from_list(rows) for split, rows in parts.items()})
    saved.save_to_disk(tmp_path / "saved")
    result = open_records(dataset("saved", mesh="")[0])
    assert [row for _, row in result["train"].rows()] == parts["train"]
    assert [row for _, row in result["dev"].rows()] == parts["validation"]
    Dataset.from_list(parts["train"]).save_to_disk(tmp_path / "one")
    assert list(open_records(dataset("one", mesh="")[0])) == ["train"]


def test_what_there_is_not_is_told(dataset, tmp_path):
    with pytest.raises(UserError, match=r"\(config gone\): no dataset .* Available"):
        open_records(dataset(mesh="gone")[0])
    with pytest.raises(UserError, match=r"no split train .task 'specter'.; it has evaluation"):
        open_records(dataset(specter="odd")[0])
    with pytest.raises(UserError, match=r"nobody/nothing .config x.: no dataset of that name"):
        open_records(dataset("nobody/nothing", mesh="x")[0])
    (mesh,) = dataset(mesh="mesh_descriptors")
    result = open_records(mesh)["train"]
    (tmp_path / "benchmark" / "mesh" / "train.jsonl").write_text('{"title": \n')
    with pytest.raises(UserError, match="could not be read on"):
        list(result.rows())


def test_files_are_read_with_their_places(tmp_path):
    write_tasks(tmp_path, {"specter": 3})
    assert entry("specter")["data_files"] == {"train": "specter.jsonl"}
    result = open_records(read_tasks(tmp_path).tasks[0])
    assert list(result) == ["train"]
    places = [result["train"].where(place) for place, _ in result["train"].rows()]
    assert places == [f"{tmp_path / 'specter.jsonl'}:{line}" for line in (1, 2, 3)]
    (message,) = source_files(result, "specter")
    assert (message["name"], message["task"], message["split"]) == (
        "specter.jsonl",
        "specter",
        "train",
    )
