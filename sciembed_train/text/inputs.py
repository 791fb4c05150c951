"""The one definition of input text: how a paper or a document becomes token ids.

Preparing, training, validation, embedding, evaluation and export all read text through
`InputFormat` and `TextTokenizer`; nothing else joins a title to an abstract.

Shapes: ``T`` tokens of a text; of several texts ``U``, ``S`` sentences of them all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError
from sciembed_train.safety import check_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer


TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
# Documents are tokenised so many characters at a time: the library keeps over 100 bytes a token
# while it works, and a text in parts keeps all its threads busy.
PART = 2**16
BATCH_CHARACTERS = 2**21
_CUT = re.compile(r"(?<=\S) (?=\S)")
# What a text is read for, and the control code of each: SciRepEval, Singh et al. (2023), section 4.
FORMATS: dict[str, str] = {
    "classification": "[CLF]",
    "regression": "[RGN]",
    "proximity": "[PRX]",
    "adhoc_query": "[QRY]",
}


@dataclass(frozen=True)
class InputFormat:
    """How title and abstract are joined; recorded in every corpus, checkpoint and export.

    Args:
        separator: between title and abstract: the tokenizer's separator token (``sep``, as
            SPECTER, Cohan et al. 2020, section 2.1), or one ``space``.
        sentences: between the sentences of an abstract given as a list: one space
            (``joined``), or the separator token before each (``sep``, as Aspire trained).
        control_code: a token put before the title, as SciRepEval's ``[CLF]``; empty for none.

    A paper without an abstract is its title alone, with no trailing separator.

    Raises:
        UserError: ``separator`` or ``sentences`` is no known way, as in a newer folder.
    """

    separator: Literal["sep", "space"] = "sep"
    sentences: Literal["joined", "sep"] = "joined"
    control_code: str = ""

    def __post_init__(self) -> None:
        for key, known in (("separator", ("sep", "space")), ("sentences", ("joined", "sep"))):
            if (value := getattr(self, key)) not in known:
                raise UserError(
                    f"The input format's {key} is {value!r}; expected {' or '.join(known)}."
                )

    def compose(self, title: str | None, abstract: str | Sequence[str] | None, sep: str) -> str:
        """One text of a paper; ``sep`` is the tokenizer's separator token."""
        within = sep if self.sentences == "sep" else " "
        if abstract is None or isinstance(abstract, str):
            body = (abstract or "").strip()
        else:
            body = within.join(s.strip() for s in abstract if s and s.strip())
        return self.join(((title or "").strip(), body), sep)

    def join(self, fields: Sequence[str], sep: str) -> str:
        """One text of the fields of a record, without those that are empty."""
        between = sep if self.separator == "sep" else " "
        text = between.join(field for field in fields if field)
        return f"{self.control_code} {text}" if self.control_code else text

    def compose_sentences(
        self, title: str | None, sentences: Sequence[str], sep: str
    ) -> tuple[str, list[tuple[int, int]]]:
        """One text of a paper, as `compose` makes it, and where each sentence of the abstract is.

        Args:
            title: not counted as a sentence.
            sentences: of the abstract; empty ones are passed over.
            sep: the tokenizer's separator token.

        Returns:
            The text, and of each sentence its first character and the one after its last.
        """
        kept = [s.strip() for s in sentences if s and s.strip()]
        text = self.compose(title, kept, sep)
        spans: list[tuple[int, int]] = []
        gap = len(sep) if self.sentences == "sep" else 1
        at = len(text)
        for sentence in reversed(kept):
            spans.append((at - len(sentence), at))
            at -= len(sentence) + gap
        return text, spans[::-1]

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class SentenceBody:
    """Token ids of a text without special tokens, and where its sentences stand in them.

    Args:
        ids: never cut.
        starts: first token of each sentence.
        lengths: tokens of each sentence, at least 1.
        left_out: the numbers of the given sentences that have no token of their own.
    """

    ids: list[int]
    starts: list[int]
    lengths: list[int]
    left_out: list[int] = field(default_factory=list)


