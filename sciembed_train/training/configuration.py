"""A command line and its recipes as a configured trainer, method and data module."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
import os
import sys
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, ArgumentError
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger

from sciembed_train import distributed
from sciembed_train.config import messages
from sciembed_train.config.recipes import find_recipe, split_recipes
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.encoder.io.model_metadata import tokenizer_folder
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.sampling.base import Examples, Sampling, TokenizationSpec, named_class
from sciembed_train.sampling.data_module import RAW, TrainingData
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.training import run_folder
from sciembed_train.training.callbacks import (
    Bar,
    Lines,
    MicroBatches,
    RunCheckpoints,
    Scores,
    Signals,
    higher_is_better,
)
from sciembed_train.training.report import Report
from sciembed_train.training.trainer import (
    RunTrainer,
    one_line,
    probe,
    refuse_keys,
    total_steps,
    validation_interval,
)

# What of data says how raw files are prepared.
PREPARING = (
    *("format", "dev_share", "test_share", "dev_ids", "test_ids", "exclude_ids"),
    *("memory", "threads", "max_bad_rows", "seed"),
)
# Set for the processes that Lightning starts from this one: they need not look at the raw files.
PREPARED = "SCIEMBED_PREPARED_CORPUS"

NO_ADAPTERS = '{"model": {"init_args": {"encoder": {"adapters": null}}}}'


@dataclass(frozen=True)
class CheckpointSettings:
    """When a run is saved.

    Args:
        monitor: the validation score that says which checkpoint is the best; less is better for
            losses, more for every other.
        every: optimiser steps between two ``last.ckpt``; there is one after each validation too.
    """

    monitor: str = "val/loss"
    every: int = 1000

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"checkpoint.every must be 1 or more; got {self.every}.")


@dataclass(frozen=True)
class StoppingSettings:
    """When a run ends before its time.

    Args:
        patience: validations without a better score before the run ends.
        monitor: the score, as in ``checkpoint.monitor``.
        min_delta: least change that counts as better.
    """

    patience: int = 3
    monitor: str = "val/loss"
    min_delta: float = 0.0


def taken_back(argv: Sequence[str]) -> list[str]:
    """The words, with ``--model.encoder.adapters null`` as a recipe of its own in its place.

    The parser puts a table's keys into what an earlier recipe gave, and so takes no word that
    takes the table back; from a recipe it does.
    """
    key, found = "--model.encoder.adapters", []
    for word in argv:
        if word in ("null", "None", "~") and found and found[-1] == key:
            found[-1:] = ["-c", NO_ADAPTERS]
        elif word in (f"{key}=null", f"{key}=None", f"{key}=~"):
            found += ["-c", NO_ADAPTERS]
        else:
            found.append(word)
    return found


class RunCLI(LightningCLI):
    """LightningCLI as far as a configured trainer, method and data module.

    Args:
        argv: the words after the command.
        fitting: whether a run is made; otherwise a checkpoint is validated.
    """

    def __init__(self, argv: list[str], fitting: bool) -> None:
        self.argv, self.fitting = argv, fitting
        self.start: Path | None = None
        self.run_folder: Path | None = None
        super().__init__(
            model_class=Method,
            datamodule_class=TrainingData,
            trainer_class=RunTrainer,
            subclass_mode_model=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 10,
                "enable_model_summary": False,
            },
            parser_kwargs={
                "prog": f"train {'fit' if fitting else 'validate'}",
                "description": "Train a recipe; writes checkpoints/<run>/."
                if fitting
                else "The validation scores of a checkpoint.",
                "exit_on_error": False,
                "allow_abbrev": False,  # a key's beginning is a typing mistake
            },
            args=taken_back(argv),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our own arguments, and what the data takes from the encoder."""
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="continue from: 'last', or a .ckpt file" if self.fitting else "a .ckpt file",
        )
        parser.add_argument("--quiet", action=ActionYesNo, default=False, help="no progress")
        parser.add_argument("--root", type=str | None, default=None, help="where runs go")
        parser.add_argument("--run", type=str | None, default=None, help="the run's name")
        parser.add_argument("--checkpoint", type=CheckpointSettings, default=CheckpointSettings())
        parser.add_argument("--early_stopping", type=StoppingSettings | None, default=None)
        parser.add_argument("--wandb", action=ActionYesNo, default=False, help="log to W&B")
        parser.add_argument("--wandb_project", type=str, default="sciembed")
        parser.add_argument(
            "--export", action=ActionYesNo, default=True, help="write export/ at the end"
        )
        parser.add_argument(
            "--memory_dry_run",
            action=ActionYesNo,
            default=True,
            help="on a GPU, make the step that takes most memory once before the first",
        )
        if not self.fitting:
            parser.add_argument("--json", action=ActionYesNo, default=False, help="print JSON")
        encoder = "model.init_args.encoder"
        parser.link_arguments(f"{encoder}.max_length", "data.max_length")
        parser.link_arguments(f"{encoder}.backbone", "data.tokenizer")
        for field in fields(InputFormat):
            parser.link_arguments(
                f"{encoder}.input_format.{field.name}", f"data.input_format.{field.name}"
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; Lightning's own warns that words are given twice."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Make data, method and trainer; what their constructors refuse is a user's error."""
        try:
            super().instantiate_classes()
        except MisconfigurationException as error:
            raise UserError(one_line(error)) from error
        except (ValueError, TypeError, ArgumentError) as error:
            said = messages.own_message(error)
            if said is None:
                raise
            raise UserError(said) from error

    def before_instantiate_classes(self) -> None:
        """Everything that can be found wrong before a model is loaded."""
        config = self.config
        refuse_keys(config.trainer)
        self.method_class = named_class(config.model.class_path, Method)
        every = config.trainer.log_every_n_steps
        if every is None or every < 1:
            raise UserError(f"trainer.log_every_n_steps is {every}; give 1 or more steps.")
        scores, whose = self.method_class.validation_scores, self.method_class.__name__
        check_monitors(config, scores, f"the scores of {whose}")
        self.world_size, self.device_count = probe(config.trainer)
        if self.fitting:
            self._name_run()
        elif config.ckpt_path is None:
            raise UserError("--ckpt_path FILE is missing: give the checkpoint to validate.")
        else:
            from sciembed_train.export.checkpoint_file import find_checkpoint

            self.start = find_checkpoint(config.ckpt_path)
        self.given = config.clone()  # for config.yaml: raw files stay raw files, names names
        raw = self._raw_files()
        encoder = config.model.init_args.encoder
        if self.shards_weights and encoder.forward == "auto":
            encoder.forward = "padded"  # of the backbone itself, which collects its layers
        config.data.tokenizer = str(tokenizer_folder(encoder.backbone))
        if raw:
            self._prepare(raw)
        self._align()
        self.examples = self._open_examples()
        self.has_dev = len(self.examples.dev) > 0
        if self.fitting:
            given = (config.data.batch_size, config.data.seed, self.world_size)
            try:
                self.plan = self.examples.plan(*given, config.data.group_by_query)
            except UserError as error:  # what was left out may be why there are too few
                raise UserError(" ".join([str(error), *self.examples.notes])) from error
            self.total = total_steps(config.trainer, self.plan)
        elif not self.has_dev:
            raise UserError(
                f"{config.data.corpus} holds no dev {self.examples.name} to validate on."
            )
        left_out = config.trainer.limit_val_batches == 0
        if left_out and not self.fitting:
            raise UserError("trainer.limit_val_batches=0 leaves nothing to validate; leave it out.")
        if config.early_stopping is not None and (left_out or not self.has_dev):
            why = (
                "trainer.limit_val_batches=0 leaves validation out"
                if left_out
                else f"{config.data.corpus} holds no dev {self.examples.name}"
            )
            raise UserError(
                f"early_stopping needs a validation score, and {why}. Leave early_stopping out, "
                "or validate: on a corpus prepared with a dev share."
            )

    @property
    def shards_weights(self) -> bool:
        """Whether the ranks share the weights out among them."""
        return self.config.trainer.strategy == "fsdp"

    def _name_run(self) -> None:
        config = self.config
        config.run = config.run or default_name(self.argv, config)
        run_folder.check_name(config.run)
        self.run_folder = folder = self.root / config.run
        if distributed.launch_rank() == 0:  # the others find the folder of the first
            self.start = run_folder.find_start(folder, config.ckpt_path)
            run_folder.check_writable(folder)
        elif config.ckpt_path is not None:
            self.start = run_folder.find_start(folder, config.ckpt_path)

    def sampling(self) -> Sampling:
        """Which texts meet, as the recipe says."""
        given = self.config.data.sampling
        if given is None:
            return TripletSampling()
        kind = named_class(given.class_path, Sampling)
        return kind(**(given.init_args.as_dict() if "init_args" in given else {}))

    def _open_examples(self) -> Examples:
        data, encoder = self.config.data, self.config.model.init_args.encoder
        tokenizer = TextTokenizer.load(data.tokenizer)
        input_format = InputFormat(**encoder.input_format.as_dict())
        tokenization = TokenizationSpec(tokenizer, input_format, encoder.max_length, data.seed)
        return self.sampling().open(Corpus.open(data.corpus), tokenization, data.dev_examples)

    def _raw_files(self) -> dict[str, str]:
        """The raw files that are given in place of a corpus, by their kind."""
        data = self.config.data
        raw = {key: data[key] for key in RAW if data[key] is not None}
        if data.corpus is None:
            self.sampling().check_raw(raw, data.format)
        elif raw:
            raise UserError(
                f"data.corpus and data.{next(iter(raw))} are both given; give the prepared "
                "corpus, or the raw files."
            )
        return raw

    def _prepare(self, raw: dict[str, str]) -> None:
        data = self.config.data
        if distributed.launch_rank() and PREPARED in os.environ:  # the first has done it for all
            data.corpus = os.environ[PREPARED]
            return
        from sciembed_train.corpus.build import cached_corpus
        from sciembed_train.corpus.prepare_settings import PrepareSettings
        from sciembed_train.progress import Progress

        encoder = self.config.model.init_args.encoder
        settings = PrepareSettings(
            **raw,
            **{key: data[key] for key in PREPARING},
            triplets=TripletMining(**data.triplets.as_dict()),
            cocitation_mining=CocitationMining(**data.cocitation_mining.as_dict()),
            task_building=TaskBuilding(**data.task_building.as_dict()),
            tokenizer=data.tokenizer,
            input_format=InputFormat(**encoder.input_format.as_dict()),
            sentence_tokens=gives_sentence_vectors(encoder.pooling),
        )
        quiet = self.config.quiet or distributed.launch_rank() != 0
        made = cached_corpus(settings, self.root / ".cache", Progress(quiet=quiet))
        data.corpus = os.environ[PREPARED] = str(made.folder)

    def _align(self) -> None:
        """Have sentences aligned by the model that the sampling names, unless they are."""
        sampling, corpus = self.sampling(), Corpus.open(self.config.data.corpus)
        if not sampling.alignment_model(corpus):
            return
        from sciembed_train.progress import Progress
        from sciembed_train.training.sampling_alignment import with_alignment

        quiet = self.config.quiet or distributed.launch_rank() != 0
        aligned = with_alignment(sampling, corpus, Progress(quiet=quiet))
        for name, value in vars(aligned).items():
            self.config.data.sampling.init_args[name] = value

    @property
    def root(self) -> Path:
        """Where runs go."""
        return Path(self.config.root) if self.config.root else run_folder.root_folder()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, its length in steps and with what a run always has."""
        if not self.fitting:
            return super().instantiate_trainer(
                logger=False, enable_checkpointing=False, enable_progress_bar=False
            )
        config, folder = self.config, self.run_folder
        assert folder is not None
        wanted = config.trainer.enable_progress_bar is not False and not config.quiet
        bar = wanted and sys.stderr.isatty()
        callbacks: list[Callback] = [Signals(), MicroBatches(self.write_config, config.quiet)]
        if not config.quiet:
            callbacks += [Scores(), Bar() if bar else Lines()]
        if config.early_stopping is not None:
            callbacks.append(early_stopping(config.early_stopping))
        monitor, every = config.checkpoint.monitor, config.checkpoint.every
        callbacks += [
            Report(folder, Path(config.data.corpus), monitor, every),
            RunCheckpoints(folder, monitor, every),
        ]
        trainer, made = config.trainer, self._get(self.config_init, "trainer")
        return super().instantiate_trainer(
            callbacks=[*_as_list(made.callbacks), *callbacks],
            logger=self._loggers(folder),
            max_steps=self.total,
            max_epochs=-1,
            val_check_interval=validation_interval(trainer, self.plan.steps_per_epoch),
            check_val_every_n_epoch=None,
            limit_val_batches=trainer.limit_val_batches if self.has_dev else 0,
            log_every_n_steps=min(trainer.log_every_n_steps, self.total),
            enable_progress_bar=bar,
        )

    def write_config(self, max_tokens_per_backward: int | None = None) -> None:
        """Write ``config.yaml``; with the micro-batches of a step where memory has set their
        size."""
        assert self.run_folder is not None
        if max_tokens_per_backward is not None:
            self.given.model.init_args.max_tokens_per_backward = max_tokens_per_backward
        path = self.run_folder / "config.yaml"
        self.parser.save(self.given, path, overwrite=True, skip_none=False)

    def _loggers(self, folder: Path) -> list[Logger]:
        loggers: list[Logger] = [run_folder.MetricsCsv(folder / "metrics.csv")]
        given = self._get(self.config_init, "trainer").logger
        if isinstance(given, Logger | list):
            loggers += _as_list(given)
        if self.config.wandb:
            loggers.append(wandb_logger(folder, self.config.run, self.config.wandb_project))
        return loggers


def check_monitors(config: Any, scores: Sequence[str], whose: str) -> None:
    """Raise UserError unless what chooses and what ends a run are among the scores.

    In a score's name a star stands for anything, where tasks that are not yet known have scores.
    """
    stopping = [config.early_stopping] if config.early_stopping is not None else []
    for settings in (config.checkpoint, *stopping):
        known = (fnmatchcase(settings.monitor, score) for score in scores)
        if settings.monitor not in scores and not any(known):
            raise UserError(
                f"monitor {settings.monitor!r} is no validation score; {whose} are "
                f"{', '.join(scores)}."
            )


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def default_name(argv: list[str], config: Any) -> str:
    """The name of the first recipe on the command line, else of the method.

    A machine file is no recipe, wherever it stands: two experiments of one machine would share it.
    """
    files = [
        file
        for file in [find_recipe(file) for file in split_recipes(argv)[0]]
        if file.parent.name != "machine"
    ]
    return files[0].stem if files else str(config.model.class_path).rpartition(".")[2].lower()


def early_stopping(settings: StoppingSettings) -> EarlyStopping:
    """Lightning's callback."""
    return EarlyStopping(
        monitor=settings.monitor,
        patience=settings.patience,
        min_delta=settings.min_delta,
        mode="max" if higher_is_better(settings.monitor) else "min",
        check_on_train_epoch_end=False,
    )


def wandb_logger(folder: Path, run: str, project: str) -> Logger:
    """W&B's logger; ``WANDB_MODE=offline`` keeps everything in the run's folder.

    Raises:
        UserError: wandb is not installed.
    """
    try:
        import wandb  # noqa: F401 - asked for before Lightning does, for a better message
    except ImportError as error:
        raise UserError(
            "--wandb needs the package wandb; install it with "
            "`pip install 'sciembed_train[wandb]'`, or leave --wandb out."
        ) from error
    from pytorch_lightning.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "wandb_run.txt"  # a continued run goes on in the same curves
    goes_on = known.is_file() and any((folder / mark).exists() for mark in run_folder.MARKS)
    if not goes_on and distributed.launch_rank() == 0:
        known.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    number = known.read_text(encoding="utf-8").strip() if known.is_file() else None
    return WandbLogger(save_dir=str(folder), name=run, id=number, project=project, resume="allow")


@contextlib.contextmanager
def friendly_errors(argv: list[str]) -> Iterator[None]:
    """Configuration errors as UserError, and no talk of the libraries that helps nobody."""
    messages.check_files([find_recipe(file) for file in split_recipes(argv)[0]])
    # Lightning 2.6 calls jsonargparse's older names; nobody who trains can do a thing about it.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*does not have many workers.*",
        r".*You're resuming from a checkpoint that ended before the epoch ended.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*smaller than the logging interval.*",
        r".*module\(s\) in eval mode at the start of training.*",
        r".*The `srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    try:
        yield
    except ArgumentError as error:
        said = f"{messages.shorten(str(error), argv).removesuffix('.')}."
        key = messages.unknown_key(str(error))
        near = difflib.get_close_matches((key or "").rpartition(".")[2], sorted(known_keys()), n=1)
        if key and near:
            said += f" Did you mean {near[0]!r}?"
        if not [find_recipe(file) for file in split_recipes(argv)[0]]:
            said += " Give a recipe first: -c configs/specter.yaml."
        raise UserError(said) from error


def known_keys() -> set[str]:
    """Every key that a configuration may have, for telling which one was meant."""
    from sciembed_train.encoder.encoder import EncoderSettings
    from sciembed_train.methods.aspire import Cocite
    from sciembed_train.methods.declutr import Declutr
    from sciembed_train.methods.specter import Specter
    from sciembed_train.methods.specter2 import MultiTask
    from sciembed_train.optim_settings import OptimSettings
    from sciembed_train.sampling.citing_pairs import CitingSentenceSampling
    from sciembed_train.sampling.cocitations import CocitationSampling
    from sciembed_train.sampling.spans import SpanSampling
    from sciembed_train.sampling.tasks import TaskSampling

    taking = (
        *(Specter, Declutr, Cocite, MultiTask, EncoderSettings, InputFormat, OptimSettings),
        *(TrainingData, TripletMining, CocitationMining),
        *(TripletSampling, SpanSampling, CocitationSampling, SentencePairSampling),
        *(CitingSentenceSampling, TaskSampling, TaskBuilding),
        *(Trainer, CheckpointSettings, StoppingSettings),
    )
    own = {"ckpt_path", "run", "root", "quiet", "wandb", "export", "early_stopping", "checkpoint"}
    own.add("memory_dry_run")
    return own.union(*(inspect.signature(kind).parameters for kind in taking))
