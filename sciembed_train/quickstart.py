"""The whole path on a synthetic collection, in minutes and without a network.

It calls the functions of the public API, as a program with data of its own would: prepare, fit
(which exports), embed and evaluate. The word-piece tokenizer and the BERT are trained from scratch,
on the triplets alone; the scores are those of held-out papers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.synthetic import (
    SyntheticCollection,
    SyntheticSettings,
    shuffle_cited,
    train_tokenizer,
    write_bert,
    write_citations,
    write_collection,
)

RESULTS = "quickstart.json"
# What a quickstart writes, and so what another may replace.
_MADE = ("synthetic", "backbone", "corpus", "truth", "run", "quickstart.yaml", "vectors.npy")
_MADE += ("vectors.ids.txt", "scores", RESULTS)

RECIPE = """\
# The recipe of `train quickstart`: SPECTER on a synthetic collection, an untrained BERT. For real
# papers start from a pretrained backbone and the recipe specter, whose learning rate suits one.
model:
  class_path: sciembed_train.methods.specter.Specter
  init_args:
    encoder:
      backbone: {backbone}
      pooling: cls
      max_length: {max_length}
      dropout: 0.0
    optim:
      lr: {lr}
      weight_decay: 0.01
      clip_norm: 1.0
      schedule: linear
      warmup_share: 0.1
    margin: 1.0
data:
  corpus: {corpus}
  batch_size: {batch_size}
  seed: {seed}
trainer:
  accelerator: cpu
  devices: 1
  precision: 32-true
  max_epochs: {epochs}
  log_every_n_steps: 50
checkpoint:
  monitor: val/map
seed_everything: {seed}
verdict: "off"  # start, trained encoder and BM25 are compared below
"""


@dataclass(frozen=True)
class QuickstartSettings:
    """Sizes at which the encoder learns more than words within minutes.

    Args:
        papers: of the collection.
        vocab: word pieces.
        layers, width, heads: of the BERT.
        max_length: tokens of a text.
        lr, batch_size, epochs: of the training.
        held_out: share of the papers that are held out as queries.
    """

    papers: int = 2000
    vocab: int = 2000
    layers: int = 2
    width: int = 64
    heads: int = 4
    max_length: int = 128
    lr: float = 2e-3
    batch_size: int = 32
    epochs: int = 3
    held_out: float = 0.1


def quickstart(
    folder: Path,
    seed: int = 0,
    settings: QuickstartSettings | None = None,
    *,
    shuffled: bool = False,
    progress: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make the collection, train, evaluate; returns the content of ``quickstart.json``.

    Args:
        folder: where everything is written.
        seed: of the collection, the first weights and the order of the examples.
        settings: sizes of the collection, the model and the training.
        shuffled: train on citations that mean nothing, as a control; the scores are still those
            of the true citations.
        progress: show the progress of training.
        report: called with a line on each step.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    s = settings or QuickstartSettings()
    check_installed()
    clear(folder)
    with _one_thread():
        return _quickstart(folder, seed, s, shuffled, progress, report)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Matrix products in one thread.

    These are too small to share: on two cores that had other work, threads waiting for each other
    made a step take twelve times the processor time.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quickstart(
    folder: Path,
    seed: int,
    s: QuickstartSettings,
    shuffled: bool,
    progress: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    steps: dict[str, dict[str, float]] = {}
    clock = _Clock(steps, report)

    collection = write_collection(
        folder / "synthetic", SyntheticSettings(papers=s.papers, seed=seed)
    )
    clock.done(
        "papers",
        f"{s.papers:,} papers on {len(collection.concepts)} topics, "
        f"{len(collection.citations):,} citations",
    )

    texts = [_text(paper) for paper in collection.papers()]
    tokenizer = train_tokenizer(texts, s.vocab)
    backbone = write_bert(
        folder / "backbone",
        tokenizer,
        layers=s.layers,
        width=s.width,
        heads=s.heads,
        max_positions=s.max_length,
        seed=seed,
    )
    clock.done(
        "model",
        f"{tokenizer.get_vocab_size():,} word pieces; an untrained BERT, {s.layers} layers, "
        f"{s.width} wide",
    )

    truth = corpus = folder / "corpus"
    citations = folder / "synthetic" / "citations.tsv"
    if shuffled:
        truth = folder / "truth"
        _prepare(folder, citations, truth, backbone, s, seed)
        citations = _shuffled(folder, collection, seed)
    counts = _prepare(folder, citations, corpus, backbone, s, seed)
    clock.done(
        "prepare",
        f"{counts['triplets']['train']:,} triplets; {counts['queries']['test']:,} papers held out",
    )

    recipe = folder / "quickstart.yaml"
    values = {k: v for k, v in asdict(s).items() if k in ("max_length", "lr", "batch_size")}
    text = RECIPE.format(
        backbone=json.dumps(str(backbone)),
        corpus=json.dumps(str(corpus)),
        epochs=s.epochs,
        seed=seed,
        **values,
    )
    recipe.write_text(text, encoding="utf-8")
    # Training takes most of the time, so it may show its bar.
    run = st.fit(recipe, root=folder, run="run", quiet=not progress)
    assert run.export is not None
    clock.done("fit", f"SPECTER, {s.epochs} epochs; exported and checked")

    papers = folder / "synthetic" / "papers.jsonl"
    st.embed(run.export, papers, folder / "vectors.npy", device="cpu")
    clock.done("embed", f"{s.papers:,} vectors of {s.width} numbers")

    (folder / "scores").mkdir()
    models = {"random": "random", "bm25": "bm25", "before": backbone, "trained": run.export}
    scores = {
        name: _score(model, truth, folder / "scores" / f"{name}.json", seed)
        for name, model in models.items()
    }
    clock.done("evaluate", "each held-out paper ranks all others; what it cites should come first")
    results = {
        "seed": seed,
        "shuffled": shuffled,
        "settings": asdict(s),
        "scores": scores,
        "seconds": steps,
    }
    text = json.dumps(results, indent=2) + "\n"
    (folder / RESULTS).write_text(text, encoding="utf-8")
    return results


def check_installed() -> None:
    """See before the training that what comes after it is there.

    Raises:
        UserError: a library of the extras is missing.
    """
    missing = [n for n in ("duckdb", "pyarrow", "bm25s") if importlib.util.find_spec(n) is None]
    if missing:
        raise UserError(
            f"quickstart needs {' and '.join(missing)}: pip install 'sciembed_train[prepare,bm25]'."
        )


def clear(folder: Path) -> None:
    """Make ``folder``, without what an earlier quickstart left in it.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()):
            if not any((folder / name).exists() for name in (RESULTS, "synthetic")):
                raise UserError(
                    f"{folder}: exists and is no earlier quickstart. Give another folder with --to."
                )
            for name in _MADE:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "synthetic").mkdir()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --to."
        ) from error


