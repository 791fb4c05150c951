"""The one definition of input text: how the fields of a paper become one text.

Preparing, training, validation, embedding, evaluation and export all compose text with
`InputFormat`; nothing else joins a title to an abstract.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sciembed_train.errors import UserError

# The task formats and their control codes: SciRepEval, Singh et al. (2023), section 4.
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
        sentences: between the sentences of an abstract that is a list: one space
            (``joined``), or the separator token before each (``sep``, as Aspire trained).
        control_code: a token put before the title, as SciRepEval's ``[CLF]``; empty for none.

    A paper without an abstract is its title alone, with no trailing separator.

    Raises:
        UserError: ``separator`` or ``sentences`` has no such value, as in a newer folder.
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
        separator = sep if self.sentences == "sep" else " "
        if abstract is None or isinstance(abstract, str):
            body = (abstract or "").strip()
        else:
            body = separator.join(s.strip() for s in abstract if s and s.strip())
        return self.join(((title or "").strip(), body), sep)

    def join(self, fields: Sequence[str], sep: str) -> str:
        """One text of the fields of a record, without those that are empty."""
        separator = sep if self.separator == "sep" else " "
        text = separator.join(field for field in fields if field)
        return f"{self.control_code} {text}" if self.control_code else text

    def compose_sentences(
        self, title: str | None, sentences: Sequence[str], sep: str
    ) -> tuple[str, list[tuple[int, int]]]:
        """One text of a paper, as `compose` makes it, and the spans of its sentences.

        Args:
            title: not counted as a sentence.
            sentences: of the abstract; empty ones are ignored.
            sep: the tokenizer's separator token.

        Returns:
            The text, and the first character of each sentence and the one after its last.
        """
        kept = [s.strip() for s in sentences if s and s.strip()]
        text = self.compose(title, kept, sep)
        spans: list[tuple[int, int]] = []
        gap = len(sep) if self.sentences == "sep" else 1
        end = len(text)
        for sentence in reversed(kept):
            spans.append((end - len(sentence), end))
            end -= len(sentence) + gap
        return text, spans[::-1]

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return asdict(self)
