"""Record the numbers of a checkout, or compare them with recorded ones bit by bit.

    python tests/equality/record.py --to numbers.json                  # record this checkout
    python tests/equality/record.py --against tests/equality/numbers.json
    python tests/equality/record.py --to numbers.json --only specter   # these cases anew
    python tests/equality/record.py --checkout DIR --only specter ot --processes 1 --against FILE

A *case* prepares a corpus or trains a method for twenty steps on synthetic inputs (`toy`), and
records every loss, score, weight and vector of it. The package under test is driven through its
command line alone. All of its words that a renaming could touch stand in the tables below.

Every command runs in a process forked from one that has imported the libraries, on one thread, so
that the numbers do not depend on the number of cores. Two ranks are two such processes, started
with the variables that torchrun sets.

Left out, because it changes from run to run or may change rightly:

- speeds, waiting times and memory in ``metrics.csv`` (`TIMED`), and ``report.html`` with them;
- versions of the libraries and of the package in ``sciembed.json`` and ``config.json``;
- ``config.yaml``, ``README.md`` of an export and its own code: texts and keys, no numbers;
- names of parameters, for modules may be renamed: weights are compared as a bag of tensors. What
  a checkpoint calls them, and the texts of ``report.json``, are recorded as *notes*: differences
  there are reported and do not fail;
- the name of an alignment, a checksum that includes the names of parameters;
- compiled layers: the compiler takes minutes.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "GLOO_SOCKET_IFNAME": "lo",
}

import numpy as np  # noqa: E402
from pytorch_lightning import Callback  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))

import toy  # noqa: E402

# --- What a renaming may touch ------------------------------------------------------------------

PACKAGE = "sciembed_train"

COMMANDS = {
    name: name
    for name in (
        *("prepare", "fit", "validate", "align", "embed", "evaluate", "compare"),
        *("export", "import", "show"),
    )
}

# Files in configs/, without .yaml.
RECIPES = {
    "specter": "specter",
    "specter2": "specter2_base",
    "declutr": "declutr_base",
    "cocite": "aspire_cocite_compsci_spec",
    "cosentbert": "aspire_sentence",
    "ts": "aspire_ts_compsci",
    "ot": "aspire_ot_compsci",
    "tsot": "aspire_tsot_compsci",
    "adapters": "specter2_adapters",
    "fusion": "specter2_fusion",
    "own_adapter": "own_adapter",
}

# Options of fit and validate.
KEYS = {
    "recipe": "-c",
    "root": "--root",
    "run": "--run",
    "quiet": "--quiet",
    "no_export": "--no_export",
    "json": "--json",
    "ckpt_path": "--ckpt_path",
    "verdict": "--verdict",
    "monitor": "--checkpoint.monitor",
    "corpus": "--data.corpus",
    "papers": "--data.papers",
    "citations": "--data.citations",
    "contexts": "--data.contexts",
    "dev_share": "--data.dev_share",
    "dev_examples": "--data.dev_examples",
    "per_query": "--data.triplets.per_query",
    "batch_size": "--data.batch_size",
    "group_by_query": "--data.group_by_query",
    "pair_negatives": "--data.sampling.init_args.negatives",
    "align": "--data.sampling.init_args.align",
    "aligned_by": "--data.sampling.init_args.aligned_by",
    "max_span": "--data.sampling.max_span",
    "min_span": "--data.sampling.min_span",
    "num_anchors": "--data.sampling.num_anchors",
    "num_positives": "--data.sampling.num_positives",
    "span_strategy": "--data.sampling.strategy",
    "short_documents": "--data.sampling.short_documents",
    "mlm_probability": "--data.sampling.mlm_probability",
    "mask_anchor": "--data.sampling.mask_anchor_for_contrastive",
    "epoch": "--data.sampling.epoch",
    "cap": "--data.sampling.cap",
    "tasks_reproduce": "--data.sampling.reproduce",
    "backbone": "--model.encoder.backbone",
    "max_length": "--model.encoder.max_length",
    "forward": "--model.encoder.forward",
    "attention": "--model.encoder.attention",
    "pooling": "--model.encoder.pooling",
    "dropout": "--model.encoder.dropout",
    "separator": "--model.encoder.input_format.separator",
    "gradient_checkpointing": "--model.encoder.gradient_checkpointing",
    "control_codes": "--model.encoder.control_codes",
    "mix_init": "--model.encoder.mix_init",
    "adapters": "--model.encoder.adapters",
    "reduction": "--model.encoder.adapters.reduction",
    "lr": "--model.optim.lr",
    "schedule": "--model.optim.schedule",
    "warmup_steps": "--model.optim.warmup_steps",
    "clip_norm": "--model.optim.clip_norm",
    "weight_decay": "--model.optim.weight_decay",
    "step_tokens": "--model.max_tokens_per_backward",
    "negatives": "--model.negatives",
    "temperature": "--model.temperature",
    "margin": "--model.margin",
    "mix_lr": "--model.mix_lr",
    "contrastive_weight": "--model.contrastive_weight",
    "mlm_weight": "--model.mlm_weight",
    "reproduce": "--model.reproduce",
    "objective": "--model.objectives.",  # and its name
    "transport_temperature": "--model.transport.temperature",
    "aligned_anchor": "--model.aligned_anchor",
    "max_steps": "--trainer.max_steps",
    "max_epochs": "--trainer.max_epochs",
    "val_check_interval": "--trainer.val_check_interval",
    "log_every": "--trainer.log_every_n_steps",
    "accelerator": "--trainer.accelerator",
    "devices": "--trainer.devices",
    "precision": "--trainer.precision",
    "strategy": "--trainer.strategy",
    "callbacks": "--trainer.callbacks",
}

# Options of the other commands.
WORDS = {
    "to": "--to",
    "quiet": "--quiet",
    "json": "--json",
    "model": "--model",
    "papers": "--papers",
    "citations": "--citations",
    "pairs": "--pairs",
    "contexts": "--contexts",
    "cocitations": "--cocitations",
    "cocitations_from": "--cocitations-from",
    "fulltexts": "--fulltexts",
    "tasks": "--tasks",
    "tokenizer": "--tokenizer",
    "sentence_tokens": "--sentence-tokens",
    "sentence_pairs": "--sentence-pairs",
    "separator": "--separator",
    "sentences": "--sentences",
    "faithful": "--faithful",
    "dev_share": "--dev-share",
    "test_share": "--test-share",
    "dev_ids": "--dev-ids",
    "test_ids": "--test-ids",
    "exclude": "--exclude",
    "per_query": "--per-query",
    "hard": "--hard",
    "no_require_hard": "--no-require-hard",
    "seed": "--seed",
    "threads": "--threads",
    "max_bad_rows": "--max-bad-rows",
    "max_pairs": "--max-pairs",
    "no_mask_marks": "--no-mask-mentions",
    "task_negatives": "--task-negatives",
    "dev_in_train": "--dev-in-train",
    "csv": "--csv",
    "input": "--input",
    "format_token": "--format-token",
    "pooling": "--pooling",
    "precision": "--precision",
    "benchmark": "--benchmark",
    "data": "--data",
    "split": "--split",
    "facet": "--facet",
    "scorer": "--scorer",
    "layout": "--layout",
    "adapter": "--adapter",
    "base": "--base",
    "similarity": "--similarity",
    "name": "--name",
    "temperature": "--temperature",
    "recipe": "-c",
    "count": "--count",
    "show_corpus": "--data.corpus",
    "show_backbone": "--model.encoder.backbone",
}

# Columns of metrics.csv that depend on the machine.
TIMED = ("tokens_per_second", "data_time_share", "peak_memory_gb")
# Scores that are written out; a checksum has them all.
MAIN = ("map_grade1", "map_grade2", "ndcg_log2", "recall10_grade1", "f1_macro", "kendall_tau_b")
# What JSON files of an export say of versions.
VERSIONS = ("versions", "transformers_version", "__version__", "torch_version")
# Of a corpus folder, and of an export: what tells of itself, and what is checked as text.
CORPUS_INFO, CORPUS_REPORT, ALIGNMENTS = "corpus.json", "report.json", "alignments"
NEWER = ("paper_splits.npy", "report.html")  # files of a corpus that came after the recording
METRICS, LAST, BEST, EXPORT = "metrics.csv", "last.ckpt", "best.ckpt", "export"
STATE, OPTIMIZERS = "state_dict", "optimizer_states"

# --- Numbers ------------------------------------------------------------------------------------

STEPS = 20


def short(digest: "hashlib._Hash") -> str:
    """Twelve digits are enough to tell that something changed."""
    return f"#{digest.hexdigest()[:12]}"


def file_digest(path: Path) -> str:
    return short(hashlib.sha256(path.read_bytes()))


def text_digest(text: str) -> str:
    return short(hashlib.sha256(text.encode()))


def json_digest(content: Any) -> str:
    return text_digest(json.dumps(content, sort_keys=True))


def tensors_in(content: Any) -> Iterator[Any]:
    """Every tensor of nested dicts and lists."""
    import torch

    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from tensors_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from tensors_in(value)


def bag(content: Any) -> dict[str, Any]:
    """A checksum of tensors that does not depend on their names or order, and their norm."""
    import torch

    digests, squares = [], []
    for tensor in tensors_in(content):
        value = tensor.detach().cpu().contiguous()
        head = f"{value.dtype} {tuple(value.shape)} ".encode()
        body = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        digests.append(hashlib.sha256(head + body).hexdigest())
        if value.is_floating_point():
            squares.append(float(np.square(value.double().numpy()).sum()))
    return {
        "tensors": len(digests),
        "norm": repr(math.sqrt(math.fsum(squares))),
        "bytes": text_digest("\n".join(sorted(digests))),
    }


def metrics_of(path: Path) -> dict[str, str]:
    """Every column of ``metrics.csv``, its values as they stand there."""
    import csv

    found: dict[str, dict[str, str]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for column, value in row.items():
                if value and column != "step" and not column.endswith(TIMED):
                    found.setdefault(column, {})[row["step"]] = value
    return {column: spelled(values) for column, values in sorted(found.items())}


def spelled(values: dict[str, str]) -> str:
    """Values by step as a short text: ``10,20: 0.5 0.25``, ``0.5 x20`` where all are equal."""
    steps, all_steps = list(values), [str(n + 1) for n in range(len(values))]
    head = "" if steps == all_steps else f"{','.join(steps)}: "
    same = len(values) > 1 and len(set(values.values())) == 1
    return head + (f"{values[steps[0]]} x{len(steps)}" if same else " ".join(values.values()))


def by_step(text: str) -> dict[str, str]:
    """What `spelled` wrote."""
    head, _, body = text.rpartition(": ")
    first, _, count = body.partition(" x")
    values = [first] * int(count) if count else body.split()
    steps = head.split(",") if head else [str(n + 1) for n in range(len(values))]
    return dict(zip(steps, values, strict=True))


def without_versions(content: Any) -> Any:
    """JSON content without what tells of versions."""
    if isinstance(content, dict):
        return {k: without_versions(v) for k, v in content.items() if k not in VERSIONS}
    return [without_versions(v) for v in content] if isinstance(content, list) else content


def folder_of_model(folder: Path) -> dict[str, Any]:
    """Every file of an exported model: weights as bags, JSON without versions, others by name."""
    import torch
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            found[name] = bag(load_file(path))
        elif path.suffix in (".pt", ".bin", ".ckpt"):
            found[name] = bag(torch.load(path, weights_only=True, map_location="cpu"))
        elif path.suffix == ".json":
            content = without_versions(json.loads(path.read_text(encoding="utf-8")))
            found[name] = json_digest(content)
        elif path.suffix == ".txt":
            found[name] = file_digest(path)
        else:
            found[name] = "there"
    return found


def run_of(folder: Path) -> dict[str, Any]:
    """What a run has left: metrics, checkpoints, export."""
    import torch

    found: dict[str, Any] = {"metrics": metrics_of(folder / METRICS)}
    notes: dict[str, Any] = {}
    for name in (LAST, BEST):
        if not (folder / name).is_file():
            continue
        content = torch.load(folder / name, weights_only=True, map_location="cpu")
        found[name] = {
            "step": content["global_step"],
            "weights": bag(content[STATE]),
            "optimizer": bag(content[OPTIMIZERS]),
        }
        notes[f"names in {name}"] = json_digest([sorted(content), sorted(content[STATE])])
    if (folder / EXPORT).is_dir():
        found[EXPORT] = folder_of_model(folder / EXPORT)
    return {**found, "notes": notes}


def parquet_of(path: Path) -> dict[str, Any]:
    """Rows of a Parquet file, and a checksum of each column's values."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns = {name: text_digest(repr(table[name].to_pylist())) for name in table.column_names}
    return {"rows": table.num_rows, **dict(sorted(columns.items()))}


