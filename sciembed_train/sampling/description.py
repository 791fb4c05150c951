"""What `show` prints of an example: its texts as the model reads them, and their roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill, indent

WIDTH = 96  # of a printed line


@dataclass(frozen=True)
class TextDescription:
    """A text of an example.

    Args:
        role: such as ``anchor``.
        ids: its token ids as the encoder reads them, special tokens included.
        source: what it is, such as the paper's id; empty for nothing.
        details: more about it, such as from how many tokens it was cut.
        sentences: token ranges of its sentences, where it is read sentence by sentence.
        marked: which of these sentences is marked; -1 for none.
    """

    role: str
    ids: Sequence[int]
    source: str = ""
    details: tuple[str, ...] = ()
    sentences: tuple[slice, ...] = ()
    marked: int = -1


@dataclass(frozen=True)
class ExampleDescription:
    """An example: what it is, its texts, and sentences about it.

    Args:
        title: such as the number of the example.
        texts: in the order in which they are shown.
        notes: such as how many tokens are masked.
    """

    title: str
    texts: tuple[TextDescription, ...]
    notes: tuple[str, ...] = ()


def format_example(example: ExampleDescription, decode: Callable[[Sequence[int]], str]) -> str:
    """An example as a paragraph for the terminal.

    Args:
        example: its description.
        decode: the text of token ids.
    """
    lines = [example.title]
    for text in example.texts:
        source = f": {text.source}" if text.source else ""
        details = ", ".join([f"{len(text.ids)} tokens", *text.details])
        lines.append(f"  {text.role}{source} ({details})")
        end = text.sentences[0].start if text.sentences else len(text.ids)
        lines.append(indent(fill(decode(text.ids[:end]), WIDTH - 4), "    "))
        for number, sentence in enumerate(text.sentences):
            mark = "    => " if number == text.marked else "     - "
            words = decode(text.ids[sentence])
            lines.append(fill(words, WIDTH, initial_indent=mark, subsequent_indent=" " * 7))
    lines.extend(f"  {note}" for note in example.notes)
    return "\n".join(lines)
