"""Three steps of contrastive training on citations in one process or in each of several."""

import importlib.util
from typing import Any

import torch

from sciembed_train import distributed
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.citation_contrast import CitationContrast
from sciembed_train.methods.distillation import Distillation
from sciembed_train.methods.nested import score_names
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from tests.helpers.teachers import RandomTeacher
from tests.helpers.training import OPTIM, Watched, fitted

HARD = {"hard_negatives": 2, "negatives_from": "two_hop"}


class Contrast(Watched, CitationContrast):
    """As it is."""


class DetachedGather(Contrast):
    """Candidates that carry no gradient to the rank whose texts they are."""

    def gradients(self, batch, micro_batches):
        kept = distributed.gather
        if distributed.world_size() > 1:
            # The hard negatives are used through the gather alone: they keep a gradient of 0.
            distributed.gather = lambda rows: distributed.gather_ragged(rows) + 0 * rows.sum()
        try:
            return super().gradients(batch, micro_batches)
        finally:
            distributed.gather = kept


def train(
    corpus: str,
    backbone: str,
    method: Any = Contrast,
    sampling: dict | None = None,
    steps: int = 3,
    dropout: float = 0.0,
    double: bool = True,
    trainer: dict | None = None,
    forward: Any = "auto",
    lora: LoraSettings | None = None,
    teacher_dim: int | None = None,
    **settings,
) -> dict:
    encoder = EncoderSettings(
        backbone, pooling="mean", max_length=64, dropout=dropout, forward=forward, lora=lora
    )
    torch.manual_seed(0)  # LoRA begins with random numbers
    if teacher_dim is not None:
        settings["teacher"] = "random"
    module = method(encoder, OPTIM, **settings)
    pairs = CitationPairSampling(**{"sources_per_batch": "mixed", **HARD, **(sampling or {})})
    examples = DataSettings(sampling=pairs, corpus=corpus, batch_size=8)
    data = TrainingData.open(examples, backbone, 64)
    if teacher_dim is not None:
        module.learn_from(RandomTeacher(teacher_dim, data.corpus.n_papers))
    result = fitted(module.double() if double else module, data, steps, **(trainer or {}))
    module.prepare(data.dev)
    batches = [data.train_dataloader().dataset[s] for s in range(steps)]
    return {
        **result,
        "hard": [len(batch.hard_kept) for batch in batches],
        "excluded": sum(len(batch.excluded) for batch in batches),
        "reported": [
            *module.reported_scores,
            *score_names(module.nested_score, module.nested.dims),
        ],
        "temperature": module.current_temperature,
        "start encoded": module.start_vectors.encoded if module.start_vectors else 0,
    }


EVERYTHING: dict[str, Any] = {
    "learn_temperature": True,
    "temperature_lr": 3.0,
    "guide": "start",
    "keep": 0.5,
}
NESTED = {"matryoshka_dims": (8, 32), "matryoshka_weights": (0.5, 2.0)}
RANKING = {"teacher_dim": 20, "distil": Distillation(weight=0.7, temperature=0.2)}
COSINE = {"teacher_dim": 20, "distil": Distillation("cosine", weight=2.0, contrast=0.5)}
VARIANTS: dict[str, dict] = {
    "plain": {},
    "no hard negatives": {"sampling": {"hard_negatives": 0, "sources_per_batch": "one"}},
    "learned": {"learn_temperature": True, "temperature_lr": 3.0},
    "guided": {"guide": "start"},
    "kept": {"keep": 0.5},
    "everything": EVERYTHING,
    "split": {**EVERYTHING, "max_tokens_per_backward": 150},
    "nested": {**EVERYTHING, **NESTED},
    "nested, split": {**EVERYTHING, **NESTED, "max_tokens_per_backward": 150},
    "padded": {**EVERYTHING, "forward": "padded"},
    "detached gather": {"method": DetachedGather},
    "ranking": {**EVERYTHING, **NESTED, **RANKING},
    "ranking, split": {**EVERYTHING, **NESTED, **RANKING, "max_tokens_per_backward": 150},
    "cosine": COSINE,
    "cosine, split": {**COSINE, "max_tokens_per_backward": 150},
}
if importlib.util.find_spec("peft") is not None:
    LORA = {**EVERYTHING, "lora": LoraSettings(rank=4, targets=("query", "output.dense"))}
    VARIANTS["lora"] = LORA
    VARIANTS["lora, split"] = {**LORA, "max_tokens_per_backward": 150}


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    return {name: train(corpus, backbone, **VARIANTS[name]) for name in names}
