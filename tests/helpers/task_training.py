"""Three steps of training on tasks in one process or in each of several."""

from pathlib import Path
from typing import Literal

import torch

from sciembed_train import distributed
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.methods.specter2 import MultiTask
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.tasks import TaskSampling
from tests.helpers.adapter_models import stir
from tests.helpers.task_files import write_tasks
from tests.helpers.training import OPTIM, Watched, fitted

SIZES = {"year_pred": 30, "mesh": 60, "fos": 45, "search": 20, "specter": 40}


class Tasks(Watched, MultiTask):
    """As it is."""


class LocalNegatives(Tasks):
    """Others of the step that carry no gradient to the rank whose texts they are."""

    def gradients(self, batch, micro_batches):
        there = distributed.gather
        if distributed.world_size() > 1:
            # Its own rows stay in the graph, with a gradient of nothing.
            distributed.gather = lambda rows: distributed.gather_ragged(rows) + 0 * rows.sum()
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.gather = there


class OthersForItself(Tasks):
    """A text takes one of the first rank's for itself, wherever it is compared with others."""

    def gradients(self, batch, micro_batches):
        there = distributed.rank
        distributed.rank = lambda: 0
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.rank = there


class RanksOwnCounts(Tasks):
    """A sum over the ranks' means in place of their mean."""

    def gradients(self, batch, micro_batches):
        there = distributed.sum_over_ranks
        distributed.sum_over_ranks = lambda counts: counts
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.sum_over_ranks = there


VARIANTS: dict[str, dict] = {
    "one": {"weights": {"fos": 2.0}},
    "one, cut": {"weights": {"fos": 2.0}, "max_tokens_per_backward": 150},
    "all": {"negatives": "all"},
    "InfoNCE, cut": {"negatives": "all", "temperature": 0.5, "max_tokens_per_backward": 150},
    "InfoNCE": {"negatives": "all", "temperature": 0.5},
    "local negatives": {"negatives": "all", "method": LocalNegatives},
    "others for itself": {"method": OthersForItself},
    "own counts": {"method": RanksOwnCounts},
}
# Where the library is installed.
ADAPTED: dict[str, dict] = {
    "adapters": {"adapted": True},
    "adapters, cut": {"adapted": True, "negatives": "all", "max_tokens_per_backward": 150},
    "adapters, all": {"adapted": True, "negatives": "all"},
    "adapters, recomputed": {"adapted": True, "negatives": "all", "checkpointing": True},
    "fusion": {"adapted": "fused", "negatives": "all"},
    "fusion, padded, cut": {
        **{
            "adapted": "fused",
            "negatives": "all",
            "max_tokens_per_backward": 150,
            "forward": "padded",
        },
    },
}


def small_corpus(folder: Path, backbone: Path) -> Path:
    """Five tasks, of all losses together.

    Squared error (``year_pred``), cross-entropy and the contrastive loss (``mesh``), binary
    cross-entropy (``fos``), and triplets of two formats (``search``) and of one (``specter``).
    """
    from sciembed_train.corpus.build import prepare
    from sciembed_train.corpus.prepare_settings import PrepareSettings

    given = write_tasks(folder / "given", SIZES, mesh={"contrastive": True})
    settings = PrepareSettings(
        tasks=given, to=folder / "corpus", tokenizer=backbone, dev_share=0.2, test_share=0.0
    )
    prepare(settings)
    return folder / "corpus"


def with_adapters(backbone: str, folder: Path) -> str:
    """The folder of a model whose adapters tell formats apart."""
    encoder = Encoder(EncoderSettings(backbone, adapters=AdapterSettings(reduction=4)))
    stir(encoder.backbone, encoder.format_reader)
    encoder.save(folder)
    return str(folder)


def train(
    corpus: str,
    backbone: str,
    method: type[Tasks] = Tasks,
    steps: int = 3,
    adapted: bool | str = False,
    checkpointing: bool = False,
    forward: Literal["auto", "padded"] = "auto",
    trainer: dict | None = None,
    **settings,
) -> dict:
    """What came of some steps: in float64, or with the trainer's own settings as it computes."""
    how: dict = {"adapters": AdapterSettings(reduction=4)} if adapted else {"control_codes": True}
    if adapted == "fused":
        how = {"adapters": AdapterSettings(reduction=4, fusion="dynamic")}
    place = Path(corpus).parent / "with_adapters" if adapted == "fused" else backbone
    how |= {"gradient_checkpointing": checkpointing, "forward": forward}
    encoder = EncoderSettings(str(place), max_length=24, dropout=0.0, **how)
    torch.manual_seed(0)  # of the heads and of the codes
    module = method(encoder, OPTIM, head_dropout=0.0, **settings)
    examples = DataSettings(sampling=TaskSampling(), corpus=corpus, batch_size=24)
    data = TrainingData.open(examples, backbone, 24)
    module.prepare(data.dev)
    if trainer is None:
        return fitted(module.double(), data, steps)
    return fitted(module, data, steps, **trainer)


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    every = VARIANTS | ADAPTED
    torch.use_deterministic_algorithms(True)
    return {name: train(corpus, backbone, **every[name]) for name in names}