class _Clock:
    """Reports each step when it is done, and its time."""

    def __init__(self, steps: dict[str, dict[str, float]], report: Callable[[str], None]) -> None:
        self.steps, self.report = steps, report
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def done(self, step: str, what: str) -> None:
        """Note the time since the last step."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.steps[step] = {
            "wall": round(wall - self.wall, 1),
            "processor": round(cpu - self.cpu, 1),
        }
        self.report(f"  {step:<9} {what}  ({wall - self.wall:.0f} s)")
        self.wall, self.cpu = wall, cpu


def _text(paper: dict[str, Any]) -> str:
    """The words of a paper, for the tokenizer."""
    abstract = paper["abstract"] or ""
    return f"{paper['title']} {abstract if isinstance(abstract, str) else ' '.join(abstract)}"


def _prepare(
    folder: Path, citations: Path, to: Path, backbone: Path, s: QuickstartSettings, seed: int
) -> dict[str, Any]:
    corpus = st.prepare(
        to,
        papers=folder / "synthetic" / "papers.jsonl",
        citations=citations,
        tokenizer=backbone,
        seed=seed,
        test_share=s.held_out,
        dev_share=0.02,
    )
    return corpus.info["counts"]


def _shuffled(folder: Path, collection: SyntheticCollection, seed: int) -> Path:
    import numpy as np

    path = folder / "synthetic" / "shuffled.tsv"
    rng = np.random.default_rng(seed)
    rows = shuffle_cited(collection.citations, collection.settings.papers, rng)
    write_citations(path, collection, rows)
    return path


def _score(model: str | Path, corpus: Path, to: Path, seed: int) -> dict[str, float]:
    """MAP and nDCG (log2) over the held-out query papers, each against all papers."""
    scores = st.evaluate(
        model, "citations", corpus, to=to, seed=seed, embed=EmbedSettings(device="cpu")
    )
    return {"map": scores["citations/map"], "ndcg": scores["citations/ndcg_log2"]}


def table(scores: dict[str, dict[str, float]]) -> str:
    """The scores as a table for people."""
    names = {
        "random": "random order",
        "bm25": "BM25 (matching words)",
        "before": "the encoder before training",
        "trained": "the encoder after training",
    }
    lines = [f"  {'':<28} {'MAP':>7} {'nDCG':>7}"]
    for key, name in names.items():
        lines.append(f"  {name:<28} {scores[key]['map']:>7.4f} {scores[key]['ndcg']:>7.4f}")
    return "\n".join(lines)
