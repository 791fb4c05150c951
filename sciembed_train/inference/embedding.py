"""Embeddings of papers by a loaded encoder, a bounded number of texts at a time.

Shapes: ``U`` texts of a chunk, ``P`` texts in all, ``D`` width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32

from sciembed_train.batch import TokenRows
from sciembed_train.errors import UserError
from sciembed_train.inference.options import Dtype, EmbedSettings
from sciembed_train.inference.quantisation import CALIBRATION, Quantisation
from sciembed_train.text.input_format import FORMATS
from sciembed_train.text.prompts import named_prompt
from sciembed_train.text.truncation import Truncation

if TYPE_CHECKING:
    from sciembed_train.encoder.text_interface import TextInterface

_warned: set[tuple[str, int]] = set()  # models and dims

Text = tuple[str | None, str | Sequence[str] | None]  # title, abstract
Prompted = tuple[str | None, str | Sequence[str] | None, str]  # behind a prompt of its own
Item = TypeVar("Item")


def open_encoder(
    folder: str | Path, settings: EmbedSettings, by_format: bool = False
) -> TextInterface:
    """The encoder of a model folder, of a run folder's ``export``, or of a hub name.

    With ``by_format`` the format comes with each text, so the settings need not name it.

    Raises:
        UserError: no such model, no such device, the model has no such prompt or no graph for the
            backend, or its vectors have fewer numbers than ``dim``.
    """
    encoder = _opened(folder, settings)
    if not by_format or settings.format is not None:
        check_format(encoder, settings)
    if settings.prompt is not None:
        own = encoder.settings
        put_before(encoder, named_prompt(own.prompts, settings.prompt, own.backbone, "--prompt"))
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if settings.dim is not None:
        _truncate(encoder, folder, settings.dim)
    try:
        return encoder if encoder.backend != "torch" else encoder.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {device} cannot be used here: {str(error).splitlines()[0].rstrip('.')}. "
            "Leave --device out to use what is available."
        ) from error


def _opened(folder: str | Path, settings: EmbedSettings) -> TextInterface:
    """The encoder of a folder, run by what the settings name or the folder has."""
    from sciembed_train.encoder.backends.graph_encoder import GraphEncoder, backend_of
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.safety.find_model import model_place

    place = model_place(folder)
    backend = backend_of(place, settings.backend)
    if backend == "torch":
        return Encoder.load(place, pooling=settings.pooling, max_length=settings.max_length)
    settings.check_graph(backend)
    return GraphEncoder.load(place, backend, settings.max_length)


def _truncate(encoder: TextInterface, folder: str | Path, dim: int) -> None:
    """Let an encoder give the first ``dim`` numbers, and warn once where it was not trained to.

    Raises:
        UserError: it has fewer numbers, or no vector of a whole text.
    """
    from sciembed_train.encoder.io.model_metadata import read_metadata
    from sciembed_train.safety.find_model import find_folder, model_place

    if dim > encoder.dim:
        raise UserError(
            f"--dim is {dim}, and the vectors of {folder} have {encoder.dim} numbers; give at most "
            "as many."
        )
    if encoder.pooling.per_sentence:
        raise UserError(
            f"--dim goes with one vector a text, and {folder} gives one for each sentence; leave "
            "it out."
        )
    if dim == encoder.dim:
        return
    encoder.truncate_dim = dim
    trained = read_metadata(find_folder(model_place(folder))).record.get("matryoshka_dims") or []
    if dim not in trained and (str(folder), dim) not in _warned:
        _warned.add((str(folder), dim))
        known = f"for {', '.join(map(str, trained))}" if trained else "at its full width alone"
        print(
            f"warning: --dim is {dim}, and {folder} was trained {known} (model.matryoshka_dims): "
            "what the first numbers are worth is not known. Evaluate with the same --dim.",
            file=sys.stderr,
        )


def local_device(settings: EmbedSettings, local_rank: int | None) -> EmbedSettings:
    """The settings of one of several processes of a machine: each has a GPU of its own.

    Only where the device is ``auto`` and a launcher has numbered the processes; a graph runs on the
    host.
    """
    gpus = torch.cuda.device_count()
    graph = settings.backend not in (None, "torch")
    if settings.device != "auto" or local_rank is None or not gpus or graph:
        return settings
    return replace(settings, device=f"cuda:{local_rank % gpus}")


def put_before(encoder: TextInterface, prompt: str) -> None:
    """Let an encoder read papers behind this prompt; none where it is empty."""
    form = replace(encoder.settings.input_format, prompt=prompt)
    encoder.settings = replace(encoder.settings, input_format=form)


def prompt_line(encoder: TextInterface) -> str | None:
    """What to say of the prompt before papers; None where there is none."""
    prompt = encoder.settings.input_format.prompt
    if not prompt:
        return None
    return f"Each paper was read behind the prompt {prompt!r}; --prompt none leaves it out."


def check_format(encoder: TextInterface, settings: EmbedSettings) -> None:
    """Check that a format is named for a model that has several, and for no other model.

    Raises:
        UserError: a format is missing, or the model has none of this name.
    """
    if settings.format is not None:
        encoder.format_reader.index_of(settings.format)
        return
    known = [FORMATS[name] for name in encoder.format_reader.names]
    if len(known) > 1:
        raise UserError(
            f"{encoder.settings.backbone}: embeds texts for a format of task. Name it with "
            f"--format-token: one of {', '.join(known)}."
        )


def describe(encoder: TextInterface) -> dict[str, Any]:
    """The settings of an encoder that embeddings depend on."""
    return {
        "pooling": encoder.settings.pooling,
        "max_length": encoder.settings.max_length,
        "input_format": encoder.settings.input_format.as_dict(),
        "dim": encoder.dim,
        "device": encoder.device.type,
        **({} if encoder.backend == "torch" else {"backend": encoder.backend}),
    }


def max_tokens_per_forward(encoder: TextInterface, settings: EmbedSettings) -> int:
    """Tokens that are encoded at once."""
    return settings.batch_tokens or encoder.max_tokens_per_forward


def chunk_size(tokens: int) -> int:
    """Texts that are sorted together by length, about a dozen micro-batches of ``tokens``.

    Enough to find texts of similar length, and little is lost when the process is killed.
    """
    return max(64, tokens // 16)


def composed(encoder: TextInterface, text: Text | Prompted) -> str:
    """A text as the encoder reads it, behind its own prompt where it comes with one."""
    prompt = text[2] if len(text) == 3 else None
    return encoder.compose(text[0], text[1], prompt)


def token_chunks(
    encoder: TextInterface,
    texts: Iterable[Text | Prompted],
    size: int,
    counted: Truncation | None = None,
) -> Iterator[TokenRows]:
    """Token rows of ``size`` texts at a time; the next are tokenised while these are encoded.

    ``counted`` gets what is cut of them.
    """

    def tokenize(batch: list[Text | Prompted]) -> TokenRows:
        return encoder.rows([composed(encoder, text) for text in batch], counted)

    return prefetched(chunks(texts, size), tokenize)


def encode(
    encoder: TextInterface,
    rows: TokenRows,
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Float32[np.ndarray, "U D"]:
    """Embeddings of token rows in their order.

    Raises:
        NotFiniteError: an embedding is not finite.
    """
    vectors = encoder.encode_rows(
        rows, settings.batch_tokens, settings.precision, done, settings.format
    ).numpy()
    refuse_not_finite(vectors, settings.precision)
    return vectors


class NotFiniteError(UserError):
    """A vector that is not finite, and so has no distance to any other.

    Args:
        what: whose vector it is, such as ``paper 1706.03762``.
        number: of the text or paper among those that were encoded together, from 0.
        precision: of the model's products.
    """

    def __init__(self, what: str, number: int, precision: str) -> None:
        remedy = (
            "Its weights are damaged: use another checkpoint."
            if precision == "fp32"
            else "Use --precision fp32; if that is no better, its weights are damaged."
        )
        super().__init__(
            f"The model gives a vector that is not finite for {what}, in {precision}, and perhaps "
            f"for more. {remedy}"
        )
        self.number, self.precision = number, precision

    def named(self, what: str, number: int | None = None) -> NotFiniteError:
        """The same of a text that is known by another name."""
        return NotFiniteError(what, self.number if number is None else number, self.precision)


def refuse_not_finite(vectors: Float32[np.ndarray, "U D"], precision: str) -> None:
    """Raise a NotFiniteError if a vector is not finite, and so cannot be ranked."""
    if not np.isfinite(vectors).all():
        number = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise NotFiniteError(f"text {number + 1}", number, precision)


def embed_texts(
    encoder: TextInterface,
    texts: Iterable[Text | Prompted],
    count: int,
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Float32[np.ndarray, "P D"]:
    """Embeddings of ``count`` texts, in memory; ``done`` gets the number of texts just finished.

    Raises:
        NotFiniteError: an embedding is not finite.
    """
    size = chunk_size(max_tokens_per_forward(encoder, settings))
    return embed_rows(encoder, token_chunks(encoder, texts, size), count, settings, done)


def calibrate(
    encoder: TextInterface, texts: Iterable[Text], dtype: Dtype, settings: EmbedSettings
) -> Quantisation:
    """How vectors are stored as ``dtype``, by the first `CALIBRATION` texts where it has ranges.

    A function of the model, the texts and the settings alone, but for rounding.

    Raises:
        NotFiniteError: an embedding is not finite.
    """
    if dtype != "int8":
        return Quantisation(dtype, encoder.dim)
    first = list(islice(texts, CALIBRATION))
    return Quantisation.calibrated(dtype, embed_texts(encoder, first, len(first), settings))


def embed_rows(
    encoder: TextInterface,
    chunks_of_rows: Iterable[TokenRows],
    count: int,
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Float32[np.ndarray, "P D"]:
    """As `embed_texts`, of ``count`` texts that `token_chunks` has tokenised."""
    vectors = np.empty((count, encoder.dim), dtype=np.float32)
    start = 0
    for rows in chunks_of_rows:
        try:
            vectors[start : start + len(rows)] = encode(encoder, rows, settings, done)
        except NotFiniteError as error:
            number = start + error.number
            raise error.named(f"text {number + 1:,} of {count:,}", number) from None
        start += len(rows)
    assert start == count
    return vectors


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def prefetched(items: Iterable[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
    """``work(item)`` for each item in order; the next is computed in a thread meanwhile."""
    rest = iter(items)

    def next_result() -> tuple[Any] | None:
        for item in rest:
            return (work(item),)
        return None

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next_result)
        while (result := pending.result()) is not None:
            pending = pool.submit(next_result)
            yield result[0]
