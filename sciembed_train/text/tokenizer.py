"""Tokenizers as every command uses them: no truncation or padding of their own.

Shapes: ``T`` tokens of a text.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder
from sciembed_train.safety.tokenizer_files import copy_clean
from sciembed_train.text.document_parts import is_byte_level, split_at_spaces, splits_at_spaces
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.sentence_spans import SentenceBody
from sciembed_train.text.truncation import Truncation

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# Between title and abstract, where a tokenizer has no separator token, as those of decoders.
LINE_BREAK = "\n"
# Characters of a part of a document, and of the parts tokenised together: the library needs over
# 100 bytes a token while it works, and a text in parts keeps all its threads busy.
PART = 2**16
BATCH_CHARACTERS = 2**21
# Characters from which on a text is very long: more than any encoder here reads.
LONG = 2**18


class TextTokenizer:
    """A tokenizer whose own truncation and padding are cleared, and its special tokens.

    A text's ids are ``prefix + body[: max_length - len(prefix) - len(suffix)] + suffix``; for
    BERT the prefix is ``[CLS]`` and the suffix ``[SEP]``, for Qwen3-Embedding the suffix is
    ``<|endoftext|>``: what the tokenizer's own post-processor adds.

    Attributes:
        sep_token: separates title and abstract; `LINE_BREAK` where it has no such token.
    """

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.backend: Tokenizer = hf.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.sep_token: str = hf.sep_token or LINE_BREAK
        self.pad_id: int = hf.pad_token_id
        self.mask_id: int | None = hf.mask_token_id
        # Not how many tokens there are: a vocabulary may have gaps.
        self.vocab_size: int = max(hf.get_vocab().values()) + 1
        probe = self.encode(["a"])[0]
        whole = self.backend.encode("a", add_special_tokens=True).ids
        start = next(
            i for i in range(len(whole)) if whole[i : i + len(probe)] == probe
        )  # special tokens are added at the ends only, so the probe stands inside the whole
        self.prefix: tuple[int, ...] = tuple(whole[:start])
        self.suffix: tuple[int, ...] = tuple(whole[start + len(probe) :])

    @classmethod
    def load(cls, name_or_folder: str | Path) -> TextTokenizer:
        """Load a fast tokenizer from a folder or, where the network is allowed, a hub name.

        Raises:
            UserError: there is no such tokenizer, or it has no padding token.
        """
        from transformers import AutoTokenizer

        folder = find_folder(name_or_folder, weights=False)
        with tempfile.TemporaryDirectory() as clean:
            copy_clean(folder, Path(clean))
            try:
                hf = AutoTokenizer.from_pretrained(clean, use_fast=True, trust_remote_code=False)
            except Exception as error:  # the Rust parser raises bare Exception for a damaged file
                reason = (str(error).strip() or repr(error)).splitlines()[0][:300].rstrip(".")
                raise UserError(
                    f"No tokenizer could be loaded from {name_or_folder}: {reason}. "
                    "Give a folder that holds tokenizer.json or vocab.txt, or a hub name where the "
                    "network is allowed."
                ) from error
        # Where it lies, not where it was read: an export copies a sentencepiece model from there.
        hf.name_or_path = str(folder)
        if getattr(hf, "vocab_file", None):
            hf.vocab_file = str(folder / Path(hf.vocab_file).name)
        if not hf.is_fast:
            raise UserError(f"{name_or_folder}: only fast tokenizers are supported.")
        if hf.pad_token is None:
            raise UserError(
                f"{name_or_folder}: the tokenizer has no pad_token, without which no library pads "
                "texts to one length. Name one of its tokens as `pad_token` in its "
                "tokenizer_config.json, such as its eos_token."
            )
        return cls(hf)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when the same text would give other ids."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()[:16]

    def key(self, input_format: InputFormat) -> str:
        """Name of a token store: the tokenizer and the input format together."""
        text = json.dumps([self.fingerprint, input_format.as_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def document_key(self) -> str:
        """Name of a token store of documents; it depends on the tokenizer alone."""
        return hashlib.sha256(f"{self.fingerprint} document".encode()).hexdigest()[:16]

    def encode_documents(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Ids of each running text in turn, ``[T]``, without special tokens and never cut.

        A byte-level tokenizer gets a space before the first word, so that the word has the ids
        that it has elsewhere (as in the reader of DeCLUTR, Giorgi et al. 2021). What looks like a
        special token, such as ``[MASK]`` in a paper on BERT, is read as plain text. Memory stays
        bounded for a text of any length, where the tokenizer allows it (`_splits_at_spaces`).
        """
        parts: list[str] = []
        ends: list[bool] = []  # whether a part is its text's last
        size = 0
        pending: list[NDArray[np.int32]] = []
        for text in texts:
            if text and self._byte_level and not text[0].isspace():
                text = " " + text
            for part in split_at_spaces(text, PART) if self._splits_at_spaces else [text]:
                parts.append(part)
                ends.append(False)
                size += len(part)
                if size >= BATCH_CHARACTERS:
                    # The last part waits: whether it ends its text is not known yet.
                    yield from self._complete_documents(parts[:-1], ends[:-1], pending)
                    parts, ends, size = parts[-1:], ends[-1:], len(part)
            ends[-1] = True
        yield from self._complete_documents(parts, ends, pending)

    def _complete_documents(
        self, parts: list[str], ends: list[bool], pending: list[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.int32]]:
        """The texts that end among the parts; ``pending`` keeps the ids of an unfinished one."""
        encoded = self._plain.encode_batch_fast(parts, add_special_tokens=False)
        for i, end in enumerate(ends):
            pending.append(np.array(encoded[i].ids, np.int32))
            if end:
                yield pending[0] if len(pending) == 1 else np.concatenate(pending)
                pending.clear()

    @cached_property
    def _plain(self) -> Tokenizer:
        """The same tokenizer, for which no text is a special token."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.backend.to_str())
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def _byte_level(self) -> bool:
        return is_byte_level(json.loads(self.backend.to_str()))

    @cached_property
    def _splits_at_spaces(self) -> bool:
        return splits_at_spaces(json.loads(self.backend.to_str()))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text without special tokens at the ends, never cut and never padded."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def encode_sentences(
        self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]
    ) -> list[SentenceBody]:
        """Ids of each text as `encode` gives them, and where its sentences stand in them.

        A token belongs to the sentence that its last character is in. A sentence without a token
        of its own, such as one of control characters, is left out.

        Args:
            texts: composed texts.
            spans: of each text its sentences, as `InputFormat.compose_sentences` gives them.
        """
        bodies = []
        encoded = self.backend.encode_batch(list(texts), add_special_tokens=False)
        for encoding, text_spans in zip(encoded, spans, strict=True):
            last = np.array([end for _, end in encoding.offsets], np.int64) - 1
            borders = np.array(text_spans, np.int64).reshape(-1, 2)
            starts = np.searchsorted(last, borders[:, 0])
            lengths = np.searchsorted(last, borders[:, 1]) - starts
            kept = lengths > 0
            bodies.append(
                SentenceBody(
                    ids=encoding.ids,
                    starts=starts[kept].tolist(),
                    lengths=lengths[kept].tolist(),
                    left_out=np.flatnonzero(~kept).tolist(),
                )
            )
        return bodies

    def rows(
        self, texts: Sequence[str], max_length: int, counted: Truncation | None = None
    ) -> list[list[int]]:
        """Ids of each text with special tokens, at most ``max_length`` of them.

        Only the first tokens of a very long text are made, where the tokenizer allows it
        (`_splits_at_spaces`). ``counted`` gets what is cut.
        """
        body = max_length - len(self.prefix) - len(self.suffix)
        encoded, lengths = self._beginnings(texts, body)
        if counted is not None:
            counted.add(np.array(lengths), body, self._cut_early(texts))
        return [[*self.prefix, *ids[:body], *self.suffix] for ids in encoded]

    def _cut_early(self, texts: Sequence[str]) -> int:
        """How many of the texts are so long that their first tokens alone are made."""
        return sum(len(text) > LONG for text in texts) if self._splits_at_spaces else 0

    def _beginnings(self, texts: Sequence[str], most: int) -> tuple[list[list[int]], list[int]]:
        """At least the first ``most`` ids of each text, and how many it has in all.

        For texts that are `_cut_early` the number is estimated from the share that is read.
        """
        if not self._cut_early(texts):
            encoded = self.encode(texts)
            return encoded, [len(ids) for ids in encoded]
        size = max(PART, 8 * most)
        windows = [next(split_at_spaces(t, size)) if len(t) > LONG else t for t in texts]
        encoded = self.encode(windows)
        lengths = []
        for i, text in enumerate(texts):
            wider = size
            # White space and the like give no tokens, so that a window can be too narrow.
            while len(encoded[i]) < most and len(windows[i]) < len(text):
                wider *= 4
                windows[i] = next(split_at_spaces(text, wider))
                encoded[i] = self.encode([windows[i]])[0]
            share = len(text) / len(windows[i]) if text else 1
            lengths.append(round(len(encoded[i]) * share))
        return encoded, lengths
