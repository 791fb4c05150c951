"""The commands of the command line. Importing this module imports no torch."""

from __future__ import annotations

import ctypes
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sciembed_train import __version__
from sciembed_train.config.program import as_called, program
from sciembed_train.errors import RunError, UserError

# Command -> (module with a ``main(argv) -> int | None``, what it does). The modules are imported
# only when their command is called, so that ``--help`` and a typing mistake cost nothing.
COMMANDS: dict[str, tuple[str, str]] = {
    command: (f"sciembed_train.commands.{module}", what)
    for command, module, what in (
        ("quickstart", "quickstart", "a synthetic corpus, from citations to scores"),
        ("recipes", "recipes", "the shipped recipes, a line each"),
        ("init", "init", "look at your files, and write a recipe for them"),
        ("prepare", "prepare", "papers, citations and documents into a corpus"),
        ("show", "show", "the texts as the model reads them, and how they are paired"),
        ("align", "align", "which sentences of co-cited papers are similar"),
        ("mine", "mine", "hard negatives of a corpus, by an encoder"),
        ("fit", "fit", "train an encoder by a recipe; writes checkpoints/<run>/"),
        ("validate", "validate", "the validation scores of a checkpoint"),
        ("export", "export", "a checkpoint as a folder other libraries load"),
        ("import", "import_model", "a published model as a folder ready to use"),
        ("merge", "merge", "the mean of several encoders' weights"),
        ("push", "push", "an export as a repository of the Hugging Face hub"),
        ("embed", "embed", "vectors of a file of papers"),
        ("index", "index", "an index of vectors, for search"),
        ("search", "search", "the nearest papers of a text or a paper; a page for it"),
        ("evaluate", "evaluate", "scores of a model or a ranking"),
        ("compare", "compare", "two papers sentence by sentence, and a picture of it"),
        ("doctor", "doctor", "what this machine has, what would run and what not"),
        ("completion", "completion", "completes options in bash and zsh"),
        ("test", "run_tests", "lint, types and tests; with arguments, pytest alone"),
    )
}


def usage() -> str:
    """The text of ``--help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {command:<{width}}  {what}" for command, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {program()} COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            f"{program()} COMMAND --help explains a command; {program()} --version prints the "
            "version.",
        ]
    )


def set_environment() -> None:
    """What libraries read once, when they are imported; a value the user has set stays.

    Going online is the user's choice (``HF_HUB_OFFLINE``) and is not touched. Under torchrun,
    ``OMP_NUM_THREADS`` is torchrun's; Lightning shares the cores among processes it starts itself.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # How long OpenMP's threads spin at a barrier before they sleep. By default long enough that
    # attention text by text ran 10 times slower where another process wanted the same two cores
    # (1.7 s against 0.16 s for 24 texts); on cores of its own a run is as fast with either.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Large tensors in huge pages, where the system gives them to who asks (`madvise`).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # oneDNN keeps what it has compiled for a shape, for 1,024 shapes: every step brings new ones,
    # and few of them come again.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if "SLURM_CPUS_PER_TASK" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])


MMAP_THRESHOLD, TRIM_THRESHOLD = 8 << 20, 256 << 20  # bytes


def keep_memory_flat() -> None:
    """Have glibc give the memory of a large tensor back as soon as it is freed.

    Steps have texts of other lengths, and so tensors of other sizes, each time. glibc comes to keep
    pieces of up to 32 MB for later, fewer and fewer of which fit. Here it keeps those below 8 MB: a
    smaller limit costs time (``benchmarks/faults.md``).
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(-3, MMAP_THRESHOLD)  # M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, TRIM_THRESHOLD)  # M_TRIM_THRESHOLD: as high as glibc itself sets it in time


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 2 the user's input is wrong, 130 interrupted, 1 output closed or
        work that cannot go on. An unexpected error keeps its traceback, with which Python exits
        with 1.
    """
    try:
        try:
            return _run(argv)
        finally:  # here, and not when Python exits, so that a closed pipe can be caught
            sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as `head` does
        # Python flushes once more at exit and would complain about the same pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: Sequence[str] | None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    if len(args) > 1 and args[0] == "help":
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if args else 2
    command, rest = args[0], args[1:]
    if command == "--version":
        print(__version__)
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        print(
            f"{program()}: no command {command!r}. {hint}Commands: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    set_environment()
    keep_memory_flat()
    try:
        return importlib.import_module(COMMANDS[command][0]).main(rest) or 0
    except UserError as error:
        print(f"{program()} {command}: {as_called(str(error))}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"{program()} {command}: {as_called(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program()} {command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = _of_full_disk(error)
        if message is None:
            raise
        print(f"{program()} {command}: {message}", file=sys.stderr)
        return 1


def _of_full_disk(error: Exception) -> str | None:
    """The message of a full disk where no command has a better one; None for other errors."""
    from sciembed_train.full_disk import full_disk_message

    # Of a copy the second is what is written.
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    place = Path(name) if isinstance(name, str) else Path()
    return full_disk_message(error, place, "Make room and run the same command again.")


if __name__ == "__main__":
    sys.exit(main())
