"""The checks of an export: what libraries compute from it, compared with the encoder in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.errors import UserError
from sciembed_train.export.sentence_probe import probe_papers

# Largest allowed difference of an entry, times the largest entry where that is above 1.
TOLERANCE = 1e-5


class ExportError(RuntimeError):
    """The exported folder does not give the encoder's embeddings; nothing was left behind."""


def probe_texts(encoder: Encoder) -> list[str]:
    """Texts to compare with: a title alone, and papers of a few to over 512 tokens."""
    sentence = (
        "We study how graphs of citations relate to the words of papers, and measure (n = 1,024) "
        "what a model of both gains over either: 3.5% on average. "
    )
    title = "Naïve baselines for document-level representation"
    abstracts = [None, "One short sentence.", sentence * 3, sentence * 8, sentence * 40]
    texts = [encoder.compose(title, abstract) for abstract in abstracts]
    return [*texts, encoder.compose("A", None)]


def refuse_not_finite(encoder: Encoder) -> None:
    """Raise a UserError if a weight, or the vector of a test paper, is not finite.

    An export of it would give every paper a vector that has no distance to any other.
    """
    remedy = "Nothing was exported. Use another checkpoint: it is damaged, or training diverged."
    for name, value in encoder.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(f"The model's weight {name} is not finite. {remedy}")
    if encoder.pooling.per_sentence:
        papers = probe_papers()
        titles = [title or sentences[0] for title, sentences in papers]
        vectors_by_format = [encoder.encode_sentences(papers)]
    else:
        titles = probe_texts(encoder)
        formats = encoder.format_reader.names or (None,)
        vectors_by_format = [list(encoder.encode_texts(titles, format=name)) for name in formats]
    for vectors in vectors_by_format:
        for title, rows in zip(titles, vectors, strict=True):
            if not bool(rows.isfinite().all()):
                raise UserError(
                    f"The model gives the test paper {title[:60]!r} a vector that is not finite. "
                    f"{remedy}"
                )


def compare(
    library: str,
    what: str,
    actual: Float[Tensor, "N D"],
    expected: Float[Tensor, "N D"],
    tolerance: float = TOLERANCE,
) -> float:
    """The largest difference of an entry, which must be small.

    ``tolerance`` is the most that is allowed, times the largest entry where that is above 1.

    Raises:
        ExportError: it is not, or the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ExportError(
            f"{library} loads the export with {what} of {tuple(actual.shape)}; expected "
            f"{tuple(expected.shape)}. The export was removed."
        )
    difference = float((actual - expected).abs().max())
    limit = tolerance * max(1.0, float(expected.abs().max()))
    if not difference <= limit:  # also when it is not a number
        raise ExportError(
            f"{library} computes other {what} from the export: they differ by "
            f"{difference:.2g}, and at most {limit:.2g} is allowed. The export was removed."
        )
    return difference


def compare_where_installed(
    library: str, actual: Float[Tensor, "N D"] | None, expected: Float[Tensor, "N D"]
) -> float | None:
    """`compare` embeddings; None if the library is not installed and gave none."""
    return None if actual is None else compare(library, "embeddings", actual, expected)


def compare_ids(
    encoder: Encoder,
    texts: Sequence[str],
    ids: list[list[int]],
    expected: list[list[int]] | None = None,
) -> None:
    """Check the token ids that an exported tokenizer gave; the encoder's own by default.

    Raises:
        ExportError: they differ from those expected.
    """
    if ids != (expected or encoder.tokenizer.rows(texts, encoder.settings.max_length)):
        raise ExportError(
            "The exported tokenizer gives other token ids than the one trained with. "
            "The export was removed."
        )


def check_refused(folder: Path, parts: Sequence[str], without: str) -> None:
    """Check that plain ``AutoModel`` loads no part of an export, which would lack ``without``.

    ``parts`` are sub-folders; the empty one is the export itself.

    Raises:
        ExportError: one loads.
    """
    from transformers import AutoModel

    for part in parts:
        try:
            with quiet_transformers():
                AutoModel.from_pretrained(
                    str(folder / part), local_files_only=True, trust_remote_code=False
                )
        except (OSError, ValueError):
            continue
        raise ExportError(
            f"AutoModel loads {part or 'the folder itself'} without {without}, and so would give "
            "other embeddings and say nothing. The export was removed."
        )


def masked_lm_differences(
    encoder: Encoder, folder: Path, texts: Sequence[str]
) -> dict[str, float | None]:
    """The largest difference of a logit between ``AutoModelForMaskedLM`` and the encoder's head.

    Empty where the encoder has no head.

    Raises:
        ExportError: it is too large, or weights are missing.
    """
    if encoder.head is None:
        return {}
    rows, positions = _masked_rows(encoder, texts)
    with encoder.inferring("fp32"):
        _, states = encoder.with_token_states(rows, positions)
        expected = encoder.token_logits(states).float().clone()
    actual = _masked_lm_logits(encoder, folder, rows)[positions]
    library = "AutoModelForMaskedLM"
    return {library: compare(library, "logits of masked tokens", actual, expected)}


def _masked_rows(encoder: Encoder, texts: Sequence[str]) -> tuple[Any, Int[Tensor, " K"]]:
    """Rows of the shorter texts with every third word-piece masked, and the masked positions."""
    tokenizer = encoder.tokenizer
    by_length = encoder.rows(texts).lengths.argsort(stable=True)
    rows = encoder.rows([str(texts[i]) for i in by_length[:4].tolist()])
    special = torch.tensor([*tokenizer.prefix, *tokenizer.suffix], dtype=torch.int64)
    ordinary = torch.nonzero(~torch.isin(rows.ids, special))[:, 0]
    positions = ordinary[::3]
    ids = rows.ids.clone()
    if tokenizer.mask_id is not None:
        ids[positions] = tokenizer.mask_id
    return replace(rows, ids=ids), positions


def _masked_lm_logits(encoder: Encoder, folder: Path, rows: Any) -> Float[Tensor, "T V"]:
    """Logits of all tokens as a user of ``transformers`` gets them from the folder."""
    from transformers import AutoModelForMaskedLM

    with quiet_transformers():
        loaded: Any = AutoModelForMaskedLM.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
    model, info = loaded
    if info["missing_keys"]:
        raise ExportError(
            f"AutoModelForMaskedLM does not find {sorted(info['missing_keys'])[0]} in the export. "
            "The export was removed."
        )
    slots = torch.arange(int(rows.lengths.max()))
    mask = slots < rows.lengths.unsqueeze(1)
    ids = torch.full(mask.shape, encoder.tokenizer.pad_id).masked_scatter(mask, rows.ids)
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids, attention_mask=mask.long()).logits
    return logits[mask].float().clone()
