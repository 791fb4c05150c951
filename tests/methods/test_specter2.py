import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision

from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    TaskKind,
)
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.specter2 import MultiTask
from tests.helpers import training
from tests.helpers.adapter_models import library_is_there
from tests.helpers.method_batches import task_batch as batch
from tests.helpers.method_batches import task_method as prepared
from tests.helpers.processes import run_ranks
from tests.helpers.task_training import (
    ADAPTED,
    VARIANTS,
    on_a_rank,
    small_corpus,
    train,
    with_adapters,
)
from tests.helpers.training import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
FAULTS = ("local negatives", "others for itself", "own counts")


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = small_corpus(tmp_path_factory.mktemp("tasks"), tiny_bert)
    if library_is_there():
        with_adapters(str(tiny_bert), folder.parent / "with_adapters")
    return str(folder), str(tiny_bert)


@pytest.fixture(scope="module")
def names():
    """Variants that can be trained here: those with adapters where the library is installed."""
    return [*VARIANTS, *(ADAPTED if library_is_there() else ())]


@pytest.fixture(scope="module")
def alone(place, names):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, names)


# Gradients over ranks are also tested, always, with triplets, pairs and citations.
RANKS = [pytest.param(world, marks=pytest.mark.slow) for world in (2, 4)]


@pytest.fixture(scope="module", params=RANKS)
def ranks(request, place, names):
    """What each of two or four processes found."""
    return run_ranks(request.param, "tests.helpers.task_training", "on_a_rank", *place, names)


@pytest.mark.parametrize("name", [n for n in (*VARIANTS, *ADAPTED) if n not in FAULTS])
def test_gradients_of_several_ranks_equal_one_process(name, alone, ranks):
    if name in ADAPTED:
        pytest.importorskip("adapters")
    assert np.abs(alone[name]["gradients"]).max() > 1e-3
    for found in ranks:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
        assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name, alone, ranks):
    for found in ranks:
        assert difference(found[name], alone[name], "gradients") > 1e-3


def test_adapters_alone_are_trained_and_recomputing_changes_nothing(alone):
    pytest.importorskip("adapters")
    for name in ("adapters, cut", "adapters, recomputed"):
        assert difference(alone[name], alone["adapters, all"], "gradients") < 1e-12
    # Of 2 layers: 4 adapters from 32 to 8 and back; heads of 1, 3 and 3 numbers.
    trained = 4 * 2 * (2 * 32 * 8 + 8 + 32) + 7 * 33
    assert len(alone["adapters"]["gradients"][0]) == trained
    # Query, key and value of the fusions, of 32; the adapters stay as they are.
    assert len(alone["fusion"]["gradients"][0]) == 4 * 2 * (3 * 32 * 32 + 2 * 32) + 7 * 33
    assert difference(alone["fusion, padded, cut"], alone["fusion"], "gradients") < 1e-12


# Lightning has no fp16 on the processor, so it is given as a plug-in; its scale is 2 ** 10 as
# gradients of a tiny model overflow at less than those of a large one.
LOWERED = {
    "bf16": lambda: {"precision": "bf16-mixed"},
    "fp16": lambda: {
        "plugins": [
            MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))
        ]
    },
}


@pytest.mark.parametrize("negatives", ["one", "all"])
@pytest.mark.parametrize(("lowered", "near"), [("bf16", 0.02), ("fp16", 0.002)])
def test_adapters_are_trained_in_mixed_precision_as_in_fp32(place, lowered, near, negatives):
    pytest.importorskip("adapters")
    given = {"adapted": True, "negatives": negatives, "max_tokens_per_backward": 150}
    whole, low = (
        training.alone(partial(train, *place, trainer=trainer, **given))
        for trainer in ({"precision": "32-true"}, LOWERED[lowered]())
    )
    assert all(math.isfinite(score) for score in low["scores"].values())
    assert low["scores"]["val/loss"] == pytest.approx(whole["scores"]["val/loss"], rel=near)
    for found, expected in zip(low["gradients"], whole["gradients"], strict=True):
        off = np.linalg.norm(np.array(found) - np.array(expected))
        assert 0 < off < near * np.linalg.norm(expected)


def test_a_cut_step_is_the_same_step(alone):
    assert difference(alone["one, cut"], alone["one"], "gradients") < 1e-12
    assert difference(alone["InfoNCE, cut"], alone["InfoNCE"], "gradients") < 1e-12


def test_every_task_is_validated(alone):
    found = alone["one"]["scores"]
    ends = {
        "year_pred": ("loss", "kendall", "r2"),
        "mesh": ("loss", "accuracy", "macro_f1"),
        "fos": ("loss", "macro_f1"),
        "search": ("loss", "accuracy"),
        "specter": ("loss", "accuracy"),
    }
    names = {f"val/{task}_{end}" for task, several in ends.items() for end in several}
    assert names | {"val/loss"} == {name for name in found if name.startswith("val/")}
    weights = {"fos": 2.0}
    total = sum(weights.get(task, 1.0) * found[f"val/{task}_loss"] for task in ends)
    assert found["val/loss"] == pytest.approx(total, rel=1e-6)


