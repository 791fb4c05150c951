import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.layers import repeated_layers
from sciembed_train.errors import UserError
from sciembed_train.methods.engine import sharding
from tests.helpers import training
from tests.helpers.cocitation_corpus import write_cocitation_corpus
from tests.helpers.document_files import write_document_corpus
from tests.helpers.processes import run_ranks
from tests.helpers.sharded_training import CHECKPOINTED, DDP, VARIANTS, on_a_rank
from tests.helpers.training import difference, small_corpus

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
NAMES = [*VARIANTS, CHECKPOINTED]
IN_FOUR = ["triplets, cut", "spans, cut"]


@pytest.fixture(scope="module")
def places(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharding")
    write_document_corpus(folder / "documents", tiny_bert)
    write_cocitation_corpus(folder / "cocited", tiny_bert)
    corpora = {
        "training": small_corpus(folder, tiny_bert),
        "span_training": folder / "documents",
        "pair_training": folder / "cocited",
    }
    return {f"tests.helpers.{k}": (str(v), str(tiny_bert)) for k, v in corpora.items()}


@pytest.fixture(scope="module")
def alone(places):
    """Each variant in one process on the whole batch."""
    return training.alone(on_a_rank, places, [*NAMES, DDP])


@pytest.fixture(scope="module", params=[pytest.param(None, marks=pytest.mark.slow)])
def two(places):
    """Each variant on two ranks that share the batch, and the weights."""
    return run_ranks(2, "tests.helpers.sharded_training", "on_a_rank", places, [*NAMES, DDP])


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_that_share_the_weights_make_the_steps_of_one_process(name, alone, two):
    for found in two:
        assert difference(found[name], alone[name], "gradients") < 1e-9
        assert difference(found[name], alone[name], "weights") < 1e-9
        assert found[name]["scores"] == pytest.approx(alone[name]["scores"], abs=1e-6)
        assert found[name]["moments are parts"]
        assert all(found[name]["moments are parts"])


def test_ddp_keeps_its_gradients_in_buckets_and_makes_the_same_steps(alone, two):
    assert not any(alone[DDP]["views"])
    for found in two:
        assert found[DDP]["views"]
        assert all(found[DDP]["views"])
        assert found[DDP]["searching"] == [False] * 3
        assert difference(found[DDP], alone[DDP], "gradients") < 1e-9
        assert difference(found[DDP], alone[DDP], "weights") < 1e-9


@pytest.mark.slow
def test_four_ranks_that_share_the_weights_make_the_steps_of_one_process(places, alone):
    for found in run_ranks(4, "tests.helpers.sharded_training", "on_a_rank", places, IN_FOUR):
        for name in IN_FOUR:
            assert difference(found[name], alone[name], "gradients") < 1e-9
            assert difference(found[name], alone[name], "weights") < 1e-9


def test_the_layers_are_those_of_the_backbone(tiny_bert, tiny_roberta):
    for folder in (tiny_bert, tiny_roberta):
        encoder = Encoder(EncoderSettings(str(folder), forward="padded"))
        assert repeated_layers(encoder.backbone) == list(encoder.backbone.encoder.layer)


def test_what_cannot_be_shared_out_is_refused(tiny_bert):
    unpadded = Encoder(EncoderSettings(str(tiny_bert)))
    with pytest.raises(UserError, match=r"encoder\.forward is unpadded\. Set it to padded or auto"):
        sharding.check(unpadded, unpadded.parameters())
    padded = Encoder(EncoderSettings(str(tiny_bert), forward="padded"))
    sharding.check(padded, padded.parameters())
    head = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"trains weights outside of it\. Use --trainer\.strategy"):
        sharding.check(padded, head.parameters())
    padded.backbone.encoder.layer = torch.nn.Sequential(*padded.backbone.encoder.layer)
    with pytest.raises(UserError, match="has no list of them"):
        sharding.check(padded, padded.parameters())
