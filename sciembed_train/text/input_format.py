"""The one definition of input text: how the fields of a paper become one text.

Preparing, training, validation, embedding, evaluation and export all compose text with
`InputFormat`; nothing else joins a title to an abstract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sciembed_train.errors import UserError
from sciembed_train.text.cleaning import cleaned, is_blank, is_placeholder

# The task formats and their control codes: SciRepEval, Singh et al. (2023), section 4.
FORMATS: dict[str, str] = {
    "classification": "[CLF]",
    "regression": "[RGN]",
    "proximity": "[PRX]",
    "adhoc_query": "[QRY]",
}

CHOICES = {
    "separator": ("sep", "space"),
    "sentences": ("joined", "sep"),
    "cleaning": ("markup", "none"),
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
        cleaning: ``markup`` reads titles and abstracts without HTML, MathML, entities, TeX and
            invisible characters, and those such as ``n/a`` as none (`cleaning`); ``none`` reads
            them as they stand, as what was recorded before there was this setting.
        prompt: before the whole text of a paper, with its own last blank, as ``passage: ``
            (`prompts`); empty for none. A text that is empty has none.
        title_prompt: in training before a title that is paired with its abstract, in place of
            ``prompt``, as the words of a search; empty for no other. A name of the start's prompts,
            such as ``query``, stands for its text (`start_model.resolve`).

    A paper without an abstract is its title alone, with no trailing separator.

    Raises:
        UserError: a value is none of those named, as in a newer folder.
    """

    separator: Literal["sep", "space"] = "sep"
    sentences: Literal["joined", "sep"] = "joined"
    control_code: str = ""
    cleaning: Literal["markup", "none"] = "markup"
    prompt: str = ""
    title_prompt: str = ""

    def __post_init__(self) -> None:
        for key, known in CHOICES.items():
            if (value := getattr(self, key)) not in known:
                raise UserError(
                    f"The input format's {key} is {value!r}; expected {' or '.join(known)}."
                )

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> InputFormat:
        """The format of a corpus, checkpoint or export; one without ``cleaning`` reads raw text."""
        return cls(**{"cleaning": "none", **values})

    def parts(self, parts: Sequence[str | None]) -> list[str]:
        """The parts of one text as they are read, without those that are empty."""
        texts = [text for part in parts if part and (text := self._plain(part))]
        stands_in = self.cleaning == "markup" and len(texts) == 1 and is_placeholder(texts[0])
        return [] if stands_in else texts

    def _plain(self, part: str) -> str:
        if self.cleaning == "none":
            return part.strip()
        text = cleaned(part)
        return "" if is_blank(text) else text.strip()

    def compose(self, title: str | None, abstract: str | Sequence[str] | None, sep: str) -> str:
        """One text of a paper; ``sep`` is the tokenizer's separator token."""
        separator = sep if self.sentences == "sep" else " "
        if abstract is None or isinstance(abstract, str):
            abstract = [abstract or ""]
        body = separator.join(self.parts(abstract))
        return self.join(("".join(self.parts([title])), body), sep)

    def join(self, fields: Sequence[str], sep: str) -> str:
        """One text of the fields of a record, without those that are empty."""
        separator = sep if self.separator == "sep" else " "
        text = separator.join(field for field in fields if field)
        if self.control_code:
            text = f"{self.control_code} {text}"
        return f"{self.prompt}{text}" if text else text

    def compose_sentences(
        self, title: str | None, sentences: Sequence[str], sep: str, with_title: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """One text of a paper, as `compose` makes it, and the spans of its sentences.

        Args:
            title: not counted as a sentence, unless ``with_title``.
            sentences: of the abstract; empty ones are ignored. One that cleaning leaves empty has
                an empty span.
            sep: the tokenizer's separator token.
            with_title: a title that is not empty is the first sentence.

        Returns:
            The text, and the first character of each sentence and the one after its last.
        """
        nonempty = [s for s in sentences if s and s.strip()]
        plain = [self._plain(sentence) for sentence in nonempty]
        if not self.parts(nonempty):  # a placeholder
            plain = ["" for _ in plain]
        text = self.compose(title, plain, sep)
        spans: list[tuple[int, int]] = []
        gap = len(sep) if self.sentences == "sep" else 1
        end = len(text)
        for sentence in reversed(plain):
            spans.append((max(end - len(sentence), 0), max(end, 0)))
            end -= len(sentence) + gap if sentence else 0
        if with_title and (heading := "".join(self.parts([title]))):
            end = len(self.compose(title, None, sep))
            spans.append((end - len(heading), end))
        return text, spans[::-1]

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON; empty prompts are left out, as before prompts existed."""
        values = asdict(self)
        return {k: v for k, v in values.items() if v or k not in ("prompt", "title_prompt")}

    def of_titles(self) -> InputFormat:
        """How a title that is paired with its abstract is read."""
        return replace(self, prompt=self.title_prompt or self.prompt)
