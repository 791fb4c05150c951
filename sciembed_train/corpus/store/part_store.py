"""The token store of titles and abstracts, each as a text of its own.
It is a `TokenStore` of two texts a paper: ``2 p`` is the title and ``2 p + 1`` the abstract of
paper ``p``, as the encoder reads either alone; both are empty where the paper lacks one of them.
Beside it lie ``middles.npy`` (int32 ``[P]``, the token with which the second half of an abstract
begins, 0 where it cannot be halved) and ``titles.npy`` (int64 ``[P]``, the `text_number` of each
title, 0 for none).

Tokens of a whole paper hold those of its title and abstract, but not as the encoder reads these
alone: a byte-level tokenizer gives a text's first word another token than the same word inside.

Shapes: ``P`` papers, ``T`` tokens of an abstract, ``S`` its sentences.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.token_store import TokenStore, load_array
from sciembed_train.corpus.store.token_store_writing import (
    BATCH_PAPERS,
    SHARD_PAPERS,
    KnownTokens,
    StoreWriter,
    check_order,
)
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.normalise import normalised, text_number
from sciembed_train.text.tokenizer import TextTokenizer

# The end of a sentence: punctuation, what closes it, and a space before what begins another.
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[^\sa-z])")
_SPACE = re.compile(r"\s+")
NEAR = 0.25  # of an abstract's tokens: how far from its middle a sentence may end to halve it there


class KnownParts(KnownTokens, Protocol):
    """Tokens of papers that were tokenised before, in the store of an earlier corpus."""

    store: PartTokens


class PartTokens(TokenStore):
    """The tokenised titles and abstracts of a corpus.

    Args:
        folder: where the store lies.
        info: the contents of its ``store.json``.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        super().__init__(folder, info)
        self.middles: NDArray[np.int32] = load_array(folder / "middles.npy")
        self.titles: NDArray[np.int64] = load_array(folder / "titles.npy")

    @classmethod
    def open(cls, folder: str | Path) -> PartTokens:
        """Open a store.

        Raises:
            UserError: the folder is no such store of this version, or is damaged.
        """
        store = super().open(folder)
        assert isinstance(store, PartTokens)
        sizes = 2 * len(store.middles), 2 * len(store.titles)
        if sizes != (len(store), len(store)):
            raise UserError(
                f"{folder} is damaged: it has {len(store):,} texts, and middles and titles of "
                f"{sizes[0]:,} and {sizes[1]:,}. Remove the corpus and run prepare again."
            )
        return store


def middle_token(text: str, ends: Sequence[int], borders: Sequence[int] | None = None) -> int:
    """The token that begins the second half of a text; 0 where there is no such.

    The sentence border nearest to the middle token; where none is within `NEAR` times the number of
    tokens of it, the nearest border between words.

    Args:
        text: as it was tokenised.
        ends: the character after each token's last, ``[T]``.
        borders: the first character of each sentence, ``[S]``; None to find them by punctuation.
    """
    if borders is None:
        borders = [match.end() for match in _SENTENCE_END.finditer(text)]
    last, middle = np.asarray(ends, np.int64) - 1, len(ends) / 2
    for reach, characters in (
        (NEAR * len(ends), borders),
        (middle, [match.end() for match in _SPACE.finditer(text)]),
    ):
        # A token belongs to what its last character is in.
        tokens = np.unique(np.searchsorted(last, np.asarray(characters, np.int64)))
        tokens = tokens[(tokens > 0) & (tokens < len(ends)) & (np.abs(tokens - middle) <= reach)]
        if len(tokens):
            return int(tokens[np.abs(tokens - middle).argmin()])
    return 0


def write_part_store(
    folder: str | Path,
    tokenizer: TextTokenizer,
    input_format: InputFormat,
    papers: Iterable[Mapping[str, Any]],
    *,
    shard_papers: int = SHARD_PAPERS,
    batch_papers: int = BATCH_PAPERS,
    name: str = "",
    on_batch: Callable[[int], None] | None = None,
    kept: KnownParts | None = None,
    first: int = 0,
) -> PartTokens:
    """Tokenise every title and abstract once and return the store.

    Arguments as in `write_token_store`. ``input_format`` makes a text of a title alone (with its
    ``title_prompt``) and of an abstract alone; ``papers`` have ``title`` and ``abstract`` and come
    in the order of their numbers; a shard has two texts for each of its ``shard_papers``.
    """
    middles, titles = array("i"), array("q")
    with StoreWriter(folder, tokenizer, 2 * shard_papers) as writer:
        for batch in writer.batches(papers, batch_papers, on_batch):
            check_order(batch, first + len(writer) // 2)
            known = [None if kept is None else kept.number(paper) for paper in batch]
            rows = [
                _parts(paper, input_format, tokenizer.sep_token) if number is None else None
                for paper, number in zip(batch, known, strict=True)
            ]
            whole = [row for row in rows if row is not None]
            encoded_titles = iter(tokenizer.encode([title for title, _, _ in whole]))
            encoded = tokenizer.backend.encode_batch(
                [abstract for _, abstract, _ in whole], add_special_tokens=False
            )
            abstracts = zip(whole, encoded, strict=True)
            for paper, row, number in zip(batch, rows, known, strict=True):
                if number is not None and kept is not None:
                    writer.add(kept.ids(2 * number))
                    writer.add(kept.ids(2 * number + 1))
                    middles.append(int(kept.store.middles[number]))
                    titles.append(int(kept.store.titles[number]))
                    continue
                titles.append(text_number(paper["title"]))
                if row is None:
                    writer.add([])
                    writer.add([])
                    middles.append(0)
                    continue
                writer.add(next(encoded_titles))
                (_, text, borders), encoding = next(abstracts)
                writer.add(encoding.ids)
                middles.append(middle_token(text, [end for _, end in encoding.offsets], borders))
    np.save(writer.folder / "middles.npy", np.frombuffer(middles, np.int32))
    np.save(writer.folder / "titles.npy", np.frombuffer(titles, np.int64))
    writer.close(name, form=input_format.as_dict())
    return PartTokens.open(writer.folder)


def _parts(
    paper: Mapping[str, Any], input_format: InputFormat, sep: str
) -> tuple[str, str, list[int] | None] | None:
    """Title, abstract, and where the abstract's sentences begin; None unless there are both."""
    title, abstract = paper["title"], paper["abstract"]
    borders = None
    if abstract is not None and not isinstance(abstract, str):
        text, spans = input_format.compose_sentences(None, abstract, sep)
        borders = [start for start, _ in spans[1:]]
    else:
        text = input_format.compose(None, abstract, sep) if abstract else ""
    name = input_format.of_titles().compose(title, None, sep)
    if not normalised(title) or not name or not input_format.parts(_listed(abstract)):
        return None
    return name, text, borders


def _listed(abstract: str | Sequence[str] | None) -> Sequence[str | None]:
    return [abstract] if abstract is None or isinstance(abstract, str) else abstract
