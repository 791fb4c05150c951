r"""Plain text of a title or an abstract: without HTML, MathML, entities and TeX.

Publishers' files spell ``H<sub>2</sub>O``, ``&lt;``, ``$\alpha$`` and ``M\"uller``, and an encoder
that was trained on plain text places such a title far from the same words without them. What is not
surely markup stays: ``p < 0.05 and n > 3``, ``costs $5 and $6``, ``C:\temp``. A text without
markup is returned as it is, character for character; cleaning a clean text changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from html.entities import html5

from sciembed_train.text.tex_symbols import ACCENTS, GREEK, LETTERS, SIGNS

# Characters that only a text with markup holds: most texts need this one search.
_SUSPECT = re.compile(
    r"[<&$\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]|\{[A-Z]"
)
_SIGNS = ("<", "&", "$", "\\", "{")  # the printable ones of them
_INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]")
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

_ESCAPED_TWICE = re.compile(r"&(?:(?:amp|#38|#[xX]26);)+")  # however often, in one pass

# Tags. Attributes have values, so that "a <b and c> d" is none.
_ATTRIBUTES = r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+))*\s*/?"""
_DROPPED = re.compile(  # with what is in them: a second spelling of a formula, and scripts
    r"<((?:\w+:)?(?:annotation|annotation-xml|tex-math|script|style))\b[^<>]*>.{0,2000}?</\1\s*>"
    r"|<!--.{0,2000}?-->|<\?[a-z].{0,1000}?\?>",
    re.DOTALL | re.IGNORECASE,
)
_CDATA = re.compile(r"<!\[CDATA\[(.{0,2000}?)\]\]>", re.DOTALL)
_BLOCKS = (
    "p|br|hr|div|sec|title|label|abstract|list|list-item|ul|ol|li|dl|dt|dd|table|tr|td|th|"
    "h[1-6]|blockquote|disp-formula|disp-quote|def-list|def-item"
)
_INLINE = (
    "b|i|u|a|q|em|strong|span|font|small|big|tt|code|sub|sup|sc|inf|italic|bold|underline|"
    "overline|monospace|roman|sans-serif|strike|styled-content|named-content|ext-link|uri|email|"
    "xref|inline-formula|inline-graphic|alternatives|math|mrow|mi|mn|mo|ms|mtext|msub|msup|"
    "msubsup|mfrac|msqrt|mroot|mover|munder|munderover|mstyle|mspace|mfenced|mtable|mtr|mtd|"
    "mpadded|mphantom|menclose|merror|mmultiscripts|mprescripts|none|semantics|img|cite|center"
)
_SUP = re.compile(rf"(?<=[\w)])<(?:jats:)?sup{_ATTRIBUTES}>(?=[-+\u2212]?\d)", re.IGNORECASE)
_TAG = re.compile(rf"<(/?)((?:[a-z]+:)?(?:{_BLOCKS}|{_INLINE})){_ATTRIBUTES}>", re.IGNORECASE)
_BLOCK = re.compile(rf"(?:[a-z]+:)?(?:{_BLOCKS})", re.IGNORECASE)
_PAIRED = ("b", "i", "u", "a", "q", "p", "none")  # too short to be a tag without their other half

