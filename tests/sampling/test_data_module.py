import pickle
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.tasks import TaskSampling
from sciembed_train.text.input_format import InputFormat
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.task_files import write_tasks


@pytest.fixture(scope="module")
def corpus(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "corpus"
    write_small_corpus(folder, tiny_bert)
    return folder


def module(corpus, backbone, step=0, total=40, **settings):
    input_format = settings.pop("input_format", InputFormat())
    given = DataSettings(**{"corpus": str(corpus), "batch_size": 8, **settings})
    data = TrainingData.open(given, backbone, 32, input_format)
    data.trainer = SimpleNamespace(
        global_step=step,
        max_steps=total,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    data.setup("fit")
    return data


def triplets_of(batch, data):
    """The papers of a batch's triplets, found again by their tokens."""
    store, length = data.examples.tokens, data.tokenization.max_length
    papers = {tuple(store.rows(np.array([p]), length)[0].tolist()): p for p in range(len(store))}
    parts = batch.rows.ids.split(batch.rows.lengths.tolist())
    names = [papers[tuple(part.tolist())] for part in parts]
    columns = (batch.anchor, batch.positive, batch.negative)
    return np.array([[names[i] for i in column.tolist()] for column in columns]).T


def test_the_loader_gives_the_steps_that_are_left_in_the_order_of_the_seed(corpus, tiny_bert):
    data = module(corpus, tiny_bert, step=0)
    whole = list(data.train_dataloader())
    assert [batch.step for batch in whole] == list(range(40))
    assert len(data.train_dataloader()) == 40
    plan = data.plan(1)
    for step in (0, 11, 12, 39):  # both sides of an epoch's end
        expected = data.examples.triplets[plan.indices(step)]
        assert (triplets_of(whole[step], data) == expected).all()

    later = module(corpus, tiny_bert, step=17)
    rest = list(later.train_dataloader())
    assert len(later.train_dataloader()) == 40  # Lightning counts from the run's first step
    assert [batch.step for batch in rest] == list(range(17, 40))
    for ours, theirs in zip(rest, whole[17:], strict=True):
        assert torch.equal(ours.rows.ids, theirs.rows.ids)
        assert torch.equal(ours.anchor, theirs.anchor)


def test_workers_change_nothing(corpus, tiny_bert):
    alone = list(module(corpus, tiny_bert, step=9, total=16).train_dataloader())
    helped = list(module(corpus, tiny_bert, step=9, total=16, num_workers=2).train_dataloader())
    assert [b.step for b in helped] == [b.step for b in alone]
    assert all(torch.equal(a.rows.ids, b.rows.ids) for a, b in zip(alone, helped, strict=True))


def test_the_dataset_can_be_sent_without_its_tokens(corpus, tiny_bert):
    dataset = module(corpus, tiny_bert).train_dataloader().dataset
    assert len(pickle.dumps(dataset.examples.tokens)) < 2000
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3].rows.ids, dataset[3].rows.ids)


def test_ranks_share_each_step(corpus, tiny_bert, monkeypatch):
    from sciembed_train import distributed

    whole = module(corpus, tiny_bert).train_dataloader().dataset
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        data = module(corpus, tiny_bert)
        shares.append(data.train_dataloader().dataset)
    for step in (0, 5, 13):
        together = np.concatenate([triplets_of(share[step], data) for share in shares])
        assert (together == triplets_of(whole[step], data)).all()


def test_validation_has_each_paper_once_over_all_ranks(corpus, tiny_bert, monkeypatch):
    from sciembed_train import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    slots = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        data = module(corpus, tiny_bert)
        for batch in data.val_dataloader():
            lengths = batch.rows.lengths.tolist()
            assert lengths == sorted(lengths, reverse=True)
            for slot, row in zip(batch.slots.tolist(), batch.rows.ids.split(lengths), strict=True):
                paper = data.examples.dev_papers[slot]
                expected, _ = data.examples.tokens.rows(
                    np.array([paper]), data.tokenization.max_length
                )
                assert row.tolist() == expected.tolist()
            slots += batch.slots.tolist()
    assert sorted(slots) == list(range(data.dev.papers))
    columns = (data.dev.anchor, data.dev.positive, data.dev.negative)
    rebuilt = np.stack([data.examples.dev_papers[c.numpy()] for c in columns], axis=1)
    assert (rebuilt == Corpus.open(corpus).triplets("dev")).all()


def test_the_time_spent_waiting_is_added_up(corpus, tiny_bert):
    data = module(corpus, tiny_bert)
    assert data.waited == 0.0
    list(data.train_dataloader())
    assert data.waited > 0.0


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"group_by_query": True}, "group_by_query"),
    ],
)
def test_a_resume_with_other_settings_is_refused(corpus, tiny_bert, change, key):
    state = module(corpus, tiny_bert, step=5).state_dict()
    assert state["step"] == 5
    module(corpus, tiny_bert).load_state_dict(state)
    with pytest.raises(UserError, match=rf"data\.{key}="):
        module(corpus, tiny_bert, **change).load_state_dict(state)


