from contextlib import contextmanager

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.methods.engine.backward_passes import BackwardPasses


@pytest.fixture
def passes(tiny_bert):
    return BackwardPasses(Encoder(EncoderSettings(str(tiny_bert), dropout=0.0)))


def draw(passes, *place):
    passes.seed_dropout(*place)
    return torch.rand(1).item()


def test_dropout_is_a_function_of_seed_step_rank_and_micro_batch(passes, monkeypatch):
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    drawn = [draw(passes, *place) for place in places]
    assert len(set(drawn)) == 4
    assert [draw(passes, *place) for place in places] == drawn
    assert draw(passes, 1) == drawn[2]  # the first micro-batch's is the step's own
    passes.seed = 1
    assert draw(passes, 0) not in drawn
    passes.seed = 0
    monkeypatch.setattr("sciembed_train.distributed.rank", lambda: 1)
    assert draw(passes, 0) not in drawn


def test_gradients_are_exchanged_in_the_last_pass_alone(passes):
    entered = []

    @contextmanager
    def no_sync():
        entered.append(True)
        yield

    passes.no_sync = no_sync
    for last in (False, False, True):
        with passes.exchanging(last):
            pass
    assert len(entered) == 2


def test_ranks_that_share_weights_run_the_encoder_equally_often(passes):
    assert passes.forward_count(3) == 3
    passes.encoder.max_forwards_over_ranks = lambda own: own + 2
    assert passes.forward_count(3) == 5
    passes.dummy_forwards(2, passes.encoder.rows(["word1 word2", "word3"]))
    gradients = [p.grad for p in passes.encoder.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)
