"""An optimal transport plan as a picture: a heat map in one SVG file, its sentences beside it.

Rows are the first paper's sentences, columns the second's, which stand under the map by number.
The file needs nothing else; a cell's numbers show when the mouse rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap

FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'
LINE, PAD = 15, 6  # height of a line of text, and room around it
TEXT_WIDTH, LETTERS = 430, 68  # of a row's sentence, in pixels and in letters
CELL = 46
BAR = 60  # longest bar of a sentence's share
DARK, LIGHT = (8, 69, 148), (247, 251, 255)


def draw(
    titles: tuple[str, str],
    sentences: tuple[Sequence[str], Sequence[str]],
    plan: Sequence[Sequence[float]],
    distances: Sequence[Sequence[float]],
    shares: tuple[Sequence[float], Sequence[float]],
    about: str,
) -> str:
    """The SVG file's text.

    Args:
        titles: of the two papers.
        sentences: of the two papers.
        plan: what moves between two sentences; adds up to 1.
        distances: of the sentences.
        shares: of each sentence of both papers.
        about: a line on what the plan was made with.
    """
    rows, columns = (list(map(_lines, few)) for few in sentences)
    left = PAD + TEXT_WIDTH + BAR + 4 * PAD
    width = max(left + CELL * len(columns) + PAD, PAD + TEXT_WIDTH * 2)
    body: list[str] = []
    top = PAD
    for name, title in zip("AB", titles, strict=True):
        for n, line in enumerate(wrap(f"{name}  {title}", width // 7) or [name]):
            top += LINE
            body.append(_text(PAD + 16 * bool(n), top, line, "bold"))
    top += LINE
    body.append(_text(PAD, top, about, fill="#555"))
    top += PAD + LINE
    most = max(shares[1])
    for j, share in enumerate(shares[1]):
        x, height = left + CELL * j, BAR * share / most
        body.append(
            _rectangle(x + 4, top + BAR - height, CELL - 8, height, "#c6c6c6", _part(share))
        )
        body.append(_text(x + CELL / 2, top + BAR + LINE, f"B{j + 1}", "bold", "middle"))
    y = top + BAR + LINE + PAD
    largest, widest = max(map(max, plan)), max(shares[0])
    for i, lines in enumerate(rows):
        height = max(len(lines) * LINE + PAD, 26)
        body.append(_text(PAD, y + LINE, f"A{i + 1}", "bold"))
        body.extend(_text(PAD + 30, y + LINE * (n + 1), line) for n, line in enumerate(lines))
        bar = BAR * shares[0][i] / widest
        place = left - PAD - bar, y + height / 2 - 7
        body.append(_rectangle(*place, bar, 14, "#c6c6c6", _part(shares[0][i])))
        for j, moved in enumerate(plan[i]):
            x, deep = left + CELL * j, moved / largest
            told = f"A{i + 1} - B{j + 1}: {_part(moved)}, distance {distances[i][j]:.4g}"
            body.append(_rectangle(x, y, CELL - 1, height - 1, _shade(deep), told))
            if moved >= 0.0005:
                fill = "white" if deep > 0.5 else "black"
                at = x + CELL / 2, y + height / 2 + 4
                body.append(_text(*at, f"{100 * moved:.1f}", "", "middle", fill))
        y += height
    y += PAD
    body.append(_text(left, y + LINE, "numbers: per cent of what is moved; bars: each one's share"))
    y += 2 * LINE
    for j, sentence in enumerate(sentences[1]):
        body.append(_text(PAD, y + LINE, f"B{j + 1}", "bold"))
        for line in _lines(sentence, max(LETTERS, (width - 40) // 7)):
            y += LINE
            body.append(_text(PAD + 30, y, line))
        y += PAD
    size = f'width="{width:.0f}" height="{y + LINE:.0f}" viewBox="0 0 {width:.0f} {y + LINE:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])


def _lines(sentence: str, letters: int = LETTERS) -> list[str]:
    return wrap(sentence, letters) or [""]


def _text(x: float, y: float, text: str, weight: str = "", anchor: str = "", fill: str = "") -> str:
    given = (("font-weight", weight), ("text-anchor", anchor), ("fill", fill))
    extra = "".join(f' {key}="{value}"' for key, value in given if value)
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(_printable(text))}</text>'


def _rectangle(x: float, y: float, width: float, height: float, fill: str, told: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{fill}"><title>{escape(told)}</title></rect>'


def _shade(deep: float) -> str:
    mixed = (round(a + (b - a) * deep) for a, b in zip(LIGHT, DARK, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _part(share: float) -> str:
    return f"{100 * share:.2f} %"


def _printable(text: str) -> str:
    # XML has no place for most control characters, whichever way they are written.
    return "".join(c for c in text if c.isprintable())