def cut_sentences(
    starts: NDArray[np.integer],
    lengths: NDArray[np.integer],
    counts: NDArray[np.integer],
    bodies: NDArray[np.integer],
    room: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What is left of the sentences of some texts when each is cut to ``room`` tokens.

    The last sentence may be shortened, later ones vanish (Aspire, Mysore et al. 2022, as coded).
    A text of which no sentence is left, such as a title alone, is one sentence: all its tokens.

    Args:
        starts: first token of each sentence in its text's body, text after text, ``[S]``.
        lengths: tokens of each sentence, ``[S]``.
        counts: sentences of each text, ``[U]``; may be 0.
        bodies: tokens of each text before the cut, ``[U]``, at least 1.
        room: tokens of a body at most.

    Returns:
        Starts and lengths ``[S']``, and counts ``[U]``, each at least 1.
    """
    counts, bodies = np.asarray(counts, np.int64), np.asarray(bodies, np.int64)
    of = np.repeat(np.arange(len(counts)), counts)
    first, size = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
    kept = first < room
    of, first = of[kept], first[kept]
    size = np.minimum(size[kept], room - first)
    left = np.bincount(of, minlength=len(counts))
    bare = np.flatnonzero(left == 0)
    order = np.argsort(np.concatenate([of, bare]), kind="stable")
    first = np.concatenate([first, np.zeros(len(bare), np.int64)])[order]
    size = np.concatenate([size, np.minimum(bodies[bare], room)])[order]
    return first, size, np.maximum(left, 1)


class TextTokenizer:
    """A tokenizer whose own truncation and padding are cleared, and its special tokens.

    A text's ids are ``prefix + body[: max_length - len(prefix) - len(suffix)] + suffix``; for
    BERT the prefix is ``[CLS]`` and the suffix ``[SEP]``.
    """

    def __init__(self, hf: Any) -> None:
        self.hf = hf
        self.backend: Tokenizer = hf.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.sep_token: str = hf.sep_token
        self.pad_id: int = hf.pad_token_id
        self.mask_id: int | None = hf.mask_token_id
        # Not how many tokens there are: a vocabulary may have gaps.
        self.vocab_size: int = max(hf.get_vocab().values()) + 1
        probe = self.encode(["a"])[0]
        whole = self.backend.encode("a", add_special_tokens=True).ids
        start = next(
            i for i in range(len(whole)) if whole[i : i + len(probe)] == probe
        )  # the probe stands inside the whole: adding special tokens only adds at the ends
        self.prefix: tuple[int, ...] = tuple(whole[:start])
        self.suffix: tuple[int, ...] = tuple(whole[start + len(probe) :])

    @classmethod
    def load(cls, name_or_folder: str | Path) -> TextTokenizer:
        """Load a fast tokenizer from a folder or, where the network is allowed, a hub name.

        Raises:
            UserError: there is none, or it has no separator or padding token.
        """
        from transformers import AutoTokenizer

        folder = Path(name_or_folder).expanduser()
        if folder.is_dir():
            name_or_folder = folder
            if not any((folder / name).is_file() for name in TOKENIZER_FILES):
                raise UserError(
                    f"{folder}: holds no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}. "
                    "Give the backbone's folder, with its tokenizer files beside its weights."
                )
            check_files(folder)
        try:
            hf = AutoTokenizer.from_pretrained(
                str(name_or_folder), use_fast=True, trust_remote_code=False
            )
        except Exception as error:  # the Rust parser raises bare Exception for a damaged file
            reason = (str(error).strip() or repr(error)).splitlines()[0][:300].rstrip(".")
            raise UserError(
                f"No tokenizer could be loaded from {name_or_folder}: {reason}. "
                "Give a folder that holds tokenizer.json or vocab.txt, or a hub name where the "
                "network is allowed."
            ) from error
        if not hf.is_fast:
            raise UserError(f"{name_or_folder}: only fast tokenizers are supported.")
        missing = [n for n in ("sep_token", "pad_token") if getattr(hf, n, None) is None]
        if missing:
            raise UserError(f"{name_or_folder}: the tokenizer has no {' and no '.join(missing)}.")
        return cls(hf)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when the same text would give other ids."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()[:16]

    def key(self, form: InputFormat) -> str:
        """Name of a token store: the tokenizer and the input format together."""
        text = json.dumps([self.fingerprint, form.as_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def document_key(self) -> str:
        """Name of a token store of documents: the tokenizer alone, for a document has one form."""
        return hashlib.sha256(f"{self.fingerprint} document".encode()).hexdigest()[:16]

    def encode_documents(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Ids of each running text in turn, ``[T]``, without special tokens and never cut.

        A byte-level tokenizer reads a space before the first word, so that the word has the ids
        that it has elsewhere (as the reader of DeCLUTR, Giorgi et al. 2021). What looks like a
        special token, such as ``[MASK]`` in a paper on BERT, is read as plain text. Memory stays
        bounded for a text of any length, where the tokenizer allows it (`_reads_words`).
        """
        pieces: list[str] = []
        ends: list[bool] = []  # whether a piece is its text's last
        size = 0
        done: list[NDArray[np.int32]] = []
        for text in texts:
            if text and self._byte_level and not text[0].isspace():
                text = " " + text
            parts = cut_at_spaces(text, PART) if self._reads_words else [text]
            for part in parts:
                pieces.append(part)
                ends.append(False)
                size += len(part)
                if size >= BATCH_CHARACTERS:
                    # The last piece waits: whether it ends its text is not known yet.
                    yield from self._documents(pieces[:-1], ends[:-1], done)
                    pieces, ends, size = pieces[-1:], ends[-1:], len(part)
            ends[-1] = True
        yield from self._documents(pieces, ends, done)

    def _documents(
        self, pieces: list[str], ends: list[bool], done: list[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.int32]]:
        """The texts that end among the pieces; ``done`` holds what there is of the next one."""
        encoded = self._plain.encode_batch_fast(pieces, add_special_tokens=False)
        for i, end in enumerate(ends):
            done.append(np.array(encoded[i].ids, np.int32))
            if end:
                yield done[0] if len(done) == 1 else np.concatenate(done)
                done.clear()

    @cached_property
    def _plain(self) -> Tokenizer:
        """The same tokenizer, for which no text is a special token."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self.backend.to_str())
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def _byte_level(self) -> bool:
        steps = _steps(json.loads(self.backend.to_str())["pre_tokenizer"], "pretokenizers")
        return any(step["type"] == "ByteLevel" for step in steps)

    @cached_property
    def _reads_words(self) -> bool:
        """Whether a text may be cut before a space that stands between words, to the same ids.

        So it is where words are told apart by white space before anything else is done, which
        WordPiece, byte-level BPE and SentencePiece tokenizers mostly do; others get a text whole.
        """
        made = json.loads(self.backend.to_str())
        words = _steps(made["pre_tokenizer"], "pretokenizers")
        dropping = any(
            step["type"] in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit") for step in words
        )
        keeping = any(
            (step["type"] == "ByteLevel" and step.get("use_regex", True))
            or (step["type"] == "Metaspace" and step.get("split", True))
            for step in words
        )
        # These treat the beginning of a text otherwise than the rest.
        by_place = any(
            step["type"] in ("Prepend", "Strip")
            for step in _steps(made["normalizer"], "normalizers")
        )
        across = any(
            not token["special"]
            and (token["rstrip"] or (" " in token["content"] and token["content"].split()))
            for token in made["added_tokens"]
        )
        return (dropping or (keeping and not by_place)) and not across

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
        found = []
        encoded = self.backend.encode_batch(list(texts), add_special_tokens=False)
        for one, places in zip(encoded, spans, strict=True):
            last = np.array([end for _, end in one.offsets], np.int64) - 1
            borders = np.array(places, np.int64).reshape(-1, 2)
            starts = np.searchsorted(last, borders[:, 0])
            lengths = np.searchsorted(last, borders[:, 1]) - starts
            there = lengths > 0
            kept = starts[there].tolist(), lengths[there].tolist()
            found.append(SentenceBody(one.ids, *kept, np.flatnonzero(~there).tolist()))
        return found

    def rows(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text with special tokens, at most ``max_length`` of them."""
        room = max_length - len(self.prefix) - len(self.suffix)
        return [[*self.prefix, *ids[:room], *self.suffix] for ids in self.encode(texts)]


def cut_at_spaces(text: str, size: int) -> Iterator[str]:
    """A text in parts of about ``size`` characters, each but the first beginning with a space.

    The parts joined are the text. A part is longer where no single space between two words comes
    earlier: a word is never cut.
    """
    start = 0
    while len(text) - start > size:
        space = _CUT.search(text, start + size)
        if space is None:
            break
        yield text[start : space.start()]
        start = space.start()
    yield text[start:] if start else text


def _steps(made: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer as its file spells it."""
    if made is None:
        return []
    if made["type"] != "Sequence":
        return [made]
    return [step for part in made[inner] for step in _steps(part, inner)]