def corpus_of(folder: Path) -> dict[str, Any]:
    """Every file of a corpus folder, its counts and what was left out of it."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        parts = list(path.relative_to(folder).parts)
        if parts[0] in NEWER:
            continue
        if parts[0] == ALIGNMENTS:
            parts[1] = "NAME"
        name = "/".join(parts)
        if path.suffix == ".parquet":
            found[name] = parquet_of(path)
        elif path.suffix in (".npy", ".bin"):
            found[name] = file_digest(path)
        else:
            found[name] = "there"
    info = json.loads((folder / CORPUS_INFO).read_text(encoding="utf-8"))
    found["counts"] = info["counts"]
    report = json.loads((folder / CORPUS_REPORT).read_text(encoding="utf-8"))
    numbers = sorted(str(n) for n in leaves(report) if isinstance(n, int | float))
    found["numbers of the report"] = text_digest(" ".join(numbers))
    found["notes"] = {"report": json_digest(report), "info": json_digest(sorted(info))}
    return found


def leaves(content: Any) -> Iterator[Any]:
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from leaves(value)
    else:
        yield content


def vectors_of(path: Path) -> dict[str, Any]:
    """A file of embeddings: its checksum and its first numbers."""
    if path.suffix == ".npy":
        vectors = np.load(path)
        first = " ".join(repr(float(x)) for x in vectors[0, :4])
        ids = file_digest(path.with_suffix(".ids.txt"))
        return {
            "shape": list(vectors.shape),
            "first": first,
            "ids": ids,
            "bytes": file_digest(path),
        }
    if path.suffix == ".parquet":
        return parquet_of(path)
    return {"bytes": file_digest(path)}


# --- Commands -----------------------------------------------------------------------------------


class Failed(Exception):
    """A command did not leave with the code that was expected."""


@dataclass
class Bench:
    """Where a recording has its files, and how it runs commands.

    Args:
        checkout: the folder whose code is tested.
        place: a temporary folder.
    """

    checkout: Path
    place: Path
    calls: int = 0

    @property
    def toy(self) -> Path:
        return self.place / "toy"

    def corpus(self, name: str) -> Path:
        return self.place / "corpora" / name

    def run(self, name: str, processes: int = 1) -> Path:
        return self.place / "runs" / f"{name}_{processes}"

    def export(self, name: str) -> Path:
        """The export of a run of one process."""
        return self.run(name) / EXPORT

    def call(self, verb: str, *words: Any, processes: int = 1, code: int = 0) -> str:
        """What a command prints on the first rank.

        Raises:
            Failed: it leaves with another code.
        """
        from importlib import import_module

        main = import_module(f"{PACKAGE}.cli").main
        argv = [COMMANDS[verb], *map(str, words)]
        return self.fork(partial(main, argv), " ".join(argv), processes, code)

    def fork(self, do: Callable[[], Any], what: str, processes: int = 1, code: int = 0) -> str:
        """Run something in processes of their own; what the first one printed."""
        self.calls += 1
        logs = [self.place / f"call{self.calls}.{rank}" for rank in range(processes)]
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        sys.stdout.flush()
        children = []
        for rank, log in enumerate(logs):
            child = os.fork()
            if child == 0:
                _as_child(do, self.place, log, rank, processes, port)
            children.append(child)
        codes = _ended(children)
        if codes[0] != code or any(codes[1:]):
            told = "\n".join(
                f"rank {rank} left with {left}:\n{log.with_suffix('.err').read_text()[-3000:]}"
                for rank, (left, log) in enumerate(zip(codes, logs, strict=True))
            )
            raise Failed(f"{what}\n{told}")
        return logs[0].with_suffix(".out").read_text(encoding="utf-8")


def _as_child(
    do: Callable[[], Any], place: Path, log: Path, rank: int, processes: int, port: int
) -> None:
    """Run something and leave the process."""
    left = 1
    try:
        for number, suffix in ((1, ".out"), (2, ".err")):
            opened = os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        os.chdir(place)
        if processes > 1:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "GROUP_RANK": "0",
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "TORCHELASTIC_RUN_ID": "equality",
            }
        left = do() or 0
    except SystemExit as error:
        left = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left)


def _ended(children: Sequence[int], seconds: float = 240) -> list[int]:
    """Exit codes; when one has failed, or time is up, the others are ended."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(children):
        for child in set(children) - codes.keys():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
        if len(codes) < len(children):
            if any(code not in (0, 143) for code in codes.values()):
                end = min(end, time.monotonic() + 5)
            if time.monotonic() > end:
                for child in set(children) - codes.keys():
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
    return [codes[child] for child in children]