def test_a_resume_may_not_stop_grouping_nor_begin_it(corpus, tiny_bert):
    grouped = module(corpus, tiny_bert, group_by_query=True)
    state = grouped.state_dict()
    grouped.load_state_dict(state)
    with pytest.raises(UserError, match=r"data\.group_by_query=True; now it is False"):
        module(corpus, tiny_bert).load_state_dict(state)
    with pytest.raises(UserError, match=r"data\.group_by_query=False; now it is True"):
        grouped.load_state_dict(module(corpus, tiny_bert).state_dict())


def test_a_resumed_loader_goes_on_in_the_middle_of_grouped_queries(corpus, tiny_bert):
    whole = list(module(corpus, tiny_bert, group_by_query=True).train_dataloader())
    rest = list(module(corpus, tiny_bert, step=13, group_by_query=True).train_dataloader())
    assert [batch.step for batch in rest] == list(range(13, 40))
    for one, other in zip(whole[13:], rest, strict=True):
        assert torch.equal(one.rows.ids, other.rows.ids)
        assert torch.equal(one.anchor, other.anchor)


def test_a_resume_on_another_corpus_is_refused(corpus, tiny_bert, tmp_path):
    write_small_corpus(tmp_path / "other", tiny_bert, seed=1)
    state = module(corpus, tiny_bert).state_dict()
    with pytest.raises(UserError, match="was trained on other triplets: the corpus or"):
        module(tmp_path / "other", tiny_bert).load_state_dict(state)


def test_a_corpus_of_another_input_format_is_refused(corpus, tiny_bert):
    with pytest.raises(
        UserError, match="holds no tokens of its papers by this tokenizer and input format"
    ):
        module(corpus, tiny_bert, input_format=InputFormat(separator="space"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"corpus": None}, "There is nothing to train on"),
        ({"corpus": "x", "batch_size": 0}, "data.batch_size must be 1 or more; got 0"),
        ({"corpus": "x", "seed": -1}, "seed must be 0 or more"),
        ({"corpus": "x", "dev_examples": 0}, "data.dev_examples must be 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, expected):
    with pytest.raises(UserError, match=expected):
        TrainingData.open(DataSettings(**settings), "no folder")


def test_a_length_in_epochs_alone_is_refused(corpus, tiny_bert):
    with pytest.raises(ValueError, match="needs max_steps"):
        module(corpus, tiny_bert, total=-1).train_dataloader()


def test_a_batch_stays_on_the_host_until_the_method_has_cut_it(corpus, tiny_bert):
    data = module(corpus, tiny_bert)
    batch = data.train_dataloader().dataset[0]
    assert data.transfer_batch_to_device(batch, torch.device("meta"), 0) is batch


@pytest.fixture(scope="module")
def tasks(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    given = write_tasks(folder / "given", {"cite_pred": 30, "fos": 60, "search": 20, "specter": 40})
    settings = PrepareSettings(tasks=given, to=folder / "corpus", tokenizer=tiny_bert)
    return prepare(settings).folder


def parts_of(batch):
    """A batch of tasks as plain values."""
    columns = [[getattr(p, f.name) for f in fields(p)] for p in batch.parts]
    plain = [[c.tolist() if isinstance(c, torch.Tensor) else c for c in row] for row in columns]
    return plain, batch.rows.ids.tolist(), batch.formats.tolist(), batch.step


def test_tasks_go_on_after_a_resume_with_the_very_next_step(tasks, tiny_bert):
    given = {"sampling": TaskSampling(), "batch_size": 32, "total": 30}
    whole = [parts_of(b) for b in module(tasks, tiny_bert, **given).train_dataloader()]
    assert [b[-1] for b in whole] == list(range(30))  # over several epochs
    rest = module(tasks, tiny_bert, step=11, **given).train_dataloader()
    assert [parts_of(b) for b in rest] == whole[11:]
    helped = module(tasks, tiny_bert, step=25, num_workers=2, **given).train_dataloader()
    assert [parts_of(b) for b in helped] == whole[25:]


def test_ranks_that_cannot_have_every_task_are_refused(tasks, tiny_bert, monkeypatch):
    from sciembed_train import distributed

    data = module(tasks, tiny_bert, sampling=TaskSampling(), batch_size=12)
    assert data.plan(1).steps_per_epoch > 0
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(UserError, match="Choose a batch_size of 16 or more"):
        data.train_dataloader()


def test_a_resume_with_another_way_of_taking_turns_is_refused(tasks, tiny_bert):
    given = {"batch_size": 32, "step": 3}
    state = module(tasks, tiny_bert, sampling=TaskSampling(), **given).state_dict()
    module(tasks, tiny_bert, sampling=TaskSampling(), **given).load_state_dict(state)
    other = TaskSampling(epoch="capped", cap=20)
    with pytest.raises(UserError, match=r"data.sampling is not what it was"):
        module(tasks, tiny_bert, sampling=other, **given).load_state_dict(state)
