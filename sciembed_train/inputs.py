"""The one definition of input text: how a paper becomes token ids.

Preparing, training, validation, embedding, evaluation and export all read text through
`InputFormat` and `TextTokenizer`; nothing else joins a title to an abstract.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
        between = sep if self.separator == "sep" else " "
        within = sep if self.sentences == "sep" else " "
        if abstract is None or isinstance(abstract, str):
            body = (abstract or "").strip()
        else:
            body = within.join(s.strip() for s in abstract if s and s.strip())
        head = (title or "").strip()
        text = between.join(part for part in (head, body) if part)
        return f"{self.control_code} {text}" if self.control_code else text

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return asdict(self)


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
        self.vocab_size: int = len(hf)
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

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text without special tokens at the ends, never cut and never padded."""
        encoded = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def rows(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text with special tokens, at most ``max_length`` of them."""
        room = max_length - len(self.prefix) - len(self.suffix)
        return [[*self.prefix, *ids[:room], *self.suffix] for ids in self.encode(texts)]