def options(table: dict[str, str], **given: Any) -> list[str]:
    """Words for options by their names in a table; True stands for an option without a value."""
    words: list[str] = []
    for name, value in given.items():
        words += [table[name]] if value is True else [table[name], str(value)]
    return words


class StopAt(Callback):
    """Has a signal come to every rank while a step is made."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGTERM)


# --- Cases --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is recorded under one name.

    Args:
        make: does it, given the bench and the number of processes; returns what is recorded.
        needs: cases that must be made before.
        processes: with how many processes it is made.
    """

    make: Callable[[Bench, int], dict[str, Any]]
    needs: tuple[str, ...] = ()
    processes: tuple[int, ...] = (1, 2)


CASES: dict[str, Case] = {}


def prepared(name: str, files: dict[str, str], **given: Any) -> None:
    """A case of `prepare`: ``files`` are options whose values lie among the inputs."""

    def make(bench: Bench, processes: int) -> dict[str, Any]:
        places = {option: bench.toy / file for option, file in files.items()}
        csv = {"csv": bench.place / f"{name}_csv"} if given.get("csv") else {}
        words = options(WORDS, **{**given, **places, **csv}, to=bench.corpus(name), quiet=True)
        bench.call("prepare", *words)
        found = corpus_of(bench.corpus(name))
        for path in sorted(csv["csv"].iterdir()) if csv else ():
            found[f"csv/{path.name}"] = file_digest(path)
        return found

    CASES[f"prepare_{name}"] = Case(make, processes=(1,))


