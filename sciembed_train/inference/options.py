"""Settings that embedding and evaluating share. Importing this module imports no torch."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sciembed_train.encoder.backends.graph_files import Backend, check_backend
from sciembed_train.encoder.pooling.registry import import_pooling
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

Similarity = Literal["euclidean", "cosine"]
_SHARE = re.compile(r"(\d{1,9})/(\d{1,9})")
SIMILARITIES: tuple[Similarity, ...] = ("euclidean", "cosine")
Dtype = Literal["float32", "float16", "int8", "binary"]


def similarity_of(asked: str | None, recorded: str | None, place: object) -> Similarity:
    """What vectors are compared by: as asked, else as recorded, else Euclidean distance.

    Raises:
        UserError: ``place`` records another similarity, such as the dot product.
    """
    similarity = asked or recorded or "euclidean"
    if similarity not in SIMILARITIES:
        raise UserError(
            f"{place} compares its vectors by {similarity}; for whole vectors there are "
            f"{' and '.join(SIMILARITIES)}. Name the one to use with --similarity."
        )
    return cast(Similarity, similarity)


Scorer = Literal["document", "sentences", "best_match", "transport", "facet"]


@dataclass(frozen=True)
class EmbedSettings:
    """How the model embeds.

    Args:
        pooling: how a text becomes one vector, instead of what the model records: ``cls``,
            ``mean``, or the import path of a class of yours, which is then imported.
        max_length: the largest number of tokens of a text, instead of what the model records.
        precision: of the matrix products; embeddings are always float32.
        batch_tokens: tokens encoded at once; by default as was measured for the kind of device. It
            changes speed and memory, and results only by rounding.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU where there is one.
        format_token: the format of task that texts are embedded for, of a model with adapters or
            control codes, by its code or its name: ``[CLF]`` or classification, ``[RGN]`` or
            regression, ``[PRX]`` or proximity, ``[QRY]`` or adhoc_query.
        dim: only so many of the first numbers of each vector, such as one of the widths that the
            model was trained for (``matryoshka_dims``); null for all.
        prompt: the name of the model's prompt that is put before each paper, or ``none``; by
            default that of documents, where the model has one.
        backend: what computes the vectors: ``torch``, or the graph of ``onnx`` or ``openvino`` that
            an export wrote beside the weights; by default torch, and the graph of a model that has
            no weights.

    Raises:
        UserError: a value is out of its range, or does not go with a graph.
    """

    pooling: str | None = None
    max_length: int | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_tokens: int | None = None
    device: str = "auto"
    format_token: str | None = None
    dim: int | None = None
    prompt: str | None = None
    backend: Backend | None = None

    def __post_init__(self) -> None:
        check_backend(self.backend)
        if self.pooling is not None and self.pooling not in ("cls", "mean"):
            if "." not in self.pooling:
                raise UserError(
                    f"--pooling is {self.pooling}; expected cls, mean or a class's import path."
                )
            import_pooling(self.pooling)
        check_device(self.device)
        for key in ("batch_tokens", "max_length", "dim"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"--{key.replace('_', '-')} is {value}; expected 1 or more.")
        known = (*FORMATS.values(), *FORMATS)
        if self.format_token is not None and self.format_token not in known:
            raise UserError(
                f"--format-token is {self.format_token}; expected one of {', '.join(known)}."
            )

    def check_graph(self, backend: Backend) -> None:
        """Refuse what is settled inside of a graph, or is not computed by its runtime.

        Raises:
            UserError: there is such a setting.
        """
        for option, value, remedy in (
            ("pooling", self.pooling, "the graph has its own"),
            ("precision", None if self.precision == "fp32" else self.precision, "it has its own"),
            ("device", None if self.device in ("auto", "cpu") else self.device, "it runs on a CPU"),
        ):
            if value is not None:
                raise UserError(
                    f"--{option} {value} does not go with --backend {backend}: {remedy}. Leave it "
                    "out, or use --backend torch."
                )

    @property
    def format(self) -> str | None:
        """The name of the format that reads the texts."""
        names = {code: name for name, code in FORMATS.items()}
        return names.get(self.format_token or "", self.format_token)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check_device(device: str) -> None:
    """Raise UserError unless a text names a device; whether it is there, torch says later."""
    if not re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:\d{1,3})?", device):
        raise UserError(f"--device is {device!r}; expected auto, cpu, cuda, or one such as cuda:1.")


@dataclass(frozen=True)
class EmbedFileSettings:
    """What is embedded.

    Args:
        model: a model folder, a run folder or a hub name.
        input: papers with ``paper_id``, ``title`` and ``abstract``: .jsonl, .csv, .tsv or .parquet,
            plain, .gz or .zst.
        to: the file to write: .jsonl, .npy (with the ids in .ids.txt) or .parquet; or a name
            without an ending, for a folder of shards that several processes can write together.
        max_bad_rows: malformed rows of the input that are left out; more of them end the command.
        restart: delete an unfinished result that was made with other settings, and start again.
        shard_size: papers of a shard, in a folder of shards.
        shards: the share of the shards that this process does, such as 3/8 for the third of eight
            processes; by default what torchrun or a SLURM array says, else all that are free.
        dtype: of the stored numbers, in .npy files and shards: ``float16``, ``int8`` with a range
            for each number from the first 1,024 papers, or ``binary``, the signs as bits.

    Raises:
        UserError: a value is out of its range, or shards or a dtype are asked of a file without.
    """

    model: str | Path
    input: str | Path
    to: str | Path
    max_bad_rows: int = 0
    restart: bool = False
    shard_size: int = 100_000
    shards: str | None = None
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        check_bad_rows(self.max_bad_rows)
        check_dtype(self.dtype)
        if self.dtype != "float32" and not self.in_shards and Path(self.to).suffix != ".npy":
            raise UserError(
                f"--dtype {self.dtype} goes with an .npy file or a folder of shards; --to "
                f"{self.to} holds numbers as text or float32. Leave it out, or give another --to."
            )
        if self.shard_size < 1:
            raise UserError(f"--shard_size is {self.shard_size}; expected 1 or more.")
        if self.share is not None and not self.in_shards:
            raise UserError(
                f"--shards goes with a folder of shards, and --to {self.to} is a file. Give a name "
                "without an ending."
            )

    @property
    def in_shards(self) -> bool:
        """Whether a folder of shards is written: the name has no ending, or ends in a slash."""
        return not Path(self.to).suffix or str(self.to).endswith("/")

    @property
    def share(self) -> tuple[int, int] | None:
        """What ``shards`` says: the number of the process, from 0, and of all processes."""
        if self.shards is None:
            return None
        match = _SHARE.fullmatch(self.shards)
        number, processes = (int(part) for part in match.groups()) if match else (0, 0)
        if not 1 <= number <= processes:
            raise UserError(
                f"--shards is {self.shards!r:.40}; expected one such as 3/8, the third of eight "
                "processes."
            )
        return number - 1, processes


def check_dtype(dtype: str | None) -> None:
    """Raise UserError unless vectors can be stored so."""
    if dtype is not None and dtype not in get_args(Dtype):
        raise UserError(f"--dtype is {dtype}; expected one of {', '.join(get_args(Dtype))}.")


def check_bad_rows(rows: int) -> None:
    """Raise UserError where the malformed rows that are left out are fewer than none."""
    if rows < 0:
        raise UserError(f"--max-bad-rows is {rows}; expected 0 or more.")


@dataclass(frozen=True)
class ScoreSettings:
    """How papers are ranked, instead of what the model records.

    Args:
        scorer: ``document`` compares one vector of title and abstract; the others compare
            sentences: ``sentences`` the nearest two of those encoded each alone, ``best_match``
            the nearest two of those encoded in their papers, ``transport`` all of these by
            optimal transport, ``facet`` the means of the title and of those that are of one facet
            (csfcube).
        similarity: compares the vectors of documents, of sentences encoded alone, and of facets.
        temperature: of optimal transport; 5000 as published.
        blur: of optimal transport; 0.05 where neither the model nor the option says.
        scaling: of optimal transport; 0.9 where neither the model nor the option says.
        dtype: what the vectors of documents are stored as before they are compared, as by ``embed
            --dtype``: ``int8`` by the ranges of the first 1,024 candidates, ``binary`` by the
            Hamming distance of their signs.

    Raises:
        UserError: a setting does not belong to the scorer.
    """

    scorer: Scorer | None = None
    similarity: Similarity | None = None
    temperature: float | None = None
    blur: float | None = None
    scaling: float | None = None
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        for key in ("temperature", "blur", "scaling"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{key} is {value}; expected a number above 0.")
        if self.scaling is not None and self.scaling >= 1:
            raise UserError(f"--scaling is {self.scaling}; expected a number below 1.")
        if self.scorer is not None:
            self.check(self.scorer)

    def check(self, scorer: Scorer) -> None:
        """Refuse settings of another scorer.

        Raises:
            UserError: there is one.
        """
        if self.similarity is not None and scorer in ("best_match", "transport"):
            raise UserError(
                f"--similarity goes with --scorer document, sentences or facet; {scorer} compares "
                "by Euclidean distance. Leave it out."
            )
        if self.dtype is not None and scorer != "document":
            raise UserError(f"--dtype goes with --scorer document, not {scorer}.")
        for key in ("temperature", "blur", "scaling"):
            if getattr(self, key) is not None and scorer != "transport":
                raise UserError(f"--{key} goes with --scorer transport, not {scorer}.")

    @property
    def set_options(self) -> list[str]:
        """The options that are set, as the command line spells them."""
        keys = self.__dataclass_fields__
        return [f"--{key}" for key in keys if getattr(self, key) is not None]
