"""Finds citation mentions in citing sentences by rule, and masks them.

An author and a year reveal the cited paper: two sentences with the same mention are similar by the
mention alone. So each mention is replaced by `MENTION_MASK`, as those of full texts are by their
offsets. The rules are for the text of any paper, clean or from OCR: ``docs/data.md`` has their
error rates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sciembed_train.corpus.citations.citing_sentences import MENTION_MASK

# Words with a capital that are no author: what begins a sentence, stands before a year, or counts.
_NO_NAMES = (
    r"[A-Z]\w+ly|In|On|At|As|By|Of|For|From|To|With|Within|Without|Under|Over|Until|Since|Before|"
    r"After|During|Through|Against|Among|Between|Beyond|Despite|Like|Unlike|Following|Using|Given|"
    r"And|But|Or|Nor|Yet|So|If|When|Where|While|Whereas|Whether|Although|Though|Because|However|"
    r"Thus|Hence|Therefore|Moreover|Furthermore|Instead|Nevertheless|Nonetheless|Meanwhile|Besides|"
    r"Also|Both|Either|First|Second|Third|Next|Then|Later|Likewise|Here|There|Otherwise|Still|"
    r"Indeed|Overall|Today|The|A|An|This|That|These|Those|Such|Some|Many|Most|Other|Others|Another|"
    r"Each|All|Several|Our|Their|His|Her|Its|We|They|It|He|She|See|Cf|Compare|Note|Consider|Let|"
    r"January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|Monday|Tuesday|Wednesday|Thursday|Friday|"
    r"Saturday|Sunday|Spring|Summer|Autumn|Fall|Winter|"
    r"Tables?|Figures?|Figs?|Sections?|Sec|Equations?|Eqs?|Chapters?|Examples?|Appendix|Rules?|"
    r"Algorithms?|Theorems?|Lemmas?|Versions?|Vols?|Parts?|Steps?|Years?|Pages?|Copyright|"
    r"Arabic|Chinese|Czech|Danish|Dutch|English|Finnish|French|German|Greek|Hebrew|Hindi|Italian|"
    r"Japanese|Korean|Polish|Portuguese|Romanian|Russian|Spanish|Swedish|Turkish"
)
_UPPER = "A-Z\u00c0-\u00d6\u00d8-\u00de\u010c\u0106\u0110\u0141\u0158\u0160\u015a\u017d\u017b"
# Letters, and the strokes that OCR reads for their accents: Ma`rquez, Polgu~re, Nie? en.
_LOWER = "a-z\u00df-\u00f6\u00f8-\u017f\u00b4\u00a8`~^\"'\u2018\u2019"
_PARTICLE = (
    r"(?:[Vv]an|[Vv]on|[Dd]e|[Dd]er|[Dd]en|[Dd]el|[Dd]ella|[Dd]i|[Dd]a|[Dd]os|[Dd]u|[Ll]a|[Ll]e|[Ee]l|"
    r"al|ten|ter|[Bb]in|[Bb]en|St\.)\s+"
)
# Where a name can begin: not within a word, but after digits that OCR has put before it.
_START = f"(?<![^\\W\\d_])(?=[{_UPPER}]|{_PARTICLE})"
_INITIALS = f"(?:[{_UPPER}]\\.[\\s-]?){{0,3}}"
_LETTER = f"(?:[{_LOWER}]|\\s?\\?\\s?(?=[a-z])|\\?(?=[\\s,]*[\\d(]))"
# A surname: one capital, or a second one after Mc, De, a hyphen and the like; no acronym.
_WORD = (
    f"(?:Mc|Mac|De|Del|Di|Du|El|La|Le|Van|Vander|Von|Fitz|[DO]['\u2019])?[{_UPPER}]{_LETTER}*"
    f"(?:-[{_UPPER}]?{_LETTER}+){{0,3}}(?![A-Z])"
    r"(?:,?\s+(?:I{2,3}|[JS]r)\b\.?)?"
)
_OTHER_WORD = f"(?!(?:{_NO_NAMES})\\b(?!\\s+et\\b))"
_PLAIN = f"(?:{_PARTICLE}){{0,3}}{_INITIALS}{_WORD}"
_NAME = f"{_OTHER_WORD}(?:{_PARTICLE}){{0,3}}{_INITIALS}{_OTHER_WORD}{_WORD}"
# Also where the name was broken ("Glo rot et al.") or has lost its space ("Tanget al.").
_AL = (
    r"(?:(?:\s(?!and\b|et\b)[a-z]{2,7})?(?:\s*,)?\s*et\s?\.?\s?al(?:['\u2019]?s\b|(?![A-Za-z])\.?)"
    r"|\s+and\s+(?:others|colleagues|co-?workers)\b)"
)
_AND = r"\s*,?\s*(?:\band\b|&(?:\s?amp;)?|\bet\b)\s*"
# Two or more: "A and B", "A, B and C", "A et al.", and "Aand B", where a space was lost.
_SEVERAL = (
    f"(?:{_NAME}(?:{_AL}|(?:\\s*,\\s+{_NAME}){{0,12}}{_AND}{_PLAIN}(?:\\s+{_WORD})?(?:{_AL})?)"
    f"|{_OTHER_WORD}[{_UPPER}][{_LOWER}]+\\s?and\\s*{_PLAIN})"
)
_OWN = r"(?:\s?['\u2019\u00b4]\s?s?\b)?"  # "Roe's (2000)"
_YEAR = (
    r"(?:(?:1[89]|20)\d\d(?:\s?[a-h])?(?![^\W_])(?:\s?[,/&]\s?[a-h]\b)*"
    r"|['\u2019]\d\d\b|\b(?:in\s+press|to\s+appear|forthcoming|submitted|under\s+review|in\s+prep"
    r"\w*)\b)"
)
# After a comma no year: if years could also be pages, a long row of them takes exponential time.
_PAGES = (
    r"(?:\s*(?::|[,;](?!\s*(?:1[89]|20)\d\d(?!\d|\s?[-\u2013])))\s*"
    r"(?:(?:pp?|[Ss]ections?|[Ss]ec|[Cc]hapters?|[Cc]hap|[Cc]h|[Ff]ig\w*|[Tt]able)\b"
    r"\.?\s*|\u00a7\s*)?\d{1,4}(?!\d)(?:\.\d+)*(?:\s?[-\u2013]\s?\d{1,4}(?!\d))?(?!\s?%))"
)
_YEARS = f"{_YEAR}{_PAGES}?(?:\\s*(?:[,;/&]|\\band\\b)\\s*{_YEAR}{_PAGES}?)*"

# "Roe and Doe (1999a)", "Roe [1999]", also with the year's bracket lost.
_NARRATIVE = re.compile(
    f"{_START}(?:{_SEVERAL}|{_NAME}){_OWN}\\s*,?\\s*(?:\\(\\s*{_YEARS}\\s*\\)|\\[\\s*{_YEARS}\\s*\\])"
)
_RUNNING = re.compile(f"{_START}{_SEVERAL}{_OWN}\\s*[,.]?\\s*\\(?{_YEARS}")
# One name, a comma and a year, where no bracket helps: not "in Prague, 2007".
_PLACED = re.compile(
    f"(?:(?<=\\b[Aa]s in )|(?<!\\b[Ii]n ))(?<!\\b[Aa]t )(?<!\\b[Oo]f )"
    f"(?<!\\bsince )(?<!\\bfrom ){_START}{_NAME}\\s*,\\s*{_YEARS}"
)
# Without a year, where "Metal" is no author M.
_OTHERS = re.compile(f"(?<![A-Z])(?=[{_UPPER}]){_NAME}(?=[\\s,.]){_AL}{_OWN}")
# Within brackets, where an organisation may stand for the authors and the comma may be missing.
_BODY = f"[{_UPPER}][\\w&.'\u2019+-]*"
_ENCLOSED = re.compile(
    f"{_START}(?:{_SEVERAL}\\s*[,.:;]?\\s*|{_NAME}(?:\\s+{_WORD})?\\s*[,.:]?\\s*"
    f"|(?!(?:{_NO_NAMES})\\b){_BODY}(?:\\s+(?:(?:of|for|and)\\s+)?{_BODY}){{0,4}}\\s*,\\s*)"
    f"{_YEARS}(?:\\s*,?\\s*inter\\s+alia)?"
)
_INNER = re.compile(r"\([^()\[\]]*\)|\[[^()\[\]]*\]")
# A year that has lost its authors: at the beginning of a text, or after another mention.
_ALONE = re.compile(
    f"^\\s*\\(\\s*{_YEARS}\\s*\\)|(?<=\\[CIT\\])(?:\\s*[,;]\\s*{_YEARS}(?=\\s*[,;)\\]])"
    f"|(?P<between>\\s*(?:,|\\band\\b)\\s*)\\(\\s*{_YEARS}\\s*\\))"
)

# "[1]", "[1, 3-5]", "[12, p. 4]", but no index, interval, vector or range.
_NUMBER = r"[1-9]\d{0,2}"
_RANGE = f"{_NUMBER}(?:\\s?[-\u2013\u2014]\\s?{_NUMBER})?"
_SQUARE = re.compile(
    r"(?<!\b[A-Za-z])(?<![=<>\u2208*/^_|\\-])(?<![=<>\u2208] )"
    f"\\[\\s*(?P<list>{_RANGE}(?:\\s*[,;]\\s*{_RANGE})*)"
    r"(?:\s*,\s*(?:pp?|[Ss]ec\w*|[Cc]h\w*|[Tt]h\w*)\.?\s*\d+(?:\s?[-\u2013]\s?\d+)?)?\s*\]"
    r"(?!\s?[=<>\u2208^_\u00d7|]\s?\w)"
)
# What stands before an interval or a row of numbers.
_SPANNED = re.compile(
    r"(?:\b(?:ranges?|ranging|intervals?|between|scale|from|vector|sequence|tuple|list|array|set)"
    r"|\b[A-Za-z] (?:in|is|of)|[+*/-])\s$",
    re.IGNORECASE,
)
_ALPHA = re.compile(
    r"\[[A-Z][A-Za-z+]{1,7}\d\d[a-z]?(?:\s*[,;]\s*[A-Z][A-Za-z+]{1,7}\d\d[a-z]?)*\]"
)
# "(1; 2)", "(1, 3-5)" after a plain word that is not about other numbers.
_ROUND = re.compile(
    r"(?<=[a-z]{3})(?P<before>[\"'\u2019,.;]?\s)"
    f"\\(\\s*(?P<list>{_RANGE}(?:\\s*[,;]\\s*{_RANGE})+)\\s*\\)(?=[\\s.,;:)]|$)"
)
_COUNTED = re.compile(
    r"\b(?:eqs?|equations?|examples?|sentences?|tables?|figures?|figs?|sections?|rules?|steps?|"
    r"lines?|items?|conditions?|constraints?|propert\w+|axioms?|cases?|points?|pairs?|tuples?|"
    r"vectors?|coordinates?|positions?|cells?|nodes?|edges?|ranges?|values?|order|between|columns?|"
    r"rows?|formulae?|formulas?|definitions?|lemmas?|theorems?|numbers?|levels?|classes|labels?|"
    r"scores?|ratings?|grades?|sizes?|in|of|by|is|are|and|or|than|equals?|dimensions?|first|"
    r"second|last|two|three)[\s,.]*$",
    re.IGNORECASE,
)
_RUN = re.compile(r"\[CIT\](?:(?:\s*[,;\u2013-]\s*|\s*)\[CIT\])+")
_BRACKETED = re.compile(r"\(\s*(\[CIT\])\s*[,;.]?\s*\)|\[\s*(\[CIT\])\s*[,;.]?\s*\]")


def mask_mentions_in(text: str, known: Sequence[str] = ()) -> str:
    """A text with each citation mention replaced by `MENTION_MASK`; adjacent ones become one.

    ``known`` mentions are replaced wherever they stand, whatever the white space in them.
    """
    for mention in sorted(filter(None, known), key=len, reverse=True):
        text = _exactly(mention).sub(MENTION_MASK, text)
    text = _SQUARE.sub(_square, text)
    text = _ALPHA.sub(MENTION_MASK, text)
    text = _NARRATIVE.sub(MENTION_MASK, text)
    text = _INNER.sub(lambda match: _ENCLOSED.sub(MENTION_MASK, match[0]), text)
    text = _RUNNING.sub(MENTION_MASK, text)
    text = _PLACED.sub(MENTION_MASK, text)
    text = _OTHERS.sub(MENTION_MASK, text)
    text = _ALONE.sub(lambda match: f"{match['between'] or ''}{MENTION_MASK}", text)
    text = _ROUND.sub(_round, text)
    text = _BRACKETED.sub(MENTION_MASK, text)
    text = _RUN.sub(MENTION_MASK, text)
    return _BRACKETED.sub(MENTION_MASK, text)


def _exactly(mention: str) -> re.Pattern[str]:
    before = r"(?<!\w)" if mention[0].isalnum() else ""
    after = r"(?!\w)" if mention[-1].isalnum() else ""
    parts = re.findall(r"\w+|[^\w\s]", mention)
    return re.compile(before + r"\s*".join(map(re.escape, parts)) + after)


def _square(match: re.Match[str]) -> str:
    """Numbers in square brackets as a mention, unless they are an interval or a vector."""
    single = match["list"].isdigit()
    if not single and _SPANNED.search(match.string, 0, match.start()):
        return match[0]
    return MENTION_MASK


def _round(match: re.Match[str]) -> str:
    """Numbers in round brackets as a mention, where they can be one."""
    numbers = [int(n) for n in re.findall(r"\d+", match["list"])]
    ascending = all(a < b for a, b in pairwise(numbers))
    if not ascending or _COUNTED.search(match.string, 0, match.start("before")):
        return match[0]
    return match["before"] + MENTION_MASK
