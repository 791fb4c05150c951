import sys

import pytest

from sciembed_train.corpus.readers.hub_datasets import load_saved, open_streams
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from tests.helpers.data_files import ROWS


def test_a_saved_dataset_is_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    parts = datasets.DatasetDict({"a": whole.select([0]), "b": whole.select([1, 2])})
    parts.save_to_disk(tmp_path / "two")
    for name in ("one", "two"):
        table = Table(tmp_path / name, "papers")
        assert [row for _, row in table.rows()] == ROWS
        assert table.where(next(iter(table.rows()))[0]).endswith(f"{name}, row 1")
        assert table.checksums()
        cells = table.cells(("paper_id", "title"))
        assert [list(c) for _, c in cells] == [[r["paper_id"], r["title"]] for r in ROWS]


def test_a_mistyped_path_is_reported_though_it_could_be_a_hub_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"my/papers: there is no such file or folder \(papers\)"):
        Table("my/papers", "papers")


def test_a_hub_name_without_network_is_reported_as_such(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    asked = []

    def refuse(name, config, split):
        asked.append((name, config, split))
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match="no dataset of that name could be loaded: no network"):
        Table("owner/name:config@train", "papers")
    assert asked == [("owner/name", "config", "train")]


def test_the_splits_of_a_saved_dataset_are_streams(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    streams = open_streams(str(tmp_path / "one"))
    assert list(streams) == ["train"]
    assert list(streams["train"].rows()) == ROWS
    assert len(streams["train"].fingerprint) == 64


def test_a_damaged_or_unknown_dataset_is_refused(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="could not be loaded as a dataset"):
        load_saved(tmp_path)
    with pytest.raises(UserError, match="no dataset of that name could be opened"):
        open_streams(str(tmp_path / "none"))
