"""Runs a recipe; everything is checked before the first step."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from pytorch_lightning import Trainer

from sciembed_train import distributed
from sciembed_train.config.recipe_options import Recipe
from sciembed_train.corpus.corpus_truncation import truncation_lines
from sciembed_train.encoder.unpadded import compiled_layer
from sciembed_train.errors import RunError, UserError
from sciembed_train.export.checkpoint_file import FINAL
from sciembed_train.methods.base import Method
from sciembed_train.methods.engine import sharding
from sciembed_train.methods.nested import score_names
from sciembed_train.progress import print_line
from sciembed_train.training.callbacks.held_run import HeldRun
from sciembed_train.training.callbacks.signals import Interrupted
from sciembed_train.training.callbacks.start_scoring import StartScoring
from sciembed_train.training.checkpoint_io import refuse_full_disk, sweep_run
from sciembed_train.training.comparison import plan_comparison
from sciembed_train.training.configuration import RunConfiguration, check_monitors
from sciembed_train.training.data_advice import data_advice
from sciembed_train.training.finish import finish, finish_again
from sciembed_train.training.process_count import process_count_line, processes
from sciembed_train.training.projection_stage import plan_projection
from sciembed_train.training.recipe_corpus import recipe_sampling
from sciembed_train.training.results_file import NAME as RESULTS
from sciembed_train.training.resume import check_fits, schedule_line
from sciembed_train.training.run_lock import RunLock
from sciembed_train.training.teacher import open_teacher
from sciembed_train.training.validation_benchmarks import no_vector_of_a_text


def check_sharding(run: RunConfiguration, method: Method) -> None:
    """Raise UserError if the strategy is to shard weights that cannot be sharded."""
    if run.shards_weights:
        if method.optim.ema is not None:
            raise UserError(
                "trainer.strategy fsdp shares out the weights, and optim.ema keeps their averages "
                "whole. Use --trainer.strategy ddp, or set optim.ema to null."
            )
        sharding.check(method.encoder, (p for p in method.parameters() if p.requires_grad))


def fit(recipe: Recipe) -> tuple[int, Path]:
    """Train.

    Returns:
        0, or 128 and the signal's number where one ended the run; and the run's folder.

    Raises:
        UserError: something in the settings, files or machine must be mended first.
        RunError: the run cannot go on, as on a full disk.
    """
    with RunLock() as lock:
        run = RunConfiguration(recipe, fitting=True, lock=lock)
        assert run.folder is not None
        with refuse_full_disk(run.folder):
            return _train(run, run.folder, lock), run.folder


def _train(run: RunConfiguration, folder: Path, lock: RunLock) -> int:
    """Train from the start, or from a checkpoint; returns the exit code."""
    method, trainer = run.make_method(), run.make_trainer()
    run.watch.give_up = partial(_give_up, trainer, lock)
    method.prepare(run.examples.dev)
    teacher_line = _learn_from_teacher(run, method, trainer)
    check_sharding(run, method)
    first = distributed.launch_rank() == 0
    _check_scores(run, method)
    method.passes.seed = run.data.settings.seed
    stage = plan_projection(run, method, trainer)
    comparison = plan_comparison(run, method, trainer, stage)
    if run.start is not None:
        content = check_fits(run.start, method, run.data, resuming=True)
        made = content["global_step"]
        if made < run.total:
            line = process_count_line(run.start, content, method, run.data, run.world_size)
            for said in (line, schedule_line(content, method.optim, run.total)):
                if said is not None and first and not run.run.quiet:
                    print_line(said)
        del content  # as much memory as the run itself takes
        if made >= run.total:
            if first:
                _nothing_left(run, made)
                finish_again(run, method, trainer, comparison, stage, made)
            return 0
    method.check(run.examples.batch(run.plan.indices(0), epoch=0, step=0))
    # Before the folder is made: a way of attending that cannot run here is refused.
    run.saved.model.init_args.encoder.attention = _attention(method, trainer)
    if method.encoder.settings.compile:  # or a machine that cannot compile
        compiled_layer.compiled_on(trainer.strategy.root_device.type)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_run(folder)
        run.write_config()
        _announce(run, trainer, comparison is not None, teacher_line)
        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
        for name in (RESULTS, FINAL):  # of weights that change now
            (folder / name).unlink(missing_ok=True)
    if comparison is not None:
        trainer.callbacks.insert(0, StartScoring(comparison))  # pyright: ignore
    trainer.callbacks.append(HeldRun(lock))  # pyright: ignore[reportAttributeAccessIssue]
    try:
        trainer.fit(method, run.data, ckpt_path=run.start, weights_only=True)
    except Interrupted as ended:
        if not trainer.is_global_zero:
            return 0  # a launcher that sees another code kills the first rank
        print(
            f"saved {folder / 'last.ckpt'} at step {ended.step:,}; continue with --ckpt_path last",
            file=sys.stderr,
        )
        return 128 + ended.number
    except RunError:
        if not trainer.is_global_zero:
            return 0  # the first rank says it, and a launcher would kill that
        _end_children(trainer)
        raise
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):  # the second Ctrl-C, which Lightning
            return 130  # turns into sys.exit(1) after it has ended the children
        raise
    except BaseException:
        _end_children(trainer)
        if run.watch.reason is None:
            raise
        return 1  # another rank was the cause; the first that lives has said so
    if trainer.is_global_zero:
        lock.check()
        finish(run, method, trainer, comparison, stage, trainer.global_step)
    return 0


def _check_scores(run: RunConfiguration, method: Method) -> None:
    """Raise UserError where a benchmark cannot score the encoder, or no score is monitored."""
    benchmarks, texts = run.benchmarks, recipe_sampling(run.data.settings).texts
    reason = no_vector_of_a_text(method, texts) if benchmarks.benchmarks else None
    if reason is not None:
        raise UserError(f"validation cannot score {benchmarks.benchmarks[0].name}: {reason}")
    if run.validates:  # some parts of a method, and so their scores, may be switched off
        whose = f"the scores of {type(method).__name__} with these settings"
        shorter = score_names(method.nested_score, method.nested.dims)
        own = (*method.reported_scores, *shorter) if run.has_dev else ()
        check_monitors(run.run, (*own, *benchmarks.score_names), whose)


def _attention(method: Method, trainer: Trainer) -> str:
    """How the run keeps texts apart, for config.yaml: what ``auto`` means here."""
    types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = types.get(str(trainer.precision), torch.float32)
    return method.encoder.attention_on(trainer.strategy.root_device.type, dtype)


def _learn_from_teacher(run: RunConfiguration, method: Method, trainer: Trainer) -> str | None:
    """Give a method the vectors of its teacher; returns what to say of them.

    Raises:
        UserError: as `open_teacher`, or no paper of the training has a vector.
    """
    named = method.named_teacher
    if named is None:
        return None
    papers = run.examples.training_papers()
    if papers is None:  # nothing is known of the texts of a sampling of the user's own
        papers = np.arange(run.data.corpus.n_papers)
    device = str(trainer.strategy.root_device)
    teacher = open_teacher(run.data.corpus, named, device, run.run.quiet)
    count = teacher.count(papers)
    if not count:
        raise UserError(
            f"model.teacher: {named} has a vector of none of the {len(papers):,} papers "
            f"of the training. Give vectors of the papers of {run.data.folder}, by their ids."
        )
    method.learn_from(teacher)
    return (
        f"teacher {teacher.name}: {count:,} of the {len(papers):,} papers of the training have a "
        f"vector, of {teacher.dim:,} numbers"
    )


def _announce(run: RunConfiguration, trainer: Trainer, compares: bool, teacher: str | None) -> None:
    if run.run.quiet:
        return
    plan, name = run.plan, run.examples.name
    print(
        f"{run.folder}: {plan.examples:,} {name}, {plan.steps_per_epoch:,} steps an epoch"
        f" ({plan.left_out:,} {name} of each epoch fill no step), {run.total:,} steps in all; "
        f"{processes(run.world_size)} on {trainer.strategy.root_device.type}, {trainer.precision}",
        file=sys.stderr,
    )
    for note in (run.kept.line, teacher, *(f"warning: {text}" for text in run.kept.warnings)):
        if note:
            print(note, file=sys.stderr)
    read = run.data.tokenization
    for line in truncation_lines(
        run.data.corpus, read.tokenizer, read.input_format, read.max_length
    ):
        print(line, file=sys.stderr)
    test_queries = len(run.data.corpus.queries("test")) if compares else None
    for note in (*run.examples.notes, *data_advice(run.examples, test_queries)):
        print(note, file=sys.stderr)
    if not run.validates:
        print(
            f"there are no dev {name}: no validation, no best.ckpt. A larger --data.dev_share, or "
            "--dev-share of prepare, holds more of them out.",
            file=sys.stderr,
        )
    if run.benchmarks.benchmarks:
        scores = ", ".join(run.benchmarks.score_names)
        print(f"each validation scores {scores}", file=sys.stderr)
    for warning in run.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _nothing_left(run: RunConfiguration, made: int) -> None:
    """Report that the run is done."""
    print(
        f"{run.start} has made {made:,} steps and the run has {run.total:,}: nothing is left to "
        "train. A larger trainer.max_steps or trainer.max_epochs goes on.",
        file=sys.stderr,
    )


def _give_up(trainer: Trainer, lock: RunLock) -> None:
    _end_children(trainer)
    lock.release()


def _end_children(trainer: Trainer) -> None:
    """End the processes that this one started; otherwise they would wait for it."""
    launcher = trainer.strategy.launcher
    if launcher is not None and getattr(launcher, "procs", None):
        launcher.kill(signal.SIGKILL)


def validate(recipe: Recipe) -> dict[str, float] | None:
    """The validation scores of a checkpoint by name; None in all processes but the first.

    Raises:
        UserError: something in the settings, files or machine must be mended first.
    """
    run = RunConfiguration(recipe, fitting=False)
    method, trainer = run.make_method(), run.make_trainer()
    assert run.start is not None
    method.prepare(run.examples.dev)
    check_sharding(run, method)
    _check_scores(run, method)
    content = check_fits(run.start, method, run.data, resuming=False)
    method.load_state_dict(content["state_dict"])
    run.watch.give_up = partial(_end_children, trainer)
    try:
        trainer.validate(method, run.data, verbose=False)
    except BaseException as error:
        run.watch.failed(error)
        _end_children(trainer)
        if run.watch.reason is None:
            raise
        raise SystemExit(1) from error  # the reason was printed
    if not trainer.is_global_zero:
        return None
    scores = sorted(trainer.callback_metrics.items())
    return {name: value.item() for name, value in scores if name.startswith("val/")}
