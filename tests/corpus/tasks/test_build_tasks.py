import json
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.build_job import BuildJob, open_inputs
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.tasks.build_tasks import build_tasks
from sciembed_train.corpus.tasks.task_types import TaskBuilding, TaskInfo
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from tests.helpers.task_files import EIGHT, FIELDS, paper, records, write_lines, write_tasks


class Built:
    """Tasks written into a folder, read back with plain loops."""

    def __init__(self, to, place, building=TaskBuilding(), dev_share=0.0, seed=0, bad=0):  # noqa: B008
        settings = PrepareSettings(
            tasks=place, task_building=building, dev_share=dev_share, seed=seed, max_bad_rows=bad
        )
        to.mkdir()
        inputs, progress = open_inputs(settings), Progress(quiet=True)
        job = BuildJob(folder=to, settings=settings, inputs=inputs, lists={}, progress=progress)
        self.to, self.report, self.counts = to, job.report, build_tasks(job)
        assert not job.work.exists()
        table = pq.read_table(to / "task_texts.parquet").to_pydict()
        assert table["text"] == list(range(len(table["text"])))
        self.texts = list(map(tuple, table["fields"]))
        assert len(set(self.texts)) == len(self.texts) == self.counts["task_texts"]
        message = json.loads((to / "tasks.json").read_text())
        self.tasks = {one["name"]: TaskInfo.from_dict(one) for one in message}

    def rows(self, name, split, end=""):
        return np.load(self.to / "tasks" / name / f"{split}{end}.npy")

    def examples(self, name, split="train"):
        """The examples of a split in their texts and labels."""
        rows = self.rows(name, split)
        assert rows.dtype == np.int32
        if rows.ndim == 2:
            return [tuple(self.texts[n] for n in row) for row in rows]
        end = ".labels" if self.tasks[name].multi_label else ".label"
        message = self.rows(name, split, end).tolist()
        return [(self.texts[n], label) for n, label in zip(rows, message, strict=True)]

    def held(self, split):
        """All texts of a split."""
        return {n for name in self.tasks for n in self.rows(name, split).ravel().tolist()}


@pytest.fixture
def build(tmp_path):
    """Make a list of tasks and build it."""
    count = iter(range(100))

    def made(sizes, changed=None, **values):
        write_tasks(tmp_path / "given", sizes, **(changed or {}))
        return Built(tmp_path / f"built{next(count)}", tmp_path / "given", **values)

    return made


def text(row, *fields):
    return tuple(row[f] for f in fields or ("title", "abstract") if row[f])


def test_labelled_tasks_are_texts_with_their_labels(build):
    built = build({"cite_pred": 20, "mesh": 20, "fos": 20})
    for name, message in (
        ("cite_pred", lambda row: np.float32(row["log_citations"])),
        ("mesh", lambda row: FIELDS.index(row["descriptor"])),
        ("fos", lambda row: [int(label in row["labels_text"]) for label in FIELDS]),
    ):
        expected = [(text(row), message(row)) for row in records(name, 20)]
        assert built.examples(name) == expected
    assert built.rows("mesh", "train", ".label").dtype == np.int32
    assert built.rows("fos", "train", ".labels").dtype == np.uint8
    assert built.rows("cite_pred", "train", ".label").dtype == np.float32
    assert built.tasks["mesh"].examples_by_class["train"] == [7, 7, 6]
    assert built.tasks["fos"].examples_by_class["train"] == [13, 13, 6]
    assert built.tasks["cite_pred"].examples == {"train": 20, "dev": 0}


def test_triplets_and_searches_are_rows_of_three_texts(build):
    built = build({"specter": 10, "search": 10}, building=TaskBuilding(negatives="last"))
    rows = records("specter", 10)
    expected = [tuple(text(row[k]) for k in ("query", "pos", "neg")) for row in rows]
    assert built.examples("specter") == expected
    expected = []
    for row in records("search", 10):
        fields = ("title", "abstract", "venue", "year")
        texts = [text({**one, "year": str(int(one["year"]))}, *fields) for one in row["candidates"]]
        for i in range(5):
            expected.append(((row["query"],), texts[i % 2], texts[-5:][i]))
    assert built.examples("search") == expected