SHARES = {"dev_share": 0.12, "test_share": 0.1}
CITED = {"papers": "papers.jsonl", "citations": "citations.csv", "tokenizer": "bert"}
CITING = {"papers": "papers.jsonl", "contexts": "contexts.jsonl", "tokenizer": "bert"}

prepared("triplets", CITED, csv=True, **SHARES)
prepared("triplets_roberta", {**CITED, "tokenizer": "roberta"}, separator="space", **SHARES)
prepared(
    "ids",
    {**CITED, "dev_ids": "dev_ids.txt", "test_ids": "test_ids.txt"},
    **{"per_query": 4, "hard": 1, "no_require_hard": True, "seed": 3, "sentences": "sep"},
)
prepared("bad_rows", {**CITED, "papers": "bad_papers.jsonl"}, max_bad_rows=2)
prepared(
    "pairs",
    {"papers": "papers.jsonl", "pairs": "pairs.tsv", "tokenizer": "bert"},
    dev_share=0.2,
)
prepared(
    "cocited",
    {**CITING, "cocitations": "counts.tsv", "exclude": "exclude_ids.txt"},
    **SHARES,
    **{"sentence_tokens": True, "sentence_pairs": "set", "sentences": "sep"},
)
prepared("citing", CITING, **SHARES, sentence_pairs="set")
prepared("sentenced", CITING, **SHARES, sentence_tokens=True, sentence_pairs="paper")
prepared("faithful", CITING, faithful=True)
prepared(
    "references",
    {**CITED, "cocitations": "counts.tsv"},
    **{"cocitations_from": "references", "max_pairs": 9},
)
prepared("documents", {"fulltexts": "documents.jsonl", "tokenizer": "bert"}, **SHARES)
prepared("documents_roberta", {"fulltexts": "documents.jsonl", "tokenizer": "roberta"}, **SHARES)
prepared(
    "fulltexts",
    {"papers": "papers.jsonl", "fulltexts": "fulltexts", "tokenizer": "bert"},
    **{"cocitations_from": "fulltexts", "sentence_pairs": "paper"},
)
prepared("specter", {"papers": "specter", "tokenizer": "bert"})
prepared("tasks", {"tasks": "tasks/tasks_config.json", "tokenizer": "bert"}, dev_share=0.2)
prepared("own", {"tasks": "tasks/own.json", "tokenizer": "bert"}, dev_share=0.2)
prepared(
    "tasks_last",
    {"tasks": "tasks/tasks_config.json"},
    **{"task_negatives": "last", "dev_in_train": True, "seed": 5},
)


def fit_words(
    bench: Bench, name: str, processes: int, recipe: str, corpus: str | None, **given: Any
) -> list[str]:
    """The words of a run of twenty steps with two validations."""
    common: dict[str, Any] = {
        "recipe": bench.checkout / "configs" / f"{RECIPES[recipe]}.yaml",
        "root": bench.place / "runs",
        "run": f"{name}_{processes}",
        "backbone": bench.toy / "bert",
        "max_length": 48,
        "batch_size": 32,
        "lr": 1e-3,
        "max_steps": STEPS,
        "max_epochs": 100,
        "val_check_interval": 10,
        "log_every": 1,
        "accelerator": "cpu",
        "devices": processes,
        "precision": "32-true",
        "verdict": "off",  # which may mix the start's weights into what is exported
        "quiet": True,
    }
    if corpus is not None:
        common["corpus"] = bench.corpus(corpus)
    return options(KEYS, **{**common, **given})


More = Callable[[Bench, Path], dict[str, Any]]


def fitted(
    name: str,
    recipe: str,
    corpus: str | None,
    *,
    more: More | None = None,
    toys: dict[str, str] | None = None,
    exports: dict[str, str] | None = None,
    extra: Sequence[str] = (),
    needs: tuple[str, ...] = (),
    processes: tuple[int, ...] = (1, 2),
    **given: Any,
) -> None:
    """A case of `fit`.

    Args:
        name: of the case and its run.
        recipe: in `RECIPES`.
        corpus: that a case of `prepare` makes; None where raw files are given.
        more: what else is recorded of the run of one process.
        toys: options whose values lie among the inputs.
        exports: options whose values are exports of other cases.
        extra: words besides.
        needs: other cases that it needs.
        processes: with how many it runs.
        given: options.
    """
    before = (f"prepare_{corpus}",) if corpus else ()

    def make(bench: Bench, processes: int) -> dict[str, Any]:
        places = {option: bench.toy / file for option, file in (toys or {}).items()}
        places |= {option: bench.export(case) for option, case in (exports or {}).items()}
        said = {**given, **places}
        if processes > 1 and name != "specter":  # an export is the same of any number
            said["no_export"] = True
        words = fit_words(bench, name, processes, recipe, corpus, **said)
        bench.call("fit", *words, *extra, processes=processes)
        run = bench.run(name, processes)
        found = run_of(run)
        if found[LAST]["step"] != STEPS:
            raise Failed(f"{run} ended at step {found[LAST]['step']}, not {STEPS}")
        if more is not None and processes == 1:
            found |= more(bench, run)
        return found

    CASES[name] = Case(make, before + tuple((exports or {}).values()) + needs, processes)


