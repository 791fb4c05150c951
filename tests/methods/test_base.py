import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from sciembed_train.batch import TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.declutr import Declutr
from sciembed_train.methods.specter import Specter
from tests.helpers import training
from tests.helpers.processes import run_ranks
from tests.helpers.training import VARIANTS, Plain, difference, on_a_rank, small_corpus, train

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    corpus = small_corpus(tmp_path_factory.mktemp("methods"), tiny_bert)
    return str(corpus), str(tiny_bert)


@pytest.fixture(scope="module")
def alone(place):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, *place, list(VARIANTS))


@pytest.fixture(scope="module")
def two(place):
    """Each variant on two ranks that share the batch."""
    return run_ranks(2, "tests.helpers.training", "on_a_rank", *place, list(VARIANTS))


@pytest.mark.parametrize("name", ["plain", "cut", "in batch"])
def test_gradients_of_two_ranks_equal_one_process(name, alone, two):
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9


@pytest.mark.parametrize(
    ("fault", "right"), [("world-size factor", "plain"), ("detached gather", "in batch")]
)
def test_a_planted_fault_is_seen(fault, right, alone, two):
    for found in two:
        assert difference(found[fault], alone[right], "gradients") > 1e-3
    assert difference(alone[fault], alone[right], "gradients") < 1e-9  # in one process it is none


def test_the_steps_are_clipped(alone):
    norms = np.linalg.norm(alone["plain"]["gradients"], axis=1)
    assert (norms > 0.1).all(), "nothing to clip: the test above would not see a wrong scale"


def test_a_cut_step_is_the_same_step(alone):
    assert difference(alone["cut"], alone["plain"], "gradients") < 1e-12
    assert difference(alone["cut"], alone["plain"], "weights") < 1e-9


def test_validation_of_two_ranks_equals_one_process(alone, two):
    assert set(alone["plain"]["scores"]) == {"val/loss", "val/mrr", "val/recall@10", "val/map"}
    for found in two:
        assert found["plain"]["scores"] == pytest.approx(alone["plain"]["scores"], abs=1e-6)
    assert two[0]["plain"]["scores"] == two[1]["plain"]["scores"]


def test_ranks_have_different_halves(two):
    assert two[0]["plain"]["triplets"] != two[1]["plain"]["triplets"]


def test_dropout_is_a_function_of_the_step(place):
    first, again = (train(Plain, *place, dropout=0.3) for _ in range(2))
    assert first["gradients"] == again["gradients"]
    without = train(Plain, *place, dropout=0.0)
    assert difference(first, without, "gradients") > 1e-3


def random_batch(lengths, triplets):
    rows = TokenRows(torch.arange(sum(lengths)), torch.tensor(lengths))
    return TripletBatch(rows, *torch.tensor(triplets).T, 7)


def test_settings_out_of_range_are_refused(tiny_bert):
    encoder = EncoderSettings(str(tiny_bert))
    with pytest.raises(ValueError, match="margin"):
        Specter(encoder, margin=-1.0)
    with pytest.raises(ValueError, match="max_tokens_per_backward"):
        Specter(encoder, max_tokens_per_backward=0)


@pytest.mark.parametrize("method", [Specter, Cocite, Declutr])
def test_methods_of_whole_texts_refuse_vectors_of_sentences(tiny_bert, method):
    with pytest.raises(UserError, match=rf"pooling is sentences, and {method.__name__} trains one"):
        method(EncoderSettings(str(tiny_bert), "sentences"))


def test_a_batch_of_another_step_is_a_defect(place):
    class Stuck(Plain):
        def training_step(self, batch, batch_idx):
            super().training_step(
                TripletBatch(batch.rows, batch.anchor, batch.positive, batch.negative, 5), 0
            )

    with pytest.raises(RuntimeError, match="the loader gave step 5, the optimiser is at 0"):
        train(Stuck, *place)


def test_a_half_precision_step_that_overflows_is_counted_and_changes_nothing(place):
    """A scaler on CPU skips as one on a GPU does: the data goes on, the weights wait."""
    overflow_at = 1

    class Overflows(Plain):
        def loss(self, batch):
            found = super().loss(batch)  # finite: a loss that is not is no overflow of the scale
            if batch.step == overflow_at:
                found.value.register_hook(lambda gradient: gradient * float("inf"))
            return found

        def on_train_batch_end(self, outputs, batch, batch_idx):
            weights = torch.cat([p.detach().flatten() for p in self.parameters()])
            self.__dict__.setdefault("after", []).append(weights)
            self.__dict__.setdefault("steps", []).append((batch.step, self.global_step))

    class Keeping(Overflows):
        made: ClassVar[list] = []

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.made.append(self)

    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    train(Keeping, *place, plugins=[precision], double=False)
    after = Keeping.made[0].after
    assert Keeping.made[0].steps == [(0, 1), (1, 2), (2, 3)]
    assert torch.equal(after[1], after[0])
    assert not torch.equal(after[2], after[1])
    assert torch.isfinite(after[2]).all()


@pytest.mark.parametrize(
    ("loss", "gradient", "scale", "left_out"),
    [
        (1.0, 1.0, 65536.0, False),
        (1.0, math.inf, 65536.0, False),  # the scaler's own overflow: it skips the step itself
        (1.0, math.inf, 1.0, True),  # no longer the scale's
        (math.nan, 1.0, 65536.0, True),
    ],
)
def test_fp16s_own_overflow_is_no_bad_step(tiny_bert, loss, gradient, scale, left_out):
    method = Specter(EncoderSettings(str(tiny_bert)))
    scaler = SimpleNamespace(get_scale=lambda: scale)
    plugin = SimpleNamespace(scaler=scaler)
    method.trainer = SimpleNamespace(precision_plugin=plugin, global_step=4, strategy=None)
    method._mean_loss = torch.tensor(loss)
    weight = next(p for p in method.parameters() if p.requires_grad)
    weight.grad = torch.full_like(weight, gradient)
    method.on_before_optimizer_step(torch.optim.SGD([weight], lr=1.0))
    assert (weight.grad is None) == left_out  # without gradients AdamW changes nothing
    assert method.finite_steps.read().total == left_out
    assert method.finite_steps.read().latest == (5 if left_out else 0)
