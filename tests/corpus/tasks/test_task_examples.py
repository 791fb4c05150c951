import pytest

from sciembed_train.corpus.exclusion_files import open_place
from sciembed_train.corpus.exclusions import Exclusions
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


def test_triplets_of_an_excluded_text_are_left_out_and_others_of_its_record_stay(tmp_path):
    write_tasks(tmp_path, {"s2and": 2, "mesh": 3})
    rows = records("s2and", 2)
    query, candidate = rows[0]["query"]["title"], rows[1]["candidates"][0]["title"]
    labelled = records("mesh", 3)[1]["title"]
    (tmp_path / "out.txt").write_text(f"{query}\n{candidate.upper()}\n{labelled}\n")
    exclusions = Exclusions([open_place(tmp_path / "out.txt")])
    settings = CorpusSettings(dev_share=0.0)
    texts, dropped = [], []
    for task in read_tasks(tmp_path).tasks:
        reader = TaskReader(task, open_records(task), settings, exclusions)
        pending = reader.read(tmp_path / task.name, Progress(quiet=True))
        found = [r for r, _ in pending.file.records(0, lambda key, classes: True)]
        texts.append([text for record in found for text in record.texts])
        dropped.append(pending.audits["train"].dropped["excluded"].count)
        for record in found:
            numbers = {number for pair in record.pairs for number in pair} | {0}
            assert numbers == set(range(len(record.texts)))
    titles = {text[0] for part in texts for text in part}
    assert not titles & {query, candidate, labelled}
    assert dropped == [1, 1]
    assert len(texts[0]) > 2
    assert len(texts[1]) == 2
    assert exclusions.task_texts == 3
