import pickle

import numpy as np
import pytest
import torch

from sciembed_train.batch import LabelPart, TripletPart
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TASK_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.tasks import TaskSampling
from sciembed_train.text.input_format import FORMATS, InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.task_files import EIGHT, write_tasks

SIZES = dict(zip(EIGHT, (60, 50, 45, 45, 20, 20, 30, 50), strict=True))
NAMES = list(FORMATS)


@pytest.fixture(scope="module")
def corpus(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    given = write_tasks(folder / "given", SIZES)
    settings = PrepareSettings(
        tasks=given, to=folder / "corpus", tokenizer=tiny_bert, dev_share=0.2, test_share=0.0
    )
    return prepare(settings)


def opened(
    corpus,
    backbone,
    sampling=TaskSampling(),  # noqa: B008 - frozen
    limit=None,
    length=24,
    input_format=InputFormat(),  # noqa: B008 - frozen
):
    reading = TokenizationSpec(TextTokenizer.load(backbone), input_format, length, 0)
    return sampling.open(corpus, reading, limit)


def reader(corpus, backbone, length=24):
    """What stands in a row of a batch: its text's number and its format."""
    store = corpus.tokens(TextTokenizer.load(backbone).key(InputFormat()), TASK_TOKENS)

    def read(batch):
        rows = batch.rows.ids.split(batch.rows.lengths.tolist())
        formats = batch.formats.tolist()
        return [(tuple(row.tolist()), NAMES[f]) for row, f in zip(rows, formats, strict=True)]

    def text(number, format):
        ids, _ = store.rows(np.array([number]), length)
        return tuple(ids.tolist()), format

    return read, text


def told_of(part):
    """A part's examples: rows, and labels as plain values."""
    if isinstance(part, LabelPart):
        return list(zip(part.text.tolist(), part.label.tolist(), strict=True))
    columns = (part.anchor.tolist(), part.positive.tolist(), part.negative.tolist())
    return list(zip(*columns, strict=True))


def test_a_batch_holds_the_examples_of_the_plan_under_the_formats_of_their_tasks(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    folder = corpus.tasks()
    plan = examples.plan(40, 0)
    read, text = reader(corpus, tiny_bert)
    for step in (0, 7, 31):
        indices = plan.indices(step)
        batch = examples.batch(indices, 0, step)
        assert (batch.step, len(batch)) == (step, 40)
        rows = read(batch)
        assert [part.task for part in batch.parts] == list(EIGHT)
        first = 0
        for task, part in zip(folder.tasks, batch.parts, strict=True):
            size = task.examples["train"]
            mine = [i - first for i in indices.tolist() if first <= i < first + size]
            first += size
            texts = np.asarray(folder.examples(task.name, "train"))[mine].tolist()
            if isinstance(part, TripletPart):
                expected = [
                    (text(q, task.query_format), text(p, task.format), text(n, task.format))
                    for q, p, n in texts
                ]
                found = [tuple(rows[i] for i in example) for example in told_of(part)]
            else:
                labels = np.asarray(folder.labels(task.name, "train"))[mine].tolist()
                expected = [(text(t, task.format), y) for t, y in zip(texts, labels, strict=True)]
                found = [(rows[i], y) for i, y in told_of(part)]
            assert found == expected


def test_a_text_is_one_row_for_every_format_that_reads_it(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    read, _ = reader(corpus, tiny_bert)
    batch = examples.batch(np.arange(examples.train), 0, 0)
    rows = read(batch)
    assert len(set(rows)) == len(rows)
    assert set(batch.formats.tolist()) == set(range(4))
    used = torch.cat(
        [
            p.text if isinstance(p, LabelPart) else torch.cat([p.anchor, p.positive, p.negative])
            for p in batch.parts
        ]
    )
    assert sorted(set(used.tolist())) == list(range(len(rows)))


def test_labels_have_the_types_that_losses_take(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    parts = {p.task: p for p in examples.batch(np.arange(examples.train), 0, 0).parts}
    kinds = {name: p.label.dtype for name, p in parts.items() if isinstance(p, LabelPart)}
    assert kinds == {
        "cite_pred": torch.float32,
        "year_pred": torch.float32,
        "mesh": torch.int64,
        "fos": torch.float32,
    }
    assert parts["fos"].label.shape == (len(parts["fos"]), 3)


def test_a_method_is_told_what_each_task_asks_of_it(corpus, tiny_bert):
    found = {kind.name: (kind.target, kind.classes) for kind in opened(corpus, tiny_bert).dev.tasks}
    assert found == {
        **dict.fromkeys(("cite_pred", "year_pred"), ("number", 0)),
        "mesh": ("class", 3),
        "fos": ("classes", 3),
        **dict.fromkeys(("search", "s2and", "cite_context", "specter"), ("triplet", 0)),
    }


def test_ranks_have_together_what_one_process_has_and_every_task_each(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    read, _ = reader(corpus, tiny_bert)

    def examples_of(batch):
        rows = read(batch)
        found = []
        for part in batch.parts:
            for example in told_of(part):
                places = example[:1] if isinstance(part, LabelPart) else example
                label = example[1] if isinstance(part, LabelPart) else None
                found.append((part.task, tuple(rows[i] for i in places), str(label)))
        return sorted(found)

    for step in (0, 5):
        one = examples.plan(64, 3)
        alone = examples.batch(one.indices(step), 0, step, one.share(0))
        for world_size in (2, 4, 8):
            plan = examples.plan(64, 3, world_size)
            shares = [
                examples.batch(plan.indices(step), 0, step, plan.share(rank))
                for rank in range(world_size)
            ]
            for share in shares:
                assert [part.task for part in share.parts] == list(EIGHT)
                assert set(share.formats.tolist()) == set(range(4))
            together = sorted(e for share in shares for e in examples_of(share))
            assert together == examples_of(alone)


def test_held_out_texts_are_encoded_once_for_each_format_by_one_rank(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    folder = corpus.tasks()
    read, text = reader(corpus, tiny_bert)
    for world_size in (1, 3):
        rows = {}
        for rank in range(world_size):
            items = examples.dev_items(rank, world_size)
            for number in range(len(items)):
                item = items[number]
                for slot, row in zip(item.slots.tolist(), read(item), strict=True):
                    assert slot not in rows
                    rows[slot] = row
        assert sorted(rows) == list(range(examples.dev.texts))
        assert len(set(rows.values())) == len(rows)
        for task, part in zip(folder.tasks, examples.dev.parts, strict=True):
            texts = folder.examples(task.name, "dev").tolist()
            if isinstance(part, LabelPart):
                labels = folder.labels(task.name, "dev").tolist()
                expected = [(text(t, task.format), y) for t, y in zip(texts, labels, strict=True)]
                assert [(rows[i], y) for i, y in told_of(part)] == expected
            else:
                formats = (task.query_format, task.format, task.format)
                expected = [tuple(map(text, row, formats)) for row in texts]
                assert [tuple(rows[i] for i in row) for row in told_of(part)] == expected
    assert len(examples.dev) == sum(task.examples["dev"] for task in folder.tasks)


def test_validation_is_bounded_for_each_task(corpus, tiny_bert):
    few = opened(corpus, tiny_bert, limit=4)
    assert all(len(part) <= 5 for part in few.dev.parts)  # a query's triplets stay together
    assert {len(p) for p in few.dev.parts if isinstance(p, LabelPart)} == {4}
    again = opened(corpus, tiny_bert, limit=4)
    for one, two in zip(few.dev.parts, again.dev.parts, strict=True):
        assert told_of(one) == told_of(two)


def test_another_draw_or_corpus_is_another_experiment(corpus, tiny_bert, tmp_path):
    one = opened(corpus, tiny_bert).fingerprint
    assert one == opened(corpus, tiny_bert).fingerprint
    capped = TaskSampling(epoch="capped", cap=30)
    found = {one, opened(corpus, tiny_bert, capped).fingerprint}
    found.add(opened(corpus, tiny_bert, TaskSampling(reproduce=True)).fingerprint)
    given = write_tasks(tmp_path / "given", SIZES, seed=1)
    settings = PrepareSettings(tasks=given, to=tmp_path / "corpus", tokenizer=tiny_bert)
    found.add(opened(prepare(settings), tiny_bert).fingerprint)
    assert len(found) == 4


def test_epochs_may_be_capped_and_the_published_order_reproduced(corpus, tiny_bert):
    capped = opened(corpus, tiny_bert, TaskSampling(epoch="capped"))
    plan = capped.plan(64, 0)
    smallest = min(capped.sizes)
    assert plan.counted == (smallest,) * 8
    assert plan.quotas == (8,) * 8
    assert plan.steps_per_epoch == smallest // 8
    published = opened(corpus, tiny_bert, TaskSampling(reproduce=True))
    plan = published.plan(16, 0)
    batch = published.batch(plan.indices(0), 0, 0)
    assert [(part.task, len(part)) for part in batch.parts] == [(name, 2) for name in EIGHT]
    last = published.batch(plan.indices(plan.steps_per_epoch - 1), 0, 0)
    assert len(last.parts) < 8


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r"goes with data.sampling.epoch capped"):
        TaskSampling(cap=5)
    with pytest.raises(UserError, match=r"cap is 0"):
        TaskSampling(epoch="capped", cap=0)
    with pytest.raises(UserError, match=r"epochs of its own"):
        TaskSampling(epoch="capped", reproduce=True)
    with pytest.raises(UserError, match=r"give --data.corpus CORPUS .*, or --data.tasks F"):
        TaskSampling.check_raw({}, "auto")
    with pytest.raises(UserError, match=r"data.papers is not used by data.sampling TaskSampling"):
        TaskSampling.check_raw({"papers": "f"}, "auto")


def test_a_corpus_without_tasks_or_their_tokens_is_told(corpus, tiny_bert, tmp_path):
    from tests.helpers.small_corpus import write_small_corpus

    write_small_corpus(tmp_path / "papers", tiny_bert)
    with pytest.raises(UserError, match="holds no tasks"):
        opened(Corpus.open(tmp_path / "papers"), tiny_bert)
    with pytest.raises(UserError, match="no tokens of its tasks' texts"):
        opened(corpus, tiny_bert, input_format=InputFormat(separator="space"))


def test_tasks_that_are_not_validated_are_noted(tiny_bert, tmp_path):
    given = write_tasks(tmp_path / "given", {"mesh": 20, "specter": 20})
    settings = PrepareSettings(
        tasks=given, to=tmp_path / "corpus", tokenizer=tiny_bert, dev_share=0.0
    )
    examples = opened(prepare(settings), tiny_bert)
    assert (len(examples.dev), examples.dev.parts) == (0, ())
    assert [kind.name for kind in examples.dev.tasks] == ["mesh", "specter"]
    assert [note.split()[1] for note in examples.notes] == ["mesh", "specter"]


def test_examples_can_be_sent_to_another_process(corpus, tiny_bert):
    examples = opened(corpus, tiny_bert)
    sent = pickle.loads(pickle.dumps(examples))
    one, two = (e.batch(np.arange(30), 0, 0) for e in (examples, sent))
    assert torch.equal(one.rows.ids, two.rows.ids)
