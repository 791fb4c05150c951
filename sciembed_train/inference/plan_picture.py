"""An optimal transport plan as a picture: a heat map in one SVG file, its sentences beside it.

Rows are the first paper's sentences, columns the second's, which are listed by number below the
map. The file needs nothing else; a cell's numbers show when the mouse rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap

FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'
LINE, PAD = 15, 6  # height of a line of text, and padding
TEXT_WIDTH, LETTERS = 480, 66  # of a row's sentence, in pixels and in letters
CELL = 46
BAR = 32  # longest bar of a sentence's share
LEFT = PAD + TEXT_WIDTH + BAR + 4 * PAD  # where the map begins
GREY = "#c6c6c6"
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

    ``shares`` are those of each sentence of both papers; ``about`` is a line on the plan's
    settings.
    """
    width = max(LEFT + CELL * len(sentences[1]) + PAD, 800)
    body: list[str] = []
    y = PAD
    for name, title in zip("AB", titles, strict=True):
        y = _paragraph(body, y, f"{name}: {title}", PAD, width // 8, "bold")
    y = _paragraph(body, y, about, PAD, width // 8)
    y = _columns(body, y + PAD + LINE, shares[1])
    largest, largest_share = max(map(max, plan)), max(shares[0])
    for i, sentence in enumerate(sentences[0]):
        height = max(_paragraph(body, y, sentence, PAD + 30, LETTERS) - y + PAD, 26)
        body.append(_text(PAD, y + LINE, f"A{i + 1}", "bold"))
        bar = BAR * shares[0][i] / largest_share
        box = LEFT - PAD - bar, y + height / 2 - 7, bar, 14
        body.append(_rectangle(box, GREY, _part(shares[0][i])))
        for j, moved in enumerate(plan[i]):
            tooltip = f"A{i + 1} - B{j + 1}: {_part(moved)}, distance {distances[i][j]:.4g}"
            _cell(body, LEFT + CELL * j, y, height, moved, largest, tooltip)
        y += height
    legend = "Numbers: percent of the plan. Bars: share of each sentence."
    y = _paragraph(body, y + PAD, legend, PAD, LETTERS)
    y += LINE
    for j, sentence in enumerate(sentences[1]):
        body.append(_text(PAD, y + LINE, f"B{j + 1}", "bold"))
        y = _paragraph(body, y, sentence, PAD + 30, (width - 40) // 7) + PAD
    size = f'width="{width}" height="{y + LINE}" viewBox="0 0 {width} {y + LINE}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])


def _paragraph(body: list[str], y: int, text: str, x: int, letters: int, weight: str = "") -> int:
    """Where the lines of a text end that begins at ``y``."""
    for line in wrap(text, letters) or [""]:
        y += LINE
        body.append(_text(x, y, line, weight))
    return y


def _columns(body: list[str], y: int, shares: Sequence[float]) -> int:
    """Where the heads of the columns end: each one's share as a bar, and its number."""
    largest_share = max(shares)
    for j, share in enumerate(shares):
        x, height = LEFT + CELL * j, BAR * share / largest_share
        box = x + 15, y + BAR - height, CELL - 30, height
        body.append(_rectangle(box, GREY, _part(share)))
        body.append(_text(x + CELL / 2, y + BAR + LINE, f"B{j + 1}", "bold", "middle"))
    return y + BAR + LINE + PAD


def _cell(
    body: list[str], x: int, y: int, height: int, moved: float, largest: float, tooltip: str
) -> None:
    deep = moved / largest
    body.append(_rectangle((x, y, CELL - 1, height - 1), _shade(deep), tooltip))
    if moved >= 0.0005:
        fill = "white" if deep > 0.6 else "black"
        at = x + CELL / 2, y + height / 2 + 4
        body.append(_text(*at, f"{100 * moved:.1f}", "", "middle", fill))


def _text(x: float, y: float, text: str, weight: str = "", anchor: str = "", fill: str = "") -> str:
    attributes = (("font-weight", weight), ("text-anchor", anchor), ("fill", fill))
    extra = "".join(f' {key}="{value}"' for key, value in attributes if value)
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(_printable(text))}</text>'


def _rectangle(box: tuple[float, float, float, float], fill: str, tooltip: str) -> str:
    names = ("x", "y", "width", "height")
    size = " ".join(f'{name}="{value:.1f}"' for name, value in zip(names, box, strict=True))
    return f'<rect {size} fill="{fill}"><title>{escape(tooltip)}</title></rect>'


def _shade(deep: float) -> str:
    mixed = (round(a + (b - a) * deep) for a, b in zip(LIGHT, DARK, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _part(share: float) -> str:
    return f"{100 * share:.2f} %"


def _printable(text: str) -> str:
    # XML has no place for most control characters, whichever way they are written.
    return "".join(c for c in text if c.isprintable())