def test_a_text_is_stored_once_whatever_tasks_have_it(build, tmp_path):
    build({"mesh": 1})
    rows = records("mesh", 12)
    given = tmp_path / "given"
    write_tasks(given, {"mesh": 1, "specter": 1})
    write_lines(given / "mesh.jsonl", [*rows, rows[0]])
    triplets = [
        {"query": rows[i], "pos": rows[i + 1], "neg": {**rows[i + 2], "corpus_id": 99}}
        for i in range(10)
    ]
    write_lines(given / "specter.jsonl", triplets)
    built = Built(tmp_path / "shared", given)
    assert built.texts == [text(row) for row in rows]
    assert built.rows("mesh", "train").tolist() == [*range(12), 0]
    assert built.rows("specter", "train").tolist() == [[i, i + 1, i + 2] for i in range(10)]


def test_a_file_of_dev_is_held_out_and_no_training_example_holds_its_texts(build, tmp_path):
    given = write_tasks(
        tmp_path / "given",
        {"mesh": 30, "specter": 10},
        mesh={"data_files": {"train": "mesh.jsonl", "dev": "mesh_dev.jsonl"}},
    )
    mesh = records("mesh", 30)
    write_lines(given / "mesh_dev.jsonl", [*records("mesh", 4, seed=1), mesh[3]])
    triplets = records("specter", 10)
    triplets[5]["neg"] = mesh[3]
    write_lines(given / "specter.jsonl", triplets)
    built = Built(tmp_path / "held_out", given)
    assert built.counts["tasks"] == {
        "mesh": {"dev": 5, "train": 29},
        "specter": {"dev": 0, "train": 9},
    }
    assert not built.held("train") & built.held("dev")
    drops = built.report["task specter"]["dropped"]
    assert {reason: d["count"] for reason, d in drops.items()} == {
        "a text of it is in a held-out example": 1
    }
    assert drops["a text of it is in a held-out example"]["examples"][0].endswith("specter.jsonl:6")
    assert built.report["task mesh"]["examples"] == {"train": 29}
    assert built.report["task mesh, dev"]["examples"] == {"dev": 5}
    assert any("no dev examples" in note for note in built.report["task specter"]["notes"])
    kept = Built(tmp_path / "kept", given, TaskBuilding(dev_in_train=True))
    assert kept.counts["tasks"]["mesh"] == {"dev": 5, "train": 30}
    assert kept.held("train") & kept.held("dev")


def test_a_share_is_held_out_by_text_the_same_in_every_task(build, tmp_path):
    given = write_tasks(tmp_path / "given", {"mesh": 1, "fos": 1, "s2and": 40, "specter": 200})
    rows = records("mesh", 300)
    write_lines(given / "mesh.jsonl", rows)
    write_lines(given / "fos.jsonl", [{**row, "labels_text": ["physics"]} for row in rows])
    built = Built(tmp_path / "shared", given, dev_share=0.2)
    for name, n in (("mesh", 300), ("fos", 300), ("specter", 200)):
        assert abs(built.counts["tasks"][name]["dev"] - n / 5) < 4 * np.sqrt(n * 0.16)
    held = {name: {t for t, _ in built.examples(name, "dev")} for name in ("mesh", "fos")}
    assert held["mesh"] == held["fos"]
    assert not built.held("train") & built.held("dev")
    # Nobody is lost: what is not held out is trained on, or is counted.
    for name, n in (("mesh", 300), ("fos", 300), ("specter", 200)):
        lost = sum(d["count"] for d in built.report[f"task {name}"]["dropped"].values())
        assert sum(built.counts["tasks"][name].values()) == n - lost
    other = Built(tmp_path / "other", given, dev_share=0.2, seed=1)
    assert {t for t, _ in other.examples("mesh", "dev")} != held["mesh"]


def test_the_same_comes_of_the_same_files_and_another_seed_draws_another_sample(build, tmp_path):
    changed = {"mesh": {"sample_size": {"train": 50, "dev": 5}}, "specter": {"sample_size": 10}}
    sizes = {"mesh": 300, "specter": 60, "search": 10}
    one, two, other = (build(sizes, changed, dev_share=0.1, seed=seed) for seed in (0, 0, 1))
    assert one.texts == two.texts
    for name in sizes:
        assert one.examples(name) == two.examples(name) != other.examples(name)
    assert one.counts["tasks"]["mesh"] == {"train": 50, "dev": 5}
    assert sum(one.counts["tasks"]["specter"].values()) <= 20
    assert one.tasks["mesh"].examples_by_class["dev"] in ([2, 2, 1], [2, 1, 2], [1, 2, 2])
    dropped = one.report["task mesh"]["dropped"]["not drawn: there are more than sample_size"]
    assert one.report["task mesh"]["kept"] == 55
    assert dropped["count"] == 300 - 55


