"""Runs of every method that are begun on one number of processes and continued on another."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from sciembed_train import distributed
from sciembed_train.commands import fit
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.text.input_format import InputFormat
from sciembed_train.training.configuration import PREPARED
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.cocitation_corpus import write_cocitation_corpus, write_sentence_corpus
from tests.helpers.document_files import write_document_corpus
from tests.helpers.processes import run_ranks
from tests.helpers.runs import CONFIGS, StopAt
from tests.helpers.sentence_pair_corpus import write_citing_corpus
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.task_files import write_tasks

STEPS, HALF = 4, 2


class Exact(StopAt):
    """Trains in float64, and ends a run at a step as a signal does; at none if it is 0."""

    def setup(self, trainer, pl_module, stage):
        pl_module.double()


class Family(NamedTuple):
    """A kind of run: its recipe, what writes its data, and what more it is given."""

    recipe: str
    data: str
    more: tuple[str, ...] = ()


TASKS = ("--data.dev_share", "0.2", "--data.batch_size", "16", "--model.head_dropout", "0")
ADAPTERS = ("--model.encoder.adapters.reduction", "4", *TASKS)
SPANS = ("--data.sampling.max_span", "16", "--data.sampling.min_span", "4")
CUT = ("--model.max_tokens_per_backward", "150")
ALIGNED = ("--model.transport.temperature", "7")
EVERYTHING = (
    *("--model.guide", "start", "--model.keep", "0.5", "--model.learn_temperature", "true"),
    *("--data.sampling.hard_negatives", "2", "--data.sampling.negatives_from", "two_hop"),
    *("--data.sampling.sources_per_batch", "mixed", "--model.optim.ema", "0.9"),
)
FAMILIES = {
    "triplets, averaged": Family("specter", "triplets", ("--model.optim.ema", "0.9")),
    "triplets, cut": Family("specter", "triplets", CUT),
    "triplets of a query together": Family(
        "specter2_base", "triplets", ("--data.group_by_query", "true")
    ),
    "LoRA": Family("specter", "triplets", ("--model.encoder.lora.rank", "4")),
    "spans": Family("declutr_small", "documents", SPANS),
    "spans, cut": Family("declutr_sci_base", "documents", (*SPANS, *CUT)),
    "citations, all settings": Family("own_citations", "citing", EVERYTHING),
    "citations": Family("own_citations", "citing"),
    "citations, cut": Family("own_citations", "citing", (*EVERYTHING, *CUT)),
    "co-citations": Family("aspire_cocite_compsci_spec", "cocited"),
    "co-citations, mix": Family("aspire_cocite_compsci_scib", "cocited", CUT),
    "co-citations, all": Family(
        "aspire_cocite_biomed_spec", "cocited", ("--model.negatives", "all")
    ),
    "citing sentences": Family("aspire_sentence", "cited"),
    "transport": Family("aspire_ot_compsci", "sentenced", ALIGNED),
    "aligned": Family("aspire_ts_compsci", "sentenced"),
    "aligned and transport, cut": Family("aspire_tsot_compsci", "sentenced", (*ALIGNED, *CUT)),
    "adapters": Family("specter2_adapters", "tasks", ADAPTERS),
    "adapters, all, cut": Family(
        "specter2_adapters", "tasks", (*ADAPTERS, *CUT, "--model.negatives", "all")
    ),
    "fusion": Family("specter2_fusion", "tasks", ADAPTERS),
    "one adapter": Family("own_adapter", "labels", ADAPTERS),
    "codes": Family(
        *("specter2_adapters", "tasks"),
        (*TASKS, "--model.encoder.adapters", "null", "--model.encoder.control_codes", "true"),
    ),
}
# What an optional library makes.
NEEDS = {
    "LoRA": "peft",
    **{name: "adapters" for name, family in FAMILIES.items() if ADAPTERS[0] in family.more},
}
SIZES = {"year_pred": 30, "mesh": 40, "search": 20, "specter": 30}
WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "triplets": write_small_corpus,
    "documents": write_document_corpus,
    "citing": lambda to, model: write_citation_corpus(
        to, model, input_format=InputFormat(separator="space")
    ),
    "cocited": lambda to, model: write_cocitation_corpus(
        to, model, input_format=InputFormat(sentences="sep")
    ),
    "cited": write_citing_corpus,
    "sentenced": write_sentence_corpus,
    "tasks": lambda to, model: write_tasks(to, SIZES),
    "labels": lambda to, model: write_tasks(to, {"mesh": 40}),
}


def words(name: str, folder: Path, backbone: Path) -> list[str]:
    """What `fit` is given, without a name, processes, and where to stop; its data are written."""
    family = FAMILIES[name]
    data = folder / family.data
    if not data.exists():
        WRITERS[family.data](data, backbone)
    if family.data == "cited":
        data /= "corpus"
    if name == "fusion":
        plain, backbone = backbone, folder / "adapted"
        if not backbone.exists():
            adapters = AdapterSettings(reduction=4)
            Encoder(EncoderSettings(str(plain), adapters=adapters)).save(backbone)
    given = "--data.tasks" if family.data in ("tasks", "labels") else "--data.corpus"
    return [
        *("-c", str(CONFIGS / f"{family.recipe}.yaml"), given, str(data)),
        *("--model.encoder.backbone", str(backbone), "--model.encoder.max_length", "32"),
        *("--model.encoder.dropout", "0", "--data.batch_size", "8"),
        *("--model.optim.lr", "1e-3", "--model.optim.schedule", "constant"),
        *("--model.optim.warmup_steps", "0", "--model.optim.warmup_share", "0"),
        *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(HALF)),
        *("--trainer.log_every_n_steps", "1", "--trainer.accelerator", "cpu"),
        *("--trainer.precision", "32-true", "--verdict", "off", "--no_export"),
        *("--root", str(folder / "runs"), *family.more),
    ]


def run(given: Sequence[str], name: str, stop: int = 0, more: Sequence[str] = ()) -> str:
    """What `fit` says in this process, alone or one of several."""
    callback = ["--trainer.callbacks", "tests.helpers.elastic_runs.Exact"]
    callback += ["--trainer.callbacks.step", str(stop), *more]
    devices = ["--trainer.devices", str(distributed.world_size())]
    said = io.StringIO()
    os.environ.pop(PREPARED, None)  # of another corpus
    with contextlib.redirect_stderr(said):
        code = fit.main([*given, "--run", name, *devices, *callback])
    assert code == (143 if stop and not distributed.rank() else 0), said.getvalue()
    return said.getvalue()


def on_a_rank(given: dict[str, list[str]]) -> dict[str, str]:
    """Continue the runs of one process, and begin those that one process continues."""
    os.environ |= {"LOCAL_RANK": os.environ["RANK"], "NODE_RANK": "0"}  # Lightning starts none
    said = {}
    for name, words_of_run in given.items():
        said[name] = run(words_of_run, f"{name}, 1 to 2", more=["--ckpt_path", "last"])
        run(words_of_run, f"{name}, 2 to 1", stop=HALF)
    return said


class Continued(NamedTuple):
    """A run that never changed, at its half and its end, and the two that did; what was said."""

    half: dict
    whole: dict
    up: dict
    down: dict
    said_up: str
    said_down: str


def content(folder: Path, name: str) -> dict:
    return torch.load(folder / "runs" / name / "last.ckpt", weights_only=True)


def continued(names: Sequence[str], folder: Path, backbone: Path) -> dict[str, Continued]:
    """The checkpoints of the runs of some families."""
    given = {name: words(name, folder, backbone) for name in names}
    half = {}
    for name, words_of_run in given.items():
        run(words_of_run, f"{name}, whole")
        run(words_of_run, f"{name}, 1 to 2", stop=HALF)
        half[name] = content(folder, f"{name}, 1 to 2")
    up, second = run_ranks(2, __name__, on_a_rank.__name__, given)
    assert not any("continued on" in said for said in second.values()), "said twice"
    more = ["--ckpt_path", "last"]
    down = {name: run(w, f"{name}, 2 to 1", more=more) for name, w in given.items()}
    return {
        name: Continued(
            half[name],
            *(content(folder, f"{name}, {kind}") for kind in ("whole", "1 to 2", "2 to 1")),
            up[name],
            down[name],
        )
        for name in names
    }
