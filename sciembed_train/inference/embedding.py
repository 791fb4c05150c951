"""Embeddings of papers by a loaded encoder, a bounded number of texts at a time.

Shapes: ``U`` texts of a chunk, ``P`` texts in all, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32

from sciembed_train.batch import TokenRows
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.text.input_format import FORMATS

if TYPE_CHECKING:
    from sciembed_train.encoder.encoder import Encoder

Text = tuple[str | None, str | Sequence[str] | None]  # title, abstract
Item = TypeVar("Item")


def model_place(folder: str | Path) -> str | Path:
    """The folder itself or a hub name; of a run's folder its ``export``."""
    export = Path(folder) / "export"
    # An encoder that mixes layers has no config.json at its top.
    names = ("config.json", "sciembed.json")
    if not any((Path(folder) / name).is_file() for name in names) and any(
        (export / name).is_file() for name in names
    ):
        return export
    return folder


def open_encoder(folder: str | Path, settings: EmbedSettings, by_format: bool = False) -> Encoder:
    """The encoder of a model folder, of a run folder's ``export``, or of a hub name.

    Args:
        folder: see above.
        settings: how it embeds.
        by_format: what texts are read for is said with them, so the settings need not say it.

    Raises:
        UserError: no such model, or no such device.
    """
    from sciembed_train.encoder.encoder import Encoder

    place = model_place(folder)
    encoder = Encoder.load(place, pooling=settings.pooling, max_length=settings.max_length)
    if not by_format or settings.format is not None:
        check_format(encoder, settings)
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return encoder.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device {device} cannot be used here: {str(error).splitlines()[0].rstrip('.')}. "
            "Leave --device out to take what there is."
        ) from error


def check_format(encoder: Encoder, settings: EmbedSettings) -> None:
    """See that a model that reads texts for a format is told which, and no other model is.

    Raises:
        UserError: it is not so.
    """
    if settings.format is not None:
        encoder.format_reader.index_of(settings.format)
        return
    known = [FORMATS[name] for name in encoder.format_reader.names]
    if len(known) > 1:
        raise UserError(
            f"{encoder.settings.backbone}: reads texts for a format of task. Say for which, with "
            f"--format-token: one of {', '.join(known)}."
        )


def describe(encoder: Encoder) -> dict[str, Any]:
    """What of an encoder the numbers depend on."""
    return {
        "pooling": encoder.settings.pooling,
        "max_length": encoder.settings.max_length,
        "input_format": encoder.settings.input_format.as_dict(),
        "dim": encoder.dim,
        "device": encoder.device.type,
    }


def max_tokens_per_forward(encoder: Encoder, settings: EmbedSettings) -> int:
    """Tokens that are encoded at once."""
    return settings.batch_tokens or encoder.max_tokens_per_forward


def chunk_size(tokens: int) -> int:
    """Texts that are sorted together, for pieces of so many tokens: a dozen pieces or so.

    Enough for texts of like length to meet, little to lose when the process is killed.
    """
    return max(64, tokens // 16)


def token_chunks(encoder: Encoder, texts: Iterable[Text], size: int) -> Iterator[TokenRows]:
    """Token rows of ``size`` texts at a time; the next are read while these are encoded."""

    def tokenize(few: list[Text]) -> TokenRows:
        return encoder.rows([encoder.compose(title, abstract) for title, abstract in few])

    return ahead(chunks(texts, size), tokenize)


def encode(
    encoder: Encoder,
    rows: TokenRows,
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Float32[np.ndarray, "U D"]:
    """Embeddings of token rows in their order.

    Raises:
        UserError: an embedding is not finite.
    """
    vectors = encoder.encode_rows(
        rows, settings.batch_tokens, settings.precision, done, settings.format
    ).numpy()
    refuse_not_finite(vectors, settings)
    return vectors


def refuse_not_finite(vectors: Float32[np.ndarray, "U D"], settings: EmbedSettings) -> None:
    """Refuse embeddings that no ranking can be made of.

    Raises:
        UserError: one is not finite.
    """
    if not np.isfinite(vectors).all():
        raise UserError(
            f"The model gives embeddings that are not finite in {settings.precision}. "
            + (
                "Its weights are damaged: use another checkpoint."
                if settings.precision == "fp32"
                else "Use --precision fp32."
            )
        )


def embed_texts(
    encoder: Encoder,
    texts: Iterable[Text],
    count: int,
    settings: EmbedSettings,
    done: Callable[[int], Any] | None = None,
) -> Float32[np.ndarray, "P D"]:
    """Embeddings of texts, in memory.

    Args:
        encoder: see `open_encoder`.
        texts: title and abstract of each.
        count: how many there are, ``P``.
        settings: how.
        done: called with the number of texts just finished.
    """
    found = np.empty((count, encoder.dim), dtype=np.float32)
    at = 0
    for rows in token_chunks(encoder, texts, chunk_size(max_tokens_per_forward(encoder, settings))):
        found[at : at + len(rows)] = encode(encoder, rows, settings, done)
        at += len(rows)
    assert at == count
    return found


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter."""
    rest = iter(items)
    while few := list(islice(rest, size)):
        yield few


def ahead(items: Iterable[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
    """``work(item)`` for each item in order, the next one done in a thread meanwhile."""
    rest = iter(items)

    def one() -> tuple[Any] | None:
        for item in rest:
            return (work(item),)
        return None

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(one)
        while (found := coming.result()) is not None:
            coming = pool.submit(one)
            yield found[0]