def test_without_dev_wanted_nothing_is_held_out(build):
    built = build({"mesh": 50}, {"mesh": {"sample_size": {"dev": 0}}}, dev_share=0.5)
    assert built.counts["tasks"]["mesh"] == {"train": 50, "dev": 0}


def test_all_eight_tasks_together(build):
    built = build(dict.fromkeys(EIGHT, 40), dev_share=0.1)
    assert tuple(built.tasks) == EIGHT
    assert all(n["train"] > 20 for n in built.counts["tasks"].values())


def test_malformed_records_stop_it_with_task_file_and_line(build, tmp_path):
    rows = records("mesh", 5)
    rows[2]["descriptor"] = "law"
    given = write_tasks(tmp_path / "given", {"mesh": 5})
    write_lines(given / "mesh.jsonl", rows)
    with pytest.raises(UserError) as error:
        Built(tmp_path / "stopped", given)
    message = str(error.value)
    assert f"{given / 'mesh.jsonl'}:3 (task mesh): `descriptor` is the text 'law'" in message
    assert str(given / "labels.txt") in message
    assert "1 of 5 rows is like this" in message
    assert Built(tmp_path / "skipped", given, bad=1).counts["tasks"]["mesh"]["train"] == 4


def test_a_stream_that_is_malformed_throughout_is_not_read_to_its_end(tmp_path):
    given = write_tasks(tmp_path / "given", {"mesh": 1})
    write_lines(given / "mesh.jsonl", [{"name": "a"}] * 5_000)
    with pytest.raises(UserError, match="1,000 of 1,000 rows are like this"):
        Built(tmp_path / "stopped", given)


def test_a_task_without_a_training_example_is_refused_with_reasons(tmp_path):
    given = write_tasks(tmp_path / "given", {"s2and": 3})
    rows = records("s2and", 3)
    for row in rows:
        for one in row["candidates"]:
            one["score"] = 0
    write_lines(given / "s2and.jsonl", rows)
    message = r"Task s2and has no training example: of 3 records in .*s2and.jsonl none can be used "
    message += r"\(3: no candidate with a score above 0, the first at .*s2and.jsonl:1\)"
    with pytest.raises(UserError, match=message):
        Built(tmp_path / "refused", given)
    (given / "s2and.jsonl").write_text("")
    with pytest.raises(UserError, match="of 0 records in"):
        Built(tmp_path / "empty", given)


def test_records_in_other_formats_are_the_same(tmp_path):
    import gzip

    import pyarrow as pa

    given = write_tasks(tmp_path / "given", {"specter": 12, "s2and": 12})
    plain = Built(tmp_path / "plain", given)
    other = write_tasks(
        tmp_path / "other",
        {"specter": 1, "s2and": 1},
        specter={"data_files": {"train": "specter.parquet"}},
        s2and={"data_files": {"train": "s2and.json.gz"}},
    )
    table = pa.Table.from_pylist(records("specter", 12))
    pq.write_table(table, other / "specter.parquet")
    with gzip.open(other / "s2and.json.gz", "wt") as file:
        json.dump(records("s2and", 12), file)
    result = Built(tmp_path / "found", other)
    assert result.texts == plain.texts
    for name in ("specter", "s2and"):
        assert result.examples(name) == plain.examples(name)


def test_labelled_records_may_be_a_table(tmp_path):
    rng = np.random.default_rng(0)
    given = write_tasks(
        tmp_path / "given", {"cite_pred": 1}, cite_pred={"data_files": {"train": "t.csv"}}
    )
    rows = [paper(rng, i, log_citations=i / 2) for i in range(6)]
    lines = [f"{row['title']},{row['abstract'] or ''},{row['log_citations']}" for row in rows]
    (given / "t.csv").write_text("title,abstract,log_citations\n" + "\n".join(lines) + "\n")
    built = Built(tmp_path / "built", given)
    assert built.examples("cite_pred") == [(text(r), r["log_citations"]) for r in rows]


def test_memory_grows_with_the_sample_and_not_with_the_records(tmp_path):
    changed = {"sample_size": {"train": 200, "dev": 20}}
    peaks = {}
    for n in (250, 500, 4_000):  # the first only brings everything into memory that stays there
        given = write_tasks(tmp_path / str(n), {"mesh": n}, mesh=changed)
        tracemalloc.start()
        built = Built(tmp_path / f"built{n}", given, dev_share=0.1)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert built.counts["tasks"]["mesh"]["train"] == 200
    assert peaks[4_000] < 1.2 * peaks[500]
