"""The folder of a multi-vector model: what a plain model gives of it, and what must refuse it.

Its backbone is an ordinary Hugging Face model at the top of the folder: the states of its tokens
are what the sentences' vectors are means of. Nothing else of it is meant to be used, so
sentence-transformers, which would take the mean over all tokens, must refuse the folder.

Shapes: ``S`` sentences of a paper, ``D`` width.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.export.published import OF_SENTENCES
from sciembed_train.export.sentence_transformers_layout import REFUSED
from sciembed_train.text.input_format import InputFormat

Paper = tuple[str, Sequence[str]]  # title, sentences


def check_record(record: dict[str, Any]) -> None:
    """Raise ValueError unless the record says how the model's papers are compared."""
    similarity, settings = record.get("similarity"), record.get("transport")
    if similarity not in OF_SENTENCES:
        raise ValueError(f"similarity is {similarity!r}; expected {' or '.join(OF_SENTENCES)}")
    if (similarity == "transport") != isinstance(settings, dict):
        raise ValueError(f"similarity is {similarity!r}, and transport is {settings!r}")
    if isinstance(settings, dict) and "temperature" not in settings:
        raise ValueError(f"transport is {settings!r}, without a temperature")


def probe_papers() -> list[Paper]:
    """Papers to compare with: no abstract, no title, one sentence, and more than is read."""
    title = "Naïve baselines for document-level representation"
    sentence = "We study how graphs of citations relate to words (n = 1,024), 3.5% on average."
    few = ["Is it short?", sentence, "It says what it finds."]
    return [
        (title, []),
        ("", few),
        (title, few[:1]),
        (title, few * 3),
        (title, [sentence * n for n in (1, 2, 4, 8, 16)]),
        (f"{title} " * 80, few),  # the title alone is longer than what is read
    ]


def with_transformers(
    folder: Path, input_format: InputFormat, papers: Sequence[Paper]
) -> tuple[list[list[int]], list[Float[Tensor, "S D"]]]:
    """Token ids of the papers, and sentence vectors as a user of ``transformers`` gets them."""
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    return by_a_loop(tokenizer, model, input_format, papers)


def by_a_loop(
    tokenizer: Any, model: Any, input_format: InputFormat, papers: Sequence[Paper]
) -> tuple[list[list[int]], list[Float[Tensor, "S D"]]]:
    """Token ids, and means of a plain model's states in a loop over the tokens of each sentence.

    As the model card has it: nothing of this project takes part but the way that texts are joined.
    """
    texts = [_composed(input_format, tokenizer.sep_token, *paper) for paper in papers]
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding takes part.
        for start in range(0, len(texts), 2):
            few = texts[start : start + 2]
            batch = tokenizer(
                [text for text, _ in few],
                padding=True,
                truncation=True,
                return_offsets_mapping=True,
                return_tensors="pt",
            )
            lasts = batch.pop("offset_mapping")[:, :, 1] - 1
            hidden = model(**batch).last_hidden_state
            for states, last, (_, places) in zip(hidden, lasts, few, strict=True):
                inside = [(last >= first) & (last < end) for first, end in places]
                seen = [tokens for tokens in inside if tokens.any()] or [last >= 0]
                vectors.append(torch.stack([states[t].mean(0) for t in seen]).float().clone())
    ids = tokenizer([text for text, _ in texts], truncation=True)["input_ids"]
    return ids, vectors


def _composed(
    input_format: InputFormat, sep: str, title: str, sentences: Sequence[str]
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a paper, and the first character of each sentence and the one after its last."""
    text = " ".join(part for part in (input_format.control_code, title.strip()) if part)
    places = []
    for number, sentence in enumerate(sentences):
        if number:
            text += sep if input_format.sentences == "sep" else " "
        elif title.strip():
            text += sep if input_format.separator == "sep" else " "
        elif input_format.control_code:
            text += " "
        places.append((len(text), len(text) + len(sentence)))
        text += sentence
    return text, places


def sentence_transformers_refuses(folder: Path, reason: str = REFUSED) -> bool | None:
    """Whether it refuses the folder in the words meant for that; None where not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    # With WANDB_MODE=offline, importing it prints a line; a command's own output may be JSON.
    with contextlib.redirect_stdout(sys.stderr):
        from sentence_transformers import SentenceTransformer
    for trust in (False, True):
        try:
            with quiet_transformers():
                SentenceTransformer(
                    str(folder), device="cpu", local_files_only=True, trust_remote_code=trust
                )
        except (ValueError, OSError) as error:
            if reason.lower() not in str(error).lower():
                return False
            continue
        return False
    return True
