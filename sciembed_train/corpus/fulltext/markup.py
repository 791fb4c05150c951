"""Turns the markup of parsed papers into clean text: citations, figures and formulas.

unarXive puts ``{{cite:<id>}}``, ``{{formula:<id>}}``, ``{{figure:<id>}}`` and ``REF`` (what could
not be resolved) into its text; the LaTeX parses of S2ORC put ``BIBREF0``, ``INLINEFORM0``,
``DISPLAYFORM0``, ``FIGREF0``. docs/data.md has the numbers; in short:

- citations are removed, with the brackets and commas that held nothing else;
- references to figures, tables, sections and equations are removed;
- a formula becomes plain characters (``\\alpha _i \\le 1`` becomes ``α_i ≤ 1``) if these are at
  most `LONGEST_FORMULA`; longer ones are removed, for nearly all of them are displayed equations
  and no part of a sentence.
"""

# ruff: noqa: RUF001, RUF002  -- the symbols are meant

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

LONGEST_FORMULA = 40

_CITE = r"(?:\{\{cite:[^{}]*\}\}|\bBIBREF\d+\b)"
# Citations side by side, with what joins them, and the brackets around them.
_CITES = re.compile(
    rf"(?P<open>[(\[]\s*)?{_CITE}(?:\s*(?:[,;–—-]|and|&)?\s*{_CITE})*(?(open)\s*[)\]])"
    rf"|{_CITE}(?:\s*(?:[,;–—-]|and|&)?\s*{_CITE})*"
)
_FORMULA = re.compile(r"(?:\{\{formula:([^{}]*)\}\}|\b((?:INLINE|DISPLAY)FORM\d+)\b)(\s*-(?=\w))?")
_OTHER = re.compile(r"\{\{\w+:[^{}]*\}\}|\b(?:FIG|TAB|SEC|EQ|FOOT)REF\d+\b")
_ANY = re.compile(r"\{\{|(?:BIB|FIG|TAB|SEC|EQ|FOOT)REF\d|(?:INLINE|DISPLAY)FORM\d")
_EMPTY = re.compile(r"\(\s*[,;]*\s*\)|\[\s*[,;]*\s*\]")
_BEFORE = re.compile(r"\s+(?=[,.;:!?)\]])")
_REPEATED = re.compile(r"([,;])(?:\s*[,;])+|[,;]\s*(?=\.(?:\s|$))")
_STOPS = re.compile(r"(?<=[A-Za-z)])\.(?:\s*\.)+(?!\.)(?=\s|\)|$)")

_UNRESOLVED = re.compile(r"\bREF\b")
_DOLLARS = re.compile(r"\$\$?([^$]{1,400})\$\$?")


def without_markup(text: str, formulas: Mapping[str, str]) -> str:
    """The text without markup, formulas (LaTeX by id) in plain characters."""
    if not _ANY.search(text):
        return text
    text = _CITES.sub("", text)
    text = _FORMULA.sub(lambda m: _in_line(formulas.get(m[1] or m[2], ""), m[3]), text)
    text = _OTHER.sub("", text)
    text = _EMPTY.sub("", text)
    text = _BEFORE.sub("", text)
    text = _REPEATED.sub(r"\1", text)
    return _STOPS.sub(".", text)


def without_unarxive_markup(text: str, formulas: Mapping[str, str]) -> str:
    """As `without_markup`, for text of unarXive."""
    return without_markup(_UNRESOLVED.sub("{{ref:}}", text), formulas)


def without_tex(text: str) -> str:
    """A title or abstract as authors give it to arXiv, without the TeX in it.

    Formulas between dollar signs become plain characters as in `without_markup`, TeX accents and
    quotation marks the characters they stand for.
    """
    if text.count("$") > 1:
        text = _DOLLARS.sub(lambda m: _formula(m[1]), text)
    text = text.replace("``", '"').replace("''", '"')
    return _ACCENT.sub(lambda m: unicodedata.normalize("NFC", m[2] + ACCENTS[m[1]]), text)


def _in_line(latex: str, hyphen: str | None) -> str:
    """A formula between words; an index or exponent stays at its base."""
    before = "" if latex.lstrip(" {}")[:1] in ("_", "^") else " "
    return f"{before}{_formula(latex)}{'-' if hyphen else ' '}"