def embedded(bench: Bench, model: Path, ending: str, label: str = "", **given: Any) -> Any:
    """The vectors of all papers."""
    to = bench.place / "vectors" / f"{model.parent.name}{model.name}{label}{ending}"
    words = options(WORDS, model=model, input=bench.toy / "papers.jsonl", to=to, quiet=True)
    bench.call("embed", *words, *options(WORDS, **given))
    return vectors_of(to)


def scored(bench: Bench, model: Any, benchmark: str, data: Path, **given: Any) -> dict[str, Any]:
    """The main scores on a benchmark, and a checksum of all and of those of each query."""
    words = options(WORDS, model=model, benchmark=benchmark, data=data, json=True, **given)
    told = json.loads(bench.call("evaluate", *words))
    main = {name: repr(value) for name, value in told["metrics"].items() if name.endswith(MAIN)}
    return main | {"all": json_digest(told["metrics"]), "queries": json_digest(told["per_query"])}


def validated(bench: Bench, run: Path) -> dict[str, str]:
    """The scores of a run's best checkpoint, again."""
    words = [KEYS["recipe"], run / "config.yaml", *options(KEYS, ckpt_path=run, json=True)]
    told = json.loads(bench.call("validate", *words))
    return {name: repr(value) for name, value in told.items()}


def after_specter(bench: Bench, run: Path) -> dict[str, Any]:
    model, judged = run / EXPORT, bench.toy / "judged"
    triplets = bench.corpus("triplets")
    return {
        "embed": embedded(bench, model, ".npy"),
        "embed jsonl": embedded(bench, model, ".jsonl"),
        "embed mean": embedded(bench, model, ".npy", "mean", pooling="mean"),
        "embed the run": embedded(bench, run, ".parquet"),
        "citations": scored(bench, model, "citations", triplets),
        "citations dev": scored(bench, model, "citations", triplets, split="dev"),
        "citations bm25": scored(bench, "bm25", "citations", triplets),
        "citations random": scored(bench, "random", "citations", triplets, seed=1),
        "retrieval": scored(bench, model, "retrieval", bench.toy / "retrieval"),
        "retrieval bm25": scored(bench, "bm25", "retrieval", bench.toy / "retrieval"),
        "csfcube": scored(bench, model, "csfcube", judged / "cube"),
        "relish": scored(bench, model, "relish", judged / "relish"),
        "relish cosine": scored(bench, model, "relish", judged / "relish", similarity="cosine"),
        "validate": validated(bench, run),
    }


def only_embedded(bench: Bench, run: Path) -> dict[str, Any]:
    return {"embed": embedded(bench, run / EXPORT, ".npy")}


quick = partial(fitted, no_export=True)

fitted("specter", "specter", "triplets", more=after_specter)
quick("specter_cut", "specter", "triplets", step_tokens=400)
quick("specter_padded", "specter", "triplets", forward="padded", monitor="val/map")
fitted(
    "specter_roberta",
    "specter",
    "triplets_roberta",
    **{"toys": {"backbone": "roberta"}, "more": only_embedded, "separator": "space"},
)
quick("specter_bf16", "specter", "triplets", precision="bf16-mixed")
quick(
    "specter_recomputed",
    "specter",
    "triplets",
    **{"gradient_checkpointing": "true", "step_tokens": 600, "processes": (1,)},
)
for _way in ("by_text", "nested", "padded"):
    quick(f"specter_{_way}_attention", "specter", "triplets", attention=_way, processes=(1,))
quick("specter_pairs", "specter", "pairs", pooling="mean", batch_size=16, dropout=0)
quick(
    "specter_raw",
    "specter",
    None,
    toys={"papers": "papers.jsonl", "citations": "citations.csv"},
    **{"dev_share": 0.2, "per_query": 3},
)
quick("specter_fsdp", "specter", "triplets", strategy="fsdp", processes=(2,))
# As the recipe was when it was recorded.
_as_recorded = {"weight_decay": 0.01, "clip_norm": 1.0}
fitted("specter2", "specter2", "triplets", more=only_embedded, **_as_recorded)
quick("specter2_grouped", "specter2", "triplets", group_by_query="true", **_as_recorded)


def resumed(bench: Bench, processes: int) -> dict[str, Any]:
    """A run that a signal ends after ten steps, and that goes on to the same numbers."""
    words = fit_words(bench, "specter_resumed", processes, "specter", "triplets", no_export=True)
    stop = options(KEYS, callbacks="record.StopAt")
    stop += [f"{KEYS['callbacks']}.step", "10"]
    bench.call("fit", *words, *stop, processes=processes, code=143)
    bench.call("fit", *words, *options(KEYS, ckpt_path="last"), processes=processes)
    found = run_of(bench.run("specter_resumed", processes))
    whole = run_of(bench.run("specter", processes))
    same = all(found[part] == whole[part] for part in ("metrics", LAST, BEST))
    return {"as a run that was not stopped": same, **found}


CASES["specter_resumed"] = Case(resumed, ("specter",))

# Documents have 60 tokens and more.
SPANS: dict[str, Any] = {
    **{"max_span": 16, "min_span": 4, "batch_size": 8, "max_length": 32},
}
spans = partial(quick, recipe="declutr", corpus="documents", **SPANS)


def after_declutr(bench: Bench, run: Path) -> dict[str, Any]:
    judged = bench.toy / "judged"
    return {
        **only_embedded(bench, run),
        "relish": scored(bench, run / EXPORT, "relish", judged / "relish"),
        "imported": imported(bench, run / EXPORT, "declutr"),
    }


def imported(bench: Bench, model: Path, name: str, **given: Any) -> dict[str, Any]:
    """A model's folder as `import` makes it ready again."""
    to = bench.place / "imported" / name
    bench.call("import", model, *options(WORDS, to=to, quiet=True, **given))
    return folder_of_model(to)


