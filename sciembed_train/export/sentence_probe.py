"""Sentence vectors of test papers as a user of ``transformers`` computes them.

Shapes: ``S`` sentences of a paper, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import LINE_BREAK

Paper = tuple[str, Sequence[str]]  # title, sentences


def probe_papers() -> list[Paper]:
    """Papers to compare with: no abstract, no title, one sentence, and more than is read."""
    title = "Naïve baselines for document-level representation"
    sentence = "We study how graphs of citations relate to words (n = 1,024), 3.5% on average."
    sentences = ["Is it short?", sentence, "It says what it finds."]
    return [
        (title, []),
        ("", sentences),
        (title, sentences[:1]),
        (title, sentences * 3),
        (title, [sentence * n for n in (1, 2, 4, 8, 16)]),
        (f"{title} " * 80, sentences),  # the title alone is longer than what is read
    ]


def transformers_sentence_vectors(
    folder: Path, input_format: InputFormat, papers: Sequence[Paper]
) -> tuple[list[list[int]], list[Float[Tensor, "S D"]]]:
    """Token ids of the papers, and sentence vectors as a user of ``transformers`` gets them."""
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    return loop_sentence_vectors(tokenizer, model, input_format, papers)


def loop_sentence_vectors(
    tokenizer: Any, model: Any, input_format: InputFormat, papers: Sequence[Paper]
) -> tuple[list[list[int]], list[Float[Tensor, "S D"]]]:
    """Token ids, and means of a plain model's states in a loop over the tokens of each sentence.

    As on the model card; it uses only the input format of this project's code.
    """
    separator = tokenizer.sep_token or LINE_BREAK
    texts = [_composed(input_format, separator, *paper) for paper in papers]
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding is tested.
        for start in range(0, len(texts), 2):
            pair = texts[start : start + 2]
            batch = tokenizer(
                [text for text, _ in pair],
                padding=True,
                truncation=True,
                return_offsets_mapping=True,
                return_tensors="pt",
            )
            lasts = batch.pop("offset_mapping")[:, :, 1] - 1
            hidden = model(**batch).last_hidden_state
            for states, last, (_, ranges) in zip(hidden, lasts, pair, strict=True):
                sentence_masks = [(last >= first) & (last < end) for first, end in ranges]
                token_masks = [tokens for tokens in sentence_masks if tokens.any()] or [last >= 0]
                vectors.append(
                    torch.stack([states[t].mean(0) for t in token_masks]).float().clone()
                )
    ids = tokenizer([text for text, _ in texts], truncation=True)["input_ids"]
    return ids, vectors


def _composed(
    input_format: InputFormat, sep: str, title: str, sentences: Sequence[str]
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a paper, and the first character of each sentence and the one after its last."""
    text = " ".join(part for part in (input_format.control_code, title.strip()) if part)
    text = input_format.prompt + text
    ranges = []
    for number, sentence in enumerate(sentences):
        if number:
            text += sep if input_format.sentences == "sep" else " "
        elif title.strip():
            text += sep if input_format.separator == "sep" else " "
        elif input_format.control_code:
            text += " "
        ranges.append((len(text), len(text) + len(sentence)))
        text += sentence
    return text, ranges