@lru_cache(2**16)  # a paper's formulas are mostly the same few letters
def _formula(latex: str) -> str:
    plain = plain_formula(latex)
    return plain if len(plain) <= LONGEST_FORMULA else ""


ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303"}
_ACCENT = re.compile(r"\\(['`\"^~])\s*\{?\\?([A-Za-z])\}?")
SYMBOLS = {
    **{"le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥"},
    **{"ne": "≠", "neq": "≠", "approx": "≈", "simeq": "≈", "sim": "~", "equiv": "≡"},
    **{"cong": "≅", "propto": "∝", "ll": "<<", "gg": ">>", "pm": "±", "mp": "∓"},
    **{"times": "×", "cdot": "·", "ast": "*", "star": "*", "circ": "∘", "otimes": "⊗"},
    **{"oplus": "⊕", "in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆", "cup": "∪"},
    **{"cap": "∩", "setminus": "\\", "emptyset": "∅", "infty": "∞", "partial": "∂"},
    **{"nabla": "∇", "forall": "∀", "exists": "∃", "to": "→", "rightarrow": "→"},
    **{"longrightarrow": "→", "mapsto": "→", "hookrightarrow": "→", "leftarrow": "←"},
    **{"Rightarrow": "⇒", "Leftrightarrow": "⇔", "leftrightarrow": "↔", "sum": "∑"},
    **{"prod": "∏", "int": "∫", "sqrt": "√", "ldots": "...", "dots": "...", "cdots": "..."},
    **{"prime": "'", "langle": "<", "rangle": ">", "vert": "|", "mid": "|", "Vert": "||"},
    **{"lbrace": "{", "rbrace": "}", "ell": "l", "hbar": "ħ", "deg": "°", "degree": "°"},
    **{"colon": ":", "wedge": "∧", "vee": "∨", "perp": "⊥", "dagger": "†", "Re": "Re"},
    **{"Im": "Im", "over": "/", "neg": "¬", "models": "⊨", "vdash": "⊢", "mod": "mod"},
    **{"bmod": "mod", "coloneqq": ":=", "AA": "Å", "angstrom": "Å", "S": "§"},
}
FUNCTIONS = re.compile(
    "arc(cos|sin|tan)|arg|(cos|cot|sin|tan)h?|csc|det|dim|exp|gcd|hom|inf|ker|lim(inf|sup)?|ln|log|"
    "max|min|Pr|sec|sup"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?|\\(.)", re.DOTALL)
_GONE = re.compile(r"\\(?:begin|end|label|tag|ref|eqref|hspace|vspace|color)\*?\s*\{[^{}]*\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SCRIPT = re.compile(r"([_^])\s*\{([^{}]*[^{}\s\w][^{}]*)\}")
_RAISED = {"°": re.compile(r"\^\s*\{?\s*∘\s*\}?"), "'": re.compile(r"\^\s*\{?\s*'\s*\}?")}
_NO_SCRIPT = re.compile(r"[_^]\s*\{\s*\}")
_TIGHT = re.compile(r"\s*([_^'(){}\x01\x02\[\]|,/·∘])\s*")


def plain_formula(latex: str) -> str:
    """A formula in plain characters: symbols for commands, no braces, no fonts.

    Unknown commands are removed; their arguments stay.
    """
    text = _GONE.sub(" ", latex.replace("~", " "))
    for _ in range(4):  # fractions within fractions
        text, replaced = _FRACTION.subn(r"\1/\2", text)
        if not replaced:
            break
    text = _COMMAND.sub(lambda m: _symbol(m[1]) if m[1] else _escaped(m[2]), text)
    for character, pattern in _RAISED.items():
        text = pattern.sub(character, text)
    text = _SCRIPT.sub(r"\1(\2)", _NO_SCRIPT.sub("", text))
    text = text.replace("{", "").replace("}", "").replace("&", " ")
    text = _TIGHT.sub(r"\1", " ".join(text.split()))
    for written, plain in (("\x01", "{"), ("\x02", "}"), (",", ", ")):
        text = text.replace(written, plain)
    return text.strip(" ,_^")


def _symbol(name: str) -> str:
    if name in SYMBOLS:
        return f" {SYMBOLS[name]} ".replace("{", "\x01").replace("}", "\x02")
    if FUNCTIONS.fullmatch(name):
        return f" {name} "
    letter = name.removeprefix("var").replace("ambda", "amda")  # Unicode's own spelling
    size = "CAPITAL" if letter[:1].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {size} LETTER {letter.upper()}") + " "
    except KeyError:
        return " "


def _escaped(char: str) -> str:
    if char in "{}":
        return "\x01" if char == "{" else "\x02"
    return char if char in "%#$_&|" else " "