fitted("declutr", "declutr", "documents", more=after_declutr, **SPANS)
spans("declutr_cut", step_tokens=160)
spans("declutr_roberta", corpus="documents_roberta", toys={"backbone": "roberta"})
spans("declutr_contrastive", mlm_weight=0, mlm_probability=0, num_anchors=1)
spans("declutr_mlm", contrastive_weight=0, num_positives=0, step_tokens=100)
spans("declutr_whole_anchors", mask_anchor="false", step_tokens=200, span_strategy="subsuming")
spans("declutr_reproduced", reproduce="true", span_strategy="adjacent", short_documents="adapt")

PAIRS: dict[str, Any] = {"batch_size": 16, "warmup_steps": 4}
cocited = partial(quick, recipe="cocite", corpus="cocited", **PAIRS)


def after_cocite(bench: Bench, run: Path) -> dict[str, Any]:
    to = bench.place / "exported" / "cocite_aspire"
    bench.call("export", run, *options(WORDS, to=to, layout="aspire-full", base="bert", quiet=True))
    return {
        **only_embedded(bench, run),
        "relish": scored(bench, run / EXPORT, "relish", bench.toy / "judged" / "relish"),
        "aspire": folder_of_model(to),
        "imported": imported(bench, to, "cocite", base=bench.toy / "bert"),
    }


fitted("cocite", "cocite", "cocited", more=after_cocite, **PAIRS)
cocited("cocite_published", pair_negatives="randperm", mix_lr=100, mix_init="linear")
cocited("cocite_cut", step_tokens=500)
cocited("cocite_local", negatives="local")
cocited("cocite_local_infonce", negatives="local", temperature=0.5)
cocited("cocite_all", negatives="all")
cocited("cocite_all_cut", negatives="all", step_tokens=500)
cocited("cocite_all_infonce", negatives="all", temperature=0.5)
cocited("cocite_all_infonce_cut", negatives="all", temperature=0.5, step_tokens=500)
cocited("cocite_raw", corpus=None, toys={k: v for k, v in CITING.items() if k != "tokenizer"})


def compared(bench: Bench, model: Path, **given: Any) -> dict[str, Any]:
    """Two papers, sentence by sentence."""
    words = options(WORDS, model=model, papers=bench.toy / "papers.jsonl", json=True, **given)
    told = json.loads(bench.call("compare", *words, toy.name(1), toy.name(7)))
    del told["model"]
    return {"distance": repr(told["best_match"]["distance"]), "all": json_digest(told)}


def after_cosentbert(bench: Bench, run: Path) -> dict[str, Any]:
    model, cube = run / EXPORT, bench.toy / "judged" / "cube"
    to = bench.place / "exported" / "cosentbert_aspire"
    bench.call("export", run, *options(WORDS, to=to, layout="aspire-full", base="bert", quiet=True))
    return {
        **only_embedded(bench, run),
        "csfcube": scored(bench, model, "csfcube", cube, scorer="sentences"),
        "csfcube method": scored(bench, model, "csfcube", cube, scorer="sentences", facet="method"),
        "compare": compared(bench, model),
        "aspire": folder_of_model(to),
    }


SENTENCE_PAIRS = {**PAIRS, "dev_examples": 50}
fitted("cosentbert", "cosentbert", "citing", more=after_cosentbert, **SENTENCE_PAIRS)
quick("cosentbert_all_cut", "cosentbert", "sentenced", negatives="all", step_tokens=300, **PAIRS)


def after_ot(bench: Bench, run: Path) -> dict[str, Any]:
    model, cube = run / EXPORT, bench.toy / "judged" / "cube"
    to = bench.place / "exported" / "ot_aspire"
    bench.call("export", run, *options(WORDS, to=to, layout="aspire-full", base="bert", quiet=True))
    return {
        "embed": embedded(bench, model, ".parquet"),
        "embed jsonl": embedded(bench, model, ".jsonl"),
        "csfcube": scored(bench, model, "csfcube", cube),
        "csfcube best match": scored(bench, model, "csfcube", cube, scorer="best_match"),
        "relish": scored(bench, model, "relish", bench.toy / "judged" / "relish", temperature=7),
        "compare": compared(bench, model),
        "compare best match": compared(bench, model, scorer="best_match"),
        "aspire": folder_of_model(to),
        "imported": imported(bench, to, "ot", base=bench.toy / "bert", temperature=5000),
    }


def aligned(bench: Bench, processes: int) -> dict[str, Any]:
    """Sentences of co-cited papers, aligned by a sentence encoder and by plain dot products."""
    corpus, found = bench.place / "corpora" / "aligned", {}
    shutil.copytree(bench.corpus("sentenced"), corpus)
    model = bench.export("cosentbert")
    for name, given in (("recorded", {}), ("dot", {"similarity": "dot", "seed": 3})):
        words = options(WORDS, model=model, name=name, json=True, **given)
        told = json.loads(bench.call("align", corpus, *words))
        files = sorted((corpus / ALIGNMENTS / name).glob("*.npy"))
        found[name] = {path.name: file_digest(path) for path in files}
        found[name]["counts"] = json_digest(told["counts"])
    return found


CASES["align"] = Case(aligned, ("prepare_sentenced", "cosentbert"), (1,))

ot = partial(quick, corpus="sentenced", **PAIRS)
TS = {"aligned_by": "cosentbert"}
fitted("ot", "ot", "sentenced", more=after_ot, **PAIRS)
ot("ot_cut", "ot", step_tokens=500, transport_temperature=7)
fitted("ts", "ts", "sentenced", exports=TS, more=lambda b, r: {"compare": compared(b, r)}, **PAIRS)
ot("ts_published", "ts", exports=TS, pair_negatives="randperm", aligned_anchor="other")
ot("ts_abstract", "ts", exports=TS, align="abstract")
ot("tsot", "tsot", exports=TS)
OTHERS = [f"{KEYS['objective']}best_match", "0.5", f"{KEYS['objective']}attention", "0.3"]
ot("tsot_all_cut", "tsot", exports=TS, extra=OTHERS, step_tokens=600)

