"""Token rows of composed texts, and of papers with the positions of their sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.sentence_spans import truncate_sentences
from sciembed_train.text.tokenizer import TextTokenizer


def token_rows(tokenizer: TextTokenizer, texts: Sequence[str], max_length: int) -> TokenRows:
    """Token ids of composed texts, with special tokens, at most ``max_length`` each."""
    return TokenRows.from_lists(tokenizer.rows(texts, max_length))


def many_token_rows(tokenizer: TextTokenizer, texts: Sequence[str], max_length: int) -> TokenRows:
    """`token_rows` of at least one text, made in parts: lists of Python integers are bulky."""
    ids, lengths = [], []
    for start in range(0, len(texts), 4096):
        part = token_rows(tokenizer, texts[start : start + 4096], max_length)
        ids.append(part.ids.numpy().astype(np.int32))
        lengths.append(part.lengths)
    return TokenRows(torch.from_numpy(np.concatenate(ids)).long(), torch.cat(lengths))


def sentence_rows(
    tokenizer: TextTokenizer,
    papers: Sequence[tuple[str | None, Sequence[str]]],
    input_format: InputFormat,
    max_length: int,
) -> tuple[TokenRows, Sentences]:
    """Token ids of papers, and where the sentences of their abstracts stand in them.

    Args:
        tokenizer: the backbone's.
        papers: each one's title and sentences.
        input_format: how title and sentences become one text.
        max_length: most tokens of a text, special tokens included.

    Raises:
        UserError: a paper has neither a title nor a sentence.
    """
    texts = [
        input_format.compose_sentences(title, sentences, tokenizer.sep_token)
        for title, sentences in papers
    ]
    bodies = tokenizer.encode_sentences(*zip(*texts, strict=True))
    for paper, body in zip(papers, bodies, strict=True):
        if not body.ids:
            raise UserError(f"A paper has neither title nor abstract to encode: {paper!r}.")
    prefix, suffix = tokenizer.prefix, tokenizer.suffix
    body_length = max_length - len(prefix) - len(suffix)
    starts, lengths, counts = truncate_sentences(
        np.array([start for body in bodies for start in body.starts], np.int64),
        np.array([length for body in bodies for length in body.lengths], np.int64),
        np.array([len(body.starts) for body in bodies]),
        np.array([len(body.ids) for body in bodies]),
        body_length,
    )
    rows = TokenRows.from_lists([[*prefix, *body.ids[:body_length], *suffix] for body in bodies])
    positions = torch.from_numpy(starts + len(prefix))
    return rows, Sentences(positions, torch.from_numpy(lengths), torch.from_numpy(counts))
