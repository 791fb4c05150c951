"""A recipe's settings, checked, and the data, method and trainer that they describe."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer, seed_everything

from sciembed_train import distributed
from sciembed_train.config import stand_ins
from sciembed_train.config.parser import build
from sciembed_train.config.recipe_options import Recipe
from sciembed_train.config.recipes import MACHINE
from sciembed_train.config.run_settings import RunSettings, check_name
from sciembed_train.config.trainer_settings import TrainerSettings
from sciembed_train.config.validation_settings import ValidationSettings
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.io.model_metadata import tokenizer_folder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError, one_line
from sciembed_train.methods.base import Method
from sciembed_train.methods.nested import score_names
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.progress import Progress
from sciembed_train.sampling.base import Examples, TokenizationSpec, named_class
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.training import run_folder
from sciembed_train.training.callbacks.run_callbacks import run_callbacks
from sciembed_train.training.callbacks.validation import HeldOutScores
from sciembed_train.training.loggers import run_loggers
from sciembed_train.training.rank_watch import RankWatch
from sciembed_train.training.recipe_corpus import (
    check_sources,
    check_used,
    recipe_corpus,
    recipe_sampling,
    with_alignment,
)
from sciembed_train.training.run_lock import RunLock
from sciembed_train.training.run_metadata import training_metadata, training_titles
from sciembed_train.training.start_encoder import apply_start, start_of_recipe
from sciembed_train.training.trainer import (
    RunTrainer,
    as_launched,
    check_launched,
    check_strategy,
    probe,
    total_steps,
    validation_interval,
)
from sciembed_train.training.validation_benchmarks import (
    ValidationBenchmarks,
    validation_benchmarks,
)

# Set for the processes that Lightning starts from this one: they need not look at the raw files.
PREPARED = "SCIEMBED_PREPARED_CORPUS"
# What libraries log and warn of that no user can change.
QUIET_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
QUIET_WARNINGS = (
    r".*does not have many workers.*",
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*smaller than the logging interval.*",
    r".*module\(s\) in eval mode at the start of training.*",
    r".*The `srun` command is available.*",
)


class RunConfiguration:
    """The checked settings of a run, and the objects made of them.

    Everything that can be wrong is found before a model is loaded: the constructor opens the
    corpus, or has it made, the examples and the plan of the steps, once for the process.

    Args:
        recipe: the settings.
        fitting: whether a run is made; otherwise a checkpoint is validated.
        lock: takes the run's folder, as soon as it is known which that is.

    Attributes:
        run, trainer_settings, encoder: the settings by section.
        data: the examples, opened.
        folder: of the run; None where a checkpoint is validated.
        start: the checkpoint to begin from, if any.
        watch: of the ranks, once they train.
        kept: what the start encoder decided.
        titles: of the papers that training reads; None where they are not known.
        benchmarks: what is scored at each validation, beside the held-out examples.
        warnings: what is wrong with these.
        world_size: number of processes.
        plan: how the examples fill steps.
        total: optimiser steps of the run; 0 where a checkpoint is validated.

    Raises:
        UserError: a setting, a file or the machine must be changed first.
    """

    def __init__(self, recipe: Recipe, fitting: bool, lock: RunLock | None = None) -> None:
        quiet_libraries()
        self.recipe, self.fitting = recipe, fitting
        self.run = recipe.get(RunSettings)
        self.trainer_settings = as_launched(recipe.get(TrainerSettings))
        data = recipe.get(DataSettings)
        self.saved = recipe.namespace.clone()  # for config.yaml: files stay files, names names
        self.model = recipe.namespace.model.clone()
        if "optim" in self.model.init_args:  # the method makes it after the corpus is made
            build(OptimSettings, self.model.init_args.optim)
        seed_everything(self.run.seed_everything, workers=True)
        check_strategy(self.trainer_settings)
        if self.model.class_path == stand_ins.NO_METHOD:
            raise UserError("model.class_path is missing. Give a recipe first: -c specter.")
        method = named_class(self.model.class_path, Method)
        validation = recipe.get(ValidationSettings)
        benchmarks = validation_benchmarks(validation, recipe.get(VerdictSettings))
        dims = self.model.init_args.get("matryoshka_dims") or ()
        scores = (*method.validation_scores, *score_names(method.nested_score, dims))
        scores += tuple(name for one in benchmarks for name in one.metrics)
        check_monitors(self.run, scores, f"the scores of {method.__name__}")
        self.world_size = probe(self.trainer_settings)
        check_launched(self.trainer_settings, self.world_size)
        self.folder: Path | None = None
        self.start: Path | None = None
        self._find_checkpoint(lock)
        self.watch = RankWatch(self.folder, self.trainer_settings.rank_timeout)
        self.kept = start_of_recipe(recipe, method.similarity, self.start)
        for settings in (self.saved.model, self.model):
            apply_start(settings.init_args.encoder, self.kept)
        self.encoder = self._encoder()
        check_sources(data)
        check_used(data, recipe.typed)
        tokenizer = TextTokenizer.load(tokenizer_folder(self.encoder.backbone))
        corpus = self._corpus(data)
        sampling = with_alignment(recipe_sampling(data), corpus, self._progress())
        form, length = self.encoder.input_format, self.encoder.max_length
        self.data = TrainingData(
            replace(data, sampling=sampling, corpus=str(corpus.folder)),
            corpus,
            TokenizationSpec(tokenizer, form, length, data.seed),
        )
        self.total = total_steps(self.trainer_settings, self.plan) if fitting else 0
        self.titles = training_titles(self.data, self.encoder.backbone)
        self.benchmarks = ValidationBenchmarks(benchmarks, validation, corpus)
        self._check_validation()
        self.warnings = self.benchmarks.check(self.titles)

    @property
    def examples(self) -> Examples:
        """The examples of the corpus."""
        return self.data.examples

    @property
    def plan(self) -> StepPlan:
        """How the examples are put into steps; UserError if there are too few of them."""
        try:
            return self.data.plan(self.world_size)
        except UserError as error:  # what was left out may be why there are too few
            raise UserError(" ".join([str(error), *self.examples.notes])) from error

    @property
    def has_dev(self) -> bool:
        """Whether there are examples to validate on."""
        return len(self.examples.dev) > 0

    @property
    def validates(self) -> bool:
        """Whether there are examples or benchmarks to validate on."""
        return self.has_dev or bool(self.benchmarks.benchmarks)

    @property
    def shards_weights(self) -> bool:
        """Whether each rank holds a part of the weights."""
        return self.trainer_settings.strategy == "fsdp"

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.run or default_name(self.recipe.files, self.model.class_path)

    def make_method(self) -> Method:
        """The method, its encoder loaded; it raises UserError where it refuses a setting."""
        method = build(stand_ins.Method, self.model)
        assert isinstance(method, Method)
        return method

    def make_trainer(self) -> Trainer:
        """The trainer with a run's callbacks; UserError where Lightning refuses a setting."""
        settings = {**vars(self.trainer_settings), "use_distributed_sampler": False}
        settings |= self._run_settings() if self.fitting else self._validation_settings()
        try:
            return RunTrainer(watch=self.watch, **settings)
        except MisconfigurationException as error:
            raise UserError(one_line(error)) from error

    def _validation_settings(self) -> Mapping[str, Any]:
        return {
            "callbacks": [
                HeldOutScores(self.examples.dev, self.benchmarks),
                *self._own_callbacks(),
            ],
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }

    def _run_settings(self) -> Mapping[str, Any]:
        given, run, folder = self.trainer_settings, self.run, self.folder
        assert folder is not None
        wanted = given.enable_progress_bar is not False and not run.quiet
        bar = wanted and sys.stderr.isatty()
        assert given.log_every_n_steps is not None
        log_every = min(given.log_every_n_steps, self.total)
        callbacks = run_callbacks(
            folder,
            self.data,
            run,
            log_every=log_every,
            facts=self.facts(),
            titles=self.titles,
            benchmarks=self.benchmarks,
            write_limit=self.write_config,
            bar=bar,
            own=self._own_callbacks(),
            watch=self.watch,
        )
        return {
            "callbacks": callbacks,
            "logger": run_loggers(folder, self.name, run, given.logger),
            "max_steps": self.total,
            "max_epochs": -1,
            "val_check_interval": validation_interval(given, self.plan.steps_per_epoch),
            "check_val_every_n_epoch": None,
            "limit_val_batches": given.limit_val_batches if self.validates else 0,
            "num_sanity_val_steps": given.num_sanity_val_steps if self.validates else 0,
            "log_every_n_steps": log_every,
            "enable_progress_bar": bar,
        }

    def _own_callbacks(self) -> list[Any]:
        callbacks = self.trainer_settings.callbacks
        return callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []

    def facts(self) -> dict[str, Any]:
        """The facts of the training, for checkpoints, exports and the report."""
        recipe = default_name(self.recipe.files, self.model.class_path)
        return training_metadata(recipe, self.data, self.plan, self.total, self.encoder.backbone)

    def write_config(self, max_tokens_per_backward: int | None = None) -> None:
        """Write ``config.yaml``; with the micro-batches of a step where memory limits them."""
        assert self.folder is not None
        if max_tokens_per_backward is not None:
            self.saved.model.init_args.max_tokens_per_backward = max_tokens_per_backward
        path = self.folder / "config.yaml"
        self.recipe.line.parser.save(self.saved, path, overwrite=True, skip_unset=False)

    def _find_checkpoint(self, lock: RunLock | None) -> None:
        """Name the run, and find the checkpoint that it continues or that is validated."""
        given = self.run.ckpt_path
        if not self.fitting:
            if given is None:
                raise UserError("--ckpt_path FILE is missing: give the checkpoint to validate.")
            from sciembed_train.export.checkpoint_file import TRAINED, find_checkpoint

            self.start = find_checkpoint(given, TRAINED)
            return
        self.saved.run = self.name
        check_name(self.name)
        self.folder = run_folder.root_folder(self.run.root) / self.name
        if distributed.launch_rank() == 0:  # the others find the folder of the first
            run_folder.check_writable(self.folder)
            if lock is not None:
                with run_folder.writing_errors(self.folder):
                    lock.take(self.folder)
            self.start = run_folder.find_start(self.folder, given)
        elif given is not None:
            self.start = run_folder.find_start(self.folder, given)

    def _encoder(self) -> EncoderSettings:
        encoder = self.model.init_args.encoder
        if self.shards_weights and encoder.forward == "auto":
            encoder.forward = "padded"  # of the backbone itself, which collects its layers
        return build(EncoderSettings, encoder)

    def _corpus(self, data: DataSettings) -> Corpus:
        made = data.corpus is None
        if made and distributed.launch_rank() and PREPARED in os.environ:
            return Corpus.open(os.environ[PREPARED])  # the first process has made it for all
        cache = run_folder.root_folder(self.run.root) / ".cache"
        corpus = recipe_corpus(data, self.encoder, cache, self._progress())
        if made:
            os.environ[PREPARED] = str(corpus.folder)
        return corpus

    def _progress(self) -> Progress:
        return Progress(quiet=self.run.quiet or distributed.launch_rank() != 0)

    def _check_validation(self) -> None:
        none_held_out = f"{self.data.folder} holds no dev {self.examples.name}"
        left_out = self.trainer_settings.limit_val_batches == 0
        if not self.fitting and not self.validates:
            raise UserError(f"{none_held_out} to validate on.")
        if not self.fitting and left_out:
            raise UserError("trainer.limit_val_batches=0 leaves nothing to validate; leave it out.")
        if self.fitting and self.benchmarks.benchmarks and left_out:
            raise UserError(
                "validation names benchmarks, and trainer.limit_val_batches=0 leaves validation "
                "out. Leave one of them out."
            )
        if self.run.early_stopping is not None and (left_out or not self.validates):
            why = "trainer.limit_val_batches=0 leaves validation out" if left_out else none_held_out
            raise UserError(
                f"early_stopping needs a validation score, and {why}. Leave early_stopping out, "
                "or validate: on a corpus prepared with a dev share."
            )


def check_monitors(run: RunSettings, scores: Sequence[str], whose: str) -> None:
    """Raise UserError unless the names that choose the best checkpoint and end a run are scores.

    In a score's name a star stands for anything, where tasks that are not yet known have scores.
    """
    for settings in filter(None, (run.checkpoint, run.early_stopping)):
        monitor = settings.monitor
        if monitor not in scores and not any(fnmatchcase(monitor, score) for score in scores):
            raise UserError(
                f"monitor {monitor!r} is no validation score; {whose} are {', '.join(scores)}."
            )


def default_name(recipes: Sequence[Path], method: str) -> str:
    """The name of the first recipe, else of the method.

    A machine file is no recipe, wherever it stands: two experiments of one machine would share it.
    """
    files = [path for path in recipes if path.parent.name != MACHINE]
    return files[0].stem if files else method.rpartition(".")[2].lower()


def quiet_libraries() -> None:
    """Silence what libraries log and warn of that no user can change."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIET_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
