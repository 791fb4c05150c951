"""Embeddings as users of other libraries get them from an exported folder.

Shapes: ``N`` texts, ``U`` of a batch, ``L`` slots of a padded row, ``D`` width.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.pooling.base import HiddenStates
from sciembed_train.encoder.pooling.last_token import last_of_rows
from sciembed_train.export.custom_model import with_custom_codes
from sciembed_train.export.verification import ExportError, compare_ids


def model_vectors(
    encoder: Encoder, model: Any, tokenizer: Any, texts: Sequence[str]
) -> Float[Tensor, "N D"]:
    """Embeddings by a model of ``transformers``, its last states pooled as the encoder does."""
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding is tested.
        for start in range(0, len(texts), 2):
            pair = list(texts[start : start + 2])
            batch = tokenizer(pair, padding=True, truncation=True, return_tensors="pt")
            hidden = model.eval()(**batch).last_hidden_state
            vectors.append(_pooled(encoder, hidden, batch["attention_mask"]))
    return torch.cat(vectors).float().clone()


def _pooled(
    encoder: Encoder, hidden: Float[Tensor, "U L D"], mask: Int[Tensor, "U L"]
) -> Float[Tensor, "U D"]:
    """The vector of each text, from last states and a mask that is 1 where a row has a token."""
    if not encoder.format_reader.uses_pooling:  # a control code, the first token of an export
        return hidden[:, 0]
    lengths = mask.sum(1)
    sizes = tuple(lengths.tolist())
    last = last_of_rows(hidden, mask)
    vectors = encoder.pooling(HiddenStates((hidden[:, 0],), hidden, sizes, lengths, mask, last))
    return encoder.parts.projected(vectors)


def transformers_vectors(
    encoder: Encoder,
    folder: Path,
    texts: Sequence[str],
    ids: list[list[int]] | None = None,
    padding_side: Literal["left", "right"] | None = None,
) -> Float[Tensor, "N D"]:
    """Embeddings as a user of ``transformers`` gets them from a plain model.

    ``ids`` are the texts' tokens if they are not the encoder's own; ``padding_side`` is the
    tokenizer's own by default.

    Raises:
        ExportError: the tokenizer gives other ids.
    """
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True)
    tokenizer.padding_side = padding_side or tokenizer.padding_side
    compare_ids(encoder, texts, tokenizer(list(texts), truncation=True)["input_ids"], ids)
    return model_vectors(encoder, model, tokenizer, texts)


def custom_code_vectors(
    encoder: Encoder, folders: Sequence[Path], texts: Sequence[str], pooling: str = "cls"
) -> list[Float[Tensor, "N D"]]:
    """Embeddings as a user of ``transformers`` gets them who trusts the models' own code.

    ``pooling``: ``cls`` takes the first token's state, ``mean`` the mean over tokens.

    Raises:
        ExportError: one does not load, or its tokenizer gives other ids.
    """
    try:
        models = with_custom_codes(folders, texts, pooling)
    except RuntimeError as error:
        raise ExportError(
            f"AutoModel does not load hf/ with its own code: {error}. The export was removed."
        ) from error
    for ids, _ in models:
        compare_ids(encoder, texts, ids)
    return [vectors for _, vectors in models]


def sentence_transformers_vectors(
    folder: Path, texts: Sequence[str], prompt: str = "", **options: Any
) -> Float[Tensor, "N D"] | None:
    """Embeddings as a user of sentence-transformers gets them; None where it is not installed.

    Args:
        folder: of a model of that library.
        texts: composed, each behind the prompt of papers.
        prompt: the one that the library puts there by itself; users give texts without it.
        options: more arguments of the class.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    with quiet_transformers():
        model = _sentence_transformer()(str(folder), device="cpu", local_files_only=True, **options)
        vectors = model.encode(
            [text.removeprefix(prompt) for text in texts],
            batch_size=2,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
    return vectors.float().cpu().clone()


def sentence_transformers_refuses(folder: Path, reason: str) -> bool | None:
    """Whether sentence-transformers refuses the folder for this reason; None if not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    for trust in (False, True):
        try:
            with quiet_transformers():
                _sentence_transformer()(
                    str(folder), device="cpu", local_files_only=True, trust_remote_code=trust
                )
        except (ValueError, OSError) as error:
            if reason.lower() not in str(error).lower():
                return False
            continue
        return False
    return True


def _sentence_transformer() -> Any:
    """The class ``SentenceTransformer``."""
    # With WANDB_MODE=offline, importing it prints a line; a command's own output may be JSON.
    with contextlib.redirect_stdout(sys.stderr):
        from sentence_transformers import SentenceTransformer
    return SentenceTransformer
