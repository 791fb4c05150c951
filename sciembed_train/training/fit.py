"""From a command line to a run: everything is checked before the first step is made."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Trainer

from sciembed_train import distributed
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.unpadded import compiled_layer
from sciembed_train.methods.engine import sharding
from sciembed_train.training.callbacks import Interrupted
from sciembed_train.training.configuration import (
    RunCLI,
    check_monitors,
    default_name,
    friendly_errors,
)
from sciembed_train.training.resume import check_fits


def training_metadata(cli: RunCLI) -> dict[str, Any]:
    """What an export will say of its training."""
    import hashlib

    from sciembed_train.encoder.io.find_model import find_folder
    from sciembed_train.encoder.io.model_metadata import read_metadata

    config = cli.config
    backbone = config.model.init_args.encoder.backbone
    corpus = Corpus.open(config.data.corpus)
    held = {"papers": corpus.n_papers, "documents": corpus.n_documents}
    facts: dict[str, Any] = {
        "recipe": default_name(cli.argv, config),
        "seed": config.data.seed,
        "batch_size": config.data.batch_size,
        f"training_{cli.examples.name}": cli.plan.examples,
        "steps_per_epoch": cli.plan.steps_per_epoch,
        "planned_steps": cli.total,
        **{name: count for name, count in held.items() if count},
        "base_model": Path(backbone).name if Path(backbone).exists() else backbone,
    }
    if cli.sampling().texts != "papers":
        facts["texts"] = cli.sampling().texts
    for name in ("model.safetensors", "pytorch_model.bin"):
        weights = read_metadata(find_folder(backbone), pooling="mean").backbone / name
        if weights.is_file():
            with weights.open("rb") as file:
                facts["base_model_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
            break
    return facts


def check_sharding(cli: RunCLI) -> None:
    """See that the weights can be shared out, where the strategy is to do so."""
    if cli.shards_weights:
        trained = (p for p in cli.model.parameters() if p.requires_grad)
        sharding.check(cli.model.encoder, trained)


def fit(argv: list[str]) -> tuple[int, Path]:
    """Train.

    Returns:
        0, or 128 and the signal's number where one ended the run; and the run's folder.

    Raises:
        UserError: something in the settings, files or machine must be mended first.
    """
    with friendly_errors(argv):
        cli = RunCLI(argv, fitting=True)
    assert cli.run_folder is not None
    return _train(cli, cli.run_folder), cli.run_folder


def _train(cli: RunCLI, folder: Path) -> int:
    """Train from the start, or from a checkpoint; returns the exit code."""
    trainer, method = cli.trainer, cli.model
    method.prepare(cli.examples.dev)
    check_sharding(cli)
    first = distributed.launch_rank() == 0
    if cli.has_dev:  # some parts of a method, and so their scores, may be switched off
        scores = f"the scores of {type(method).__name__} with these settings"
        check_monitors(cli.config, method.reported_scores, scores)
    method.training_metadata = training_metadata(cli)
    method.dry_run_largest = cli.config.memory_dry_run
    if cli.start is not None:
        made = check_fits(cli.start, method, cli.datamodule, resuming=True)["global_step"]
        if made >= cli.total:
            if first:
                _nothing_left(cli, folder, made)
            return 0
    method.check(cli.examples.batch(cli.plan.indices(0), epoch=0, step=0))
    # Before the folder is made: a way of attending that cannot run here is refused.
    cli.given.model.init_args.encoder.attention = _attention(cli)
    if cli.model.encoder.settings.compile:  # or a machine that cannot compile
        compiled_layer.compiled_on(cli.trainer.strategy.root_device.type)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        cli.write_config()
        _announce(cli)
        settings = yaml.safe_load(cli.parser.dump(cli.given, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
    try:
        trainer.fit(method, cli.datamodule, ckpt_path=cli.start, weights_only=True)
    except Interrupted as ended:
        if not trainer.is_global_zero:
            return 0  # a launcher that sees another code kills the first rank
        print(
            f"saved {folder / 'last.ckpt'} at step {ended.step:,}; continue with --ckpt_path last",
            file=sys.stderr,
        )
        return 128 + ended.number
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):  # the second Ctrl-C, which Lightning
            return 130  # turns into sys.exit(1) after it has ended the children
        raise
    except BaseException:
        _end_children(trainer)
        raise
    if trainer.is_global_zero:
        _finish(cli, folder)
    return 0


def _attention(cli: RunCLI) -> str:
    """How the run keeps texts apart, for config.yaml: what ``auto`` means here is told."""
    types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = types.get(str(cli.trainer.precision), torch.float32)
    return cli.model.encoder.attention_on(cli.trainer.strategy.root_device.type, dtype)


def _announce(cli: RunCLI) -> None:
    if cli.config.quiet:
        return
    plan, trainer, name = cli.plan, cli.trainer, cli.examples.name
    processes = "1 process" if cli.world_size == 1 else f"{cli.world_size} processes"
    print(
        f"{cli.run_folder}: {plan.examples:,} {name}, {plan.steps_per_epoch:,} steps an epoch"
        f" ({plan.left_out:,} {name} of each epoch fill no step), {cli.total:,} steps in all; "
        f"{processes} on {trainer.strategy.root_device.type}, {trainer.precision}",
        file=sys.stderr,
    )
    for note in cli.examples.notes:
        print(note, file=sys.stderr)
    if not cli.has_dev:
        print(
            f"there are no dev {name}: no validation, no best.ckpt. A larger --data.dev_share, or "
            "--dev-share of prepare, holds more of them out.",
            file=sys.stderr,
        )


def _nothing_left(cli: RunCLI, folder: Path, made: int) -> None:
    """Say that the run is done; it is exported if that was not done yet."""
    print(
        f"{cli.start} has made {made:,} steps and the run has {cli.total:,}: nothing is left to "
        "train. A larger trainer.max_steps or trainer.max_epochs goes on.",
        file=sys.stderr,
    )
    if not (folder / "export").exists():
        _finish(cli, folder)


def _end_children(trainer: Trainer) -> None:
    """End the processes that this one started: without it they would wait for it."""
    launcher = trainer.strategy.launcher
    if launcher is not None and getattr(launcher, "procs", None):
        launcher.kill(signal.SIGKILL)


def _finish(cli: RunCLI, folder: Path) -> None:
    if not cli.config.export:
        return
    from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
    from sciembed_train.export.checkpoint_file import card_of, find_checkpoint, load_checkpoint
    from sciembed_train.export.export_folder import export_encoder

    path = find_checkpoint(folder)
    content = load_checkpoint(path)
    encoder = encoder_from_checkpoint(content, str(path))
    export_encoder(encoder, folder / "export", card_of(content), overwrite=True)
    if not cli.config.quiet:
        print(f"exported {path.name} to {folder / 'export'}", file=sys.stderr)


def validate(argv: list[str]) -> int:
    """Print the validation scores of a checkpoint.

    Raises:
        UserError: something in the settings, files or machine must be mended first.
    """
    with friendly_errors(argv):
        cli = RunCLI(argv, fitting=False)
    assert cli.start is not None
    cli.model.prepare(cli.examples.dev)
    check_sharding(cli)
    content = check_fits(cli.start, cli.model, cli.datamodule, resuming=False)
    cli.model.load_state_dict(content["state_dict"])
    try:
        cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    except BaseException:
        _end_children(cli.trainer)
        raise
    if cli.trainer.is_global_zero:
        scores = {
            name: value.item()
            for name, value in sorted(cli.trainer.callback_metrics.items())
            if name.startswith("val/")
        }
        if cli.config.json:
            print(json.dumps(scores))
        else:
            width = max(map(len, scores))
            print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))
    return 0