def test_steps_of_fusions_lower_the_loss_and_leave_the_adapters(tiny_bert, tmp_path):
    pytest.importorskip("adapters")
    adapted = with_adapters(str(tiny_bert), tmp_path / "adapted")
    wanted = AdapterSettings(reduction=4, fusion="dynamic")
    encoder = EncoderSettings(adapted, max_length=16, dropout=0.0, adapters=wanted)
    module = prepared(adapted, encoder=encoder)
    before = {n: p.detach().clone() for n, p in module.encoder.named_parameters()}
    trained = [p for n, p in module.encoder.named_parameters() if p.requires_grad]
    optimizer, seen = torch.optim.SGD(trained, lr=1e-2), []
    for _ in range(3):
        optimizer.zero_grad()
        seen.append(module.gradients(batch(), [batch()])["loss"].item())
        optimizer.step()
    assert seen[2] < seen[1] < seen[0]
    for name, parameter in module.encoder.named_parameters():
        assert torch.equal(parameter, before[name]) != ("adapter_fusion" in name), name


def test_a_format_without_an_adapter_and_an_adapter_without_a_task_are_refused(tiny_bert):
    pytest.importorskip("adapters")

    def checked(*formats):
        encoder = EncoderSettings(str(tiny_bert), adapters=AdapterSettings(formats))
        MultiTask(encoder).check(batch())

    checked("classification", "regression", "proximity", "adhoc_query")
    with pytest.raises(UserError, match="of format regression, which has no adapter"):
        checked("classification", "proximity", "adhoc_query")
    given = replace(batch(), formats=torch.zeros(7, dtype=torch.int64))
    encoder = EncoderSettings(
        str(tiny_bert), adapters=AdapterSettings(("classification", "proximity"))
    )
    with pytest.raises(UserError, match=r"has proximity, and no task.*'\[classification\]'"):
        MultiTask(encoder).check(given)


@pytest.mark.parametrize("negatives", ["one", "all"])
def test_pieces_are_whole_examples_and_nothing_that_meets_is_mixed_with_others(
    tiny_bert, negatives
):
    module, given = prepared(str(tiny_bert), negatives=negatives), batch()
    micro_batches = module.split(given, 9)
    assert len(micro_batches) > 2
    assert all(micro_batch.rows.tokens <= 9 for micro_batch in micro_batches)

    def spelled(part, rows, formats):
        texts = [
            (tuple(row.tolist()), f)
            for row, f in zip(rows.ids.split(rows.lengths.tolist()), formats.tolist(), strict=True)
        ]
        if isinstance(part, LabelPart):
            pairs = zip(part.text.tolist(), part.label.tolist(), strict=True)
            return [(part.task, texts[t], str(label)) for t, label in pairs]
        columns = (part.anchor.tolist(), part.positive.tolist(), part.negative.tolist())
        rows = zip(*columns, strict=True)
        return [(part.task, *(texts[t] for t in row)) for row in rows]

    def examples(batches):
        return sorted(
            found
            for one in batches
            for part in one.parts
            for found in spelled(part, one.rows, one.formats)
        )

    assert examples(micro_batches) == examples([given])
    compared = [
        {part.task == "near" for part in micro_batch.parts} for micro_batch in micro_batches
    ]
    if negatives == "all":
        assert all(len(kinds) == 1 for kinds in compared)
    again = prepared(str(tiny_bert), negatives=negatives)
    whole, split = module.gradients(given, [given]), again.gradients(given, micro_batches)
    for name, value in whole.items():
        assert split[name].item() == pytest.approx(value.item(), abs=1e-9)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


def test_what_meets_nobody_is_encoded_once(tiny_bert, monkeypatch):
    module, given = prepared(str(tiny_bert), negatives="all"), batch()
    micro_batches = module.split(given, 9)
    encoded = []
    forward = type(module.encoder).forward
    monkeypatch.setattr(
        type(module.encoder),
        "forward",
        lambda self, rows, formats: encoded.append(rows) or forward(self, rows, formats),
    )
    module.gradients(given, micro_batches)
    compared = sum(
        "near" in {part.task for part in micro_batch.parts} for micro_batch in micro_batches
    )
    assert 0 < compared < len(micro_batches)
    assert len(encoded) == len(micro_batches) + compared


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": {"a": 0.0}}, r"weights\.a is 0\.0"),
        ({"margin": -1.0}, "margin is in the unit"),
        ({"temperature": 0.1}, "temperature belongs to negatives: all"),
        ({"negatives": "all", "temperature": 0.0}, "temperature must be above 0"),
        ({"head_dropout": 1.0}, "head_dropout is 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny_bert, settings, said):
    with pytest.raises(UserError, match=said):
        MultiTask(EncoderSettings(str(tiny_bert)), **settings)


def test_examples_that_are_no_tasks_and_weights_of_none_are_refused(tiny_bert):
    module = MultiTask(EncoderSettings(str(tiny_bert)), weights={"b": 2.0})
    with pytest.raises(UserError, match="trains on tasks"):
        module.prepare([])
    with pytest.raises(UserError, match=r"weights\.b names no task .* its tasks are a"):
        module.prepare(DevTasks((TaskKind("a", "number"),), (), 0))