# TeX. What stands between dollars is a formula where it has a sign of TeX or is a name.
_MATH = re.compile(r"(?<!\\)(\$\$?)(?=\S)([^$\n]{1,300}?)(?<=\S)\1|\\\((.{1,300}?)\\\)")
_TEX_SIGN = re.compile(r"[\\^_{}]")
_NAME = re.compile(r"[A-Za-z](?:[=<>+*/(),.'-]*[A-Za-z0-9]){0,8}[)']*")
_FORMAT = re.compile(
    r"\\(?:emph|textit|textbf|textrm|texttt|textsc|textsf|textsuperscript|textsubscript|text|"
    r"underline|mathrm|mathbf|mathit|mathcal|mathbb|mathsf|mathfrak|boldsymbol|operatorname|mbox|"
    r"ensuremath|url|href)\s*\{([^{}]*)\}"
)
# Unbraced only within a word, and never what may be an escaped quotation mark: don\\'t, it\\'s.
_ACCENT = re.compile(
    r"""\\(?P<a>["'`^~=.])\s*\{\\?(?P<b>[A-Za-z])\}|\{\\(?P<c>["'`^~=.])\s*\\?(?P<d>[A-Za-z])\}"""
    r"""|(?<=[^\W\d_])\\(?P<e>["`^~])(?P<f>[A-Za-z])|(?<=[^\W\d_])\\(?P<g>')(?P<h>[aeiouycnAEIOUYCN])"""
    r"""|\\(?P<i>[cvuHkr])\{(?P<j>[A-Za-z])\}"""
)
_SYMBOL = re.compile(r"\\([A-Za-z]+)(?![A-Za-z])(?:\{\}| (?=[a-z]))?")
_LETTER = re.compile(r"\{\\(" + "|".join(LETTERS) + r")\}|\\(" + "|".join(LETTERS) + r")\{\}")
_CAPITALS = re.compile(r"\{([A-Z][\w-]*)\}")  # BibTeX's protection of a name
_ESCAPED = re.compile(r"\\([%&_#$])")
_SCRIPT = re.compile(r"([_^])\{([^{}]*)\}")
_OLD_FORMAT = re.compile(r"\{\\(?:it|rm|bf|em|tt|sc|sf|sl|cal)(?![A-Za-z])\s*([^{}]*)\}")
_BRACED = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
_FRACTION = re.compile(rf"\\[dt]?frac{_BRACED}{_BRACED}")
# Commands that say how a formula looks; of others, such as an author's own \SL, the name is kept.
_LAYOUT = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|scriptstyle|limits|nolimits|quad|qquad|"
    r"hspace|vspace|hskip|kern|phantom|label|nonumber|hbox|vbox|mathop|mathrel|mathbin|mathord|"
    r"bar|tilde|hat|vec|dot|ddot|check|breve|acute|grave|mathring|overline|underline|widehat|"
    r"widetilde|overrightarrow|rm|bf|it|cal|em|tt|sf|sc|sl|mit|bm|pmb|scr|frak|Bbb|math[a-z]+|"
    r"text[a-z]*|operatorname|boldsymbol|[dt]?frac)(?![A-Za-z])\*?\s?|\\[,;:! ]"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_SPACES = re.compile(r"[ \t]{2,}")

# Placeholders of missing texts, without their punctuation.
_STAND_INS = """
na, n/a, none, null, nan, nil, tbd, unavailable, untitled, not available, not applicable,
no abstract, no abstract available, no abstract provided, no abstract found, no abstract given,
abstract not available, abstract is not available, abstract unavailable, abstract not provided,
there is no abstract, this article has no abstract, this paper has no abstract,
no title, no title available, no title provided, title not available,
no summary available, no description available
"""
PLACEHOLDERS = frozenset(" ".join(_STAND_INS.split()).split(", "))
_AROUND = " \t\r\n.:;!-*[](){}<>\"'\u2013\u2014"
_LONGEST = max(map(len, PLACEHOLDERS)) + 20
# Characters of a text that are cleaned: far more than an encoder reads, yet quick.
CLEANED = 2**17


@lru_cache(maxsize=16)  # one paper's parts are asked for many times in a row
def cleaned(text: str) -> str:
    """A text without markup, itself where it has none; cleaning it again changes nothing.

    What follows the first `CLEANED` characters is left as it is.
    """
    if len(text) > CLEANED:
        return cleaned(text[:CLEANED]) + text[CLEANED:]
    while _is_suspect(text):
        plain = _once(text)
        if plain == text:
            break
        text = plain
    return text


def _is_suspect(text: str) -> bool:
    """Whether a text may have markup."""
    # Most texts: nothing that `_SUSPECT` looks for is printable but its signs.
    if text.isprintable() and not any(map(text.__contains__, _SIGNS)):
        return False
    return _SUSPECT.search(text) is not None