TASKED: dict[str, Any] = {"warmup_steps": 4, "lr": 1e-2, "schedule": "constant"}
NO_ADAPTERS = (KEYS["adapters"], "null")
tasked = partial(quick, recipe="adapters", corpus="tasks", **TASKED)


def after_adapters(bench: Bench, run: Path) -> dict[str, Any]:
    to = bench.place / "exported" / f"{run.name}_adapter"
    alone = options(WORDS, to=to, layout="adapterhub", adapter="proximity", quiet=True)
    bench.call("export", run, *alone)
    return {**after_tasks(bench, run), "adapterhub": folder_of_model(to)}


def after_tasks(bench: Bench, run: Path) -> dict[str, Any]:
    model = run / EXPORT
    found: dict[str, Any] = {
        f"embed {token}": embedded(bench, model, ".npy", token, format_token=token)
        for token in ("proximity", "[CLF]")
    }
    found["scirepeval"] = scored(bench, model, "scirepeval", bench.toy / "scirepeval")
    return found


small = {"reduction": 4}
fitted("adapters", "adapters", "tasks", more=after_adapters, **TASKED, **small)
tasked("adapters_cut", **small, negatives="all", step_tokens=400)
tasked("adapters_infonce", **small, negatives="all", temperature=0.5, forward="padded")
tasked("adapters_capped", **small, epoch="capped", cap=20, gradient_checkpointing="true")
fitted(
    "codes",
    "adapters",
    "tasks",
    **{"extra": NO_ADAPTERS, "control_codes": "true", "more": after_tasks, **TASKED},
)
tasked("codes_cut", extra=NO_ADAPTERS, control_codes="true", negatives="all", step_tokens=400)
tasked("tasks_plain", extra=NO_ADAPTERS, negatives="all", temperature=0.5)
tasked("tasks_reproduced", extra=NO_ADAPTERS, tasks_reproduce="true", processes=(1,))
fitted(
    "fusion",
    "fusion",
    "tasks",
    **{"exports": {"backbone": "adapters"}, "more": after_tasks, **TASKED, **small},
)
fitted("own_adapter", "own_adapter", "own", **{**TASKED, "batch_size": 16, "warmup_steps": 0})


def shown(bench: Bench, processes: int) -> dict[str, Any]:
    """What `show` says of examples, without the places of files."""
    found: dict[str, Any] = {}
    for recipe, corpus in (
        *(("specter", "triplets"), ("declutr", "documents"), ("cocite", "cocited")),
        *(("cosentbert", "citing"), ("ot", "sentenced"), ("adapters", "tasks")),
    ):
        file = bench.checkout / "configs" / f"{RECIPES[recipe]}.yaml"
        words = options(WORDS, recipe=file, count=4, show_backbone=bench.toy / "bert")
        words += options(WORDS, show_corpus=bench.corpus(corpus))
        if recipe == "declutr":
            words += options(KEYS, max_span=16, min_span=4)
        told = bench.call("show", *words)
        for place in (bench.place, bench.checkout):
            told = told.replace(str(place), "PLACE")
        found[f"{recipe} lines"] = len(told.splitlines())
        found[recipe] = text_digest(told)
    return {"lines": {k: v for k, v in found.items() if k.endswith("lines")}, "notes": found}


SHOWN = ("triplets", "documents", "cocited", "citing", "sentenced", "tasks")
CASES["show"] = Case(shown, tuple(f"prepare_{name}" for name in SHOWN), (1,))

# --- Recording and comparing --------------------------------------------------------------------


