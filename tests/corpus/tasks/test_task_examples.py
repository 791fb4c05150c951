import pytest

from sciembed_train.corpus.prepare_settings import CorpusSettings
from sciembed_train.corpus.tasks.task_examples import TaskReader, digest
from sciembed_train.corpus.tasks.task_list import read_tasks
from sciembed_train.corpus.tasks.task_sources import open_records
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from tests.helpers.task_files import records, write_lines, write_tasks


def read(folder, dev_share=0.0, max_bad_rows=0, seed=0):
    (task,) = read_tasks(folder).tasks
    settings = CorpusSettings(dev_share=dev_share, seed=seed, max_bad_rows=max_bad_rows)
    reader = TaskReader(task, open_records(task), settings)
    return reader.read(folder / "records", Progress(quiet=True))


def kept(pending, split):
    return [r.texts[0] for r, _ in pending.file.records(split, lambda key, classes: True)]


def test_records_are_written_by_split_and_their_source_is_known(tmp_path):
    write_tasks(tmp_path, {"mesh": 60})
    pending = read(tmp_path, dev_share=0.3)
    train, dev = kept(pending, 0), kept(pending, 1)
    assert len(train) + len(dev) == 60
    assert 5 < len(dev) < 35
    assert pending.source("dev") == "train"
    assert pending.audits["train"].kept == 60
    assert kept(read(tmp_path, dev_share=0.3, seed=1), 1) != dev


def test_unused_candidates_and_records_without_a_text_are_counted(tmp_path):
    write_tasks(tmp_path, {"s2and": 1})
    rows = records("s2and", 3)
    rows[0]["candidates"][0] |= {"title": "", "abstract": None}
    rows[1]["query"] |= {"title": "", "abstract": None}
    write_lines(tmp_path / "s2and.jsonl", rows)
    audit = read(tmp_path).audits["train"]
    dropped = {reason: d.count for reason, d in audit.dropped.items()}
    assert dropped["no text: the fields are empty"] == 1
    assert sum(dropped.values()) == 2
    assert audit.kept == 2


def test_malformed_records_are_refused_beyond_the_budget(tmp_path):
    write_tasks(tmp_path, {"mesh": 1})
    write_lines(tmp_path / "mesh.jsonl", [*records("mesh", 2), {"title": "t"}])
    with pytest.raises(UserError, match=r"mesh\.jsonl:3 \(task mesh\): there is no `descriptor`"):
        read(tmp_path)
    assert read(tmp_path, max_bad_rows=1).audits["train"].kept == 2


def test_texts_differ_by_their_fields():
    assert digest(("a", "b")) == digest(("a", "b"))
    assert len({digest(("a b",)), digest(("a", "b")), digest(("b", "a"))}) == 3