def is_placeholder(text: str) -> bool:
    """Whether a text only says that there is none, such as ``n/a`` or ``No abstract available``."""
    if len(text) > _LONGEST:
        return False
    return " ".join(text.casefold().strip(_AROUND).split()) in PLACEHOLDERS


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be read: white space, control and zero-width characters."""
    return not text[:1].isalnum() and all(
        c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Mn", "Zs", "Zl", "Zp") for c in text
    )


class MarkupCount:
    """Counts the papers whose texts have markup, and those with a placeholder for a text.

    ``first`` is the place of the first with markup.
    """

    def __init__(self) -> None:
        self.markup = self.placeholders = 0
        self.first = ""

    def add(self, where: Callable[[int], str], place: int, *parts: str | None) -> None:
        """Count a paper of these parts; ``where`` shows the ``place`` where it stands."""
        texts = [part for part in parts if part]
        plain = [cleaned(part) for part in texts]
        self.placeholders += any(map(is_placeholder, plain))
        if plain != texts:
            self.markup += 1
            self.first = self.first or where(place)

    def notes(self) -> list[str]:
        """Notes on these papers."""
        lines = []
        if self.markup:
            lines.append(
                f"{self.markup:,} papers have markup in title or abstract (HTML, MathML, entities, "
                f"TeX, invisible characters; the first {self.first}). It is read as plain text, "
                "unless input_format.cleaning is none."
            )
        if self.placeholders:
            lines.append(
                f"{self.placeholders:,} papers have a title or an abstract that only says that "
                "there is none, such as n/a: taken as empty."
            )
        return lines


def _once(text: str) -> str:
    """One pass; each change shortens the text, or removes what the pass looks for."""
    plain = _INVISIBLE.sub("", text)
    plain = _ENTITY.sub(_character, _ESCAPED_TWICE.sub("&", plain))
    if "<" in plain:
        plain = _without_tags(plain)
    if "$" in plain or "\\" in plain or "{" in plain:
        plain = _without_tex(plain)
    return text if plain == text else _SPACES.sub(" ", plain).strip()


def _character(match: re.Match[str]) -> str:
    name = match.group(1)
    if not name.startswith("#"):
        return html5.get(f"{name};", match.group())
    number = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return match.group()
    return "\n" if number == 10 else " " if number in (9, 13, 160) else chr(number)


def _without_tags(text: str) -> str:
    text = _CDATA.sub(r"\1", _DROPPED.sub("", text))
    tags = {(bool(m.group(1)), m.group(2).lower()) for m in _TAG.finditer(text)}

    def plain(match: re.Match[str]) -> str:
        closing, name = bool(match.group(1)), match.group(2).lower()
        if name in _PAIRED and (not closing, name) not in tags:
            return match.group()
        return " " if _BLOCK.fullmatch(name) else ""

    # A power is no longer number: 10<sup>5</sup> is 10^5.
    return _TAG.sub(plain, _SUP.sub("^", text))


def _without_tex(text: str) -> str:
    text = _MATH.sub(_formula, text)
    text = _OLD_FORMAT.sub(r"\1", _FORMAT.sub(r"\1", text))
    text = _LETTER.sub(lambda m: LETTERS[m.group(1) or m.group(2)], text)
    text = _ACCENT.sub(_accented, text)
    text = _SYMBOL.sub(lambda m: GREEK.get(m.group(1), m.group()), text)
    return _ESCAPED.sub(r"\1", _CAPITALS.sub(r"\1", text))


def _formula(match: re.Match[str]) -> str:
    content = match.group(2) if match.group(2) is not None else match.group(3)
    before = match.string[match.start() - 1 : match.start()]
    is_name = not before.isalnum() and _NAME.fullmatch(content) is not None
    if match.group(1) is not None and not is_name and not _TEX_SIGN.search(content):
        return match.group()
    content = _FRACTION.sub(r"\1/\2", _FORMAT.sub(r"\1", content))
    content = _SYMBOL.sub(lambda m: (GREEK | SIGNS).get(m.group(1), m.group()), content)
    # x_{i} is xi, as H<sub>2</sub>O is H2O; a power keeps its sign.
    content = _SCRIPT.sub(lambda m: ("^" if m.group(1) == "^" else "") + m.group(2), content)
    content = _LAYOUT.sub(" ", _ESCAPED.sub(r"\1", content))
    content = _COMMAND.sub(r"\1", content)
    return re.sub(r"[{}]|_(?=\w)", "", content).strip()


def _accented(match: re.Match[str]) -> str:
    mark, letter = (value for value in match.groups() if value is not None)
    character = unicodedata.normalize("NFC", letter + ACCENTS[mark])
    return character if len(character) == 1 else match.group()