def machine() -> dict[str, str]:
    """What bits depend on besides the code."""
    import numpy
    import torch
    import transformers

    told = Path("/proc/cpuinfo")
    lines = told.read_text().split("\n\n")[0].splitlines() if told.is_file() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    named = [facts.get(key, "?") for key in ("model name", "cpu family", "model", "stepping")]
    return {
        "processor": f"{platform.machine()} {' '.join(named)}",
        "capability": str(torch.backends.cpu.get_cpu_capability()),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def warm_up(checkout: Path) -> None:
    """Import the libraries, and the package from the checkout, before anything is forked.

    Raises:
        SystemExit: the package is another checkout's.
    """
    import importlib

    sys.path.insert(0, str(checkout))
    package = importlib.import_module(PACKAGE)
    assert package.__file__ is not None
    if Path(package.__file__).resolve().parent.parent != checkout:
        raise SystemExit(f"{PACKAGE} is {package.__file__}, which is not in {checkout}.")
    import torch

    torch.set_num_threads(1)
    for name in (
        *("transformers.models.bert.modeling_bert", "transformers.models.roberta.modeling_roberta"),
        *("pyarrow.parquet", "duckdb", "adapters", "sklearn.svm", "sklearn.linear_model"),
        *("sklearn.model_selection", "sentence_transformers", "torch.distributed.nn", "syntok"),
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    main = importlib.import_module(f"{PACKAGE}.cli").main
    for verb in COMMANDS.values():
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.suppress(SystemExit),
        ):
            main([verb, "--help"])


def wanted(only: Sequence[str], processes: Sequence[int]) -> tuple[list[tuple[str, int]], set[str]]:
    """The cases to make, in order, with what they need; and the names that were asked for.

    Raises:
        SystemExit: there is no such case.
    """
    for name in only:
        if name not in CASES:
            raise SystemExit(f"There is no case {name!r}; there are: {', '.join(CASES)}.")
    asked = list(only) or list(CASES)
    made: dict[tuple[str, int], None] = {}

    def add(name: str, count: int) -> None:
        for needed in CASES[name].needs:
            for other in {1, count} & set(CASES[needed].processes):
                add(needed, other)
        made[name, count] = None

    for name in asked:
        for count in processes:
            if count in CASES[name].processes:
                add(name, count)
    kept = {f"{name}@{count}" for name, count in made if name in asked}
    return list(made), kept


def record(checkout: Path, only: Sequence[str], processes: Sequence[int]) -> dict[str, Any]:
    """Make the cases; what is recorded."""
    made, kept = wanted(only, processes)
    warm_up(checkout)
    place = Path(tempfile.mkdtemp(prefix="equality_"))
    bench = Bench(checkout, place)
    cases: dict[str, Any] = {}
    try:
        bench.fork(partial(_write_inputs, bench.toy), "the inputs")
        inputs = (place / "inputs.txt").read_text()
        for name, count in made:
            begun, label = time.monotonic(), f"{name}@{count}"
            try:
                cases[label] = CASES[name].make(bench, count)
                said = ""
            except Exception as error:
                cases[label] = {"failed": type(error).__name__}
                told = str(error) if isinstance(error, Failed) else traceback.format_exc()
                said = f"  FAILED\n{told}"
            print(f"{label:<28} {time.monotonic() - begun:6.1f} s{said}", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    cases = {label: found for label, found in cases.items() if label in kept or failed(found)}
    return {"machine": machine(), "inputs": inputs, "cases": cases}


def failed(found: dict[str, Any]) -> bool:
    return "failed" in found


def _write_inputs(folder: Path) -> None:
    checksum = toy.write_all(folder)
    (folder.parent / "inputs.txt").write_text(checksum)


def flat(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf and where it stands."""
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from flat(value, f"{path} > {key}" if path else key)
    else:
        yield path, content


def number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def alike(one: Any, other: Any, exact: bool) -> bool:
    """Whether two leaves are the same; on another machine to five digits, checksums unseen."""
    if one == other or exact:
        return one == other
    if str(one).startswith("#") and str(other).startswith("#"):
        return True
    ours, theirs = number(one), number(other)
    if ours is None or theirs is None:
        return False
    return math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-9)


def told_difference(path: str, one: Any, other: Any, exact: bool) -> str | None:
    """How two leaves differ, if they do; of a column of steps, where first."""
    if not path.startswith("metrics > "):
        return None if alike(one, other, exact) else f"recorded {one}, now {other}"
    ours, theirs = by_step(one), by_step(other)
    if list(ours) != list(theirs):
        return f"recorded at steps {' '.join(ours)}, now at steps {' '.join(theirs)}"
    steps = [step for step in ours if not alike(ours[step], theirs[step], exact)]
    if not steps:
        return None
    first = steps[0]
    of = f"{len(steps)} of {len(ours)} steps"
    return f"first at step {first}: recorded {ours[first]}, now {theirs[first]} ({of})"


def compare(before: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Differences, and notes that do not fail."""
    differences, notes = [], []
    exact = True
    for key, value in before["machine"].items():
        if now["machine"].get(key) != value:
            told = f"{key} is {now['machine'].get(key)}, and the numbers were recorded with {value}"
            notes.append(told)
            exact = exact and key == "python"
    if not exact:
        notes.append("ANOTHER MACHINE: compared to a relative 1e-5, without checksums")
    if before["inputs"] != now["inputs"]:
        told = f"inputs: recorded {before['inputs']}, now {now['inputs']}"
        (differences if exact else notes).append(told)
    for label, found in now["cases"].items():
        if failed(found):
            differences.append(f"{label}: it failed")
            continue
        if label not in before["cases"]:
            differences.append(f"{label}: not recorded")
            continue
        ours, theirs = dict(flat(before["cases"][label])), dict(flat(found))
        for path in dict.fromkeys([*ours, *theirs]):
            where = notes if path.startswith("notes") else differences
            if path not in theirs:
                where.append(f"{label}: {path}: no longer there")
            elif path not in ours:
                where.append(f"{label}: {path}: was not there")
            elif (told := told_difference(path, ours[path], theirs[path], exact)) is not None:
                where.append(f"{label}: {path}: {told}")
    return differences, notes


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A recording with some of its cases made anew, in the order of `CASES`.

    Raises:
        SystemExit: it was made elsewhere, or of other inputs.
    """
    for key in ("machine", "inputs"):
        if before[key] != now[key]:
            raise SystemExit(f"The file was recorded with {before[key]}, and now with {now[key]}.")
    both = before["cases"] | now["cases"]
    order = [f"{name}@{count}" for name, case in CASES.items() for count in case.processes]
    return {**now, "cases": {label: both[label] for label in order if label in both}}


def write(path: Path, recorded: dict[str, Any]) -> None:
    """One line for each part of a case, so that a difference of two recordings can be read."""
    lines = ["{"]
    for key in ("machine", "inputs"):
        lines.append(f" {json.dumps(key)}: {json.dumps(recorded[key])},")
    lines.append(' "cases": {')
    for label, found in recorded["cases"].items():
        lines.append(f"  {json.dumps(label)}: {{")
        parts = [f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()]
        lines.append(",\n".join(parts))
        lines.append("  },")
    lines[-1] = "  }"
    path.write_text("\n".join([*lines, " }", "}"]) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Record or compare; 1 where anything differs or failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    here = Path(__file__).resolve().parents[2]
    add("--checkout", type=Path, default=here, metavar="DIR", help="whose code is run (this one)")
    add("--only", nargs="+", default=[], metavar="NAME", help="these cases alone; see --list")
    add("--processes", nargs="+", type=int, default=[1, 2], choices=(1, 2))
    add("--list", action="store_true", help="print the names of the cases")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--to", type=Path, metavar="FILE", help="record, or these cases anew")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with a recording")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(CASES))
        return 0
    before = json.loads(args.against.read_text(encoding="utf-8")) if args.against else None
    begun = time.monotonic()
    now = record(args.checkout.resolve(), args.only, args.processes)
    seconds = time.monotonic() - begun
    print(f"{len(now['cases'])} cases in {seconds:.0f} s")
    if args.to:
        part = args.to.is_file() and (args.only or len(args.processes) < 2)
        write(args.to, merged(json.loads(args.to.read_text()), now) if part else now)
    bad = [label for label, found in now["cases"].items() if failed(found)]
    if before is None:
        return 1 if bad else 0
    differences, notes = compare(before, now)
    for note in notes:
        print(f"note: {note}")
    for difference in differences:
        print(f"DIFFERS: {difference}")
    print(f"{len(differences)} differences" if differences else "all is equal")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
