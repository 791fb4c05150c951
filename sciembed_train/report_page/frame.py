"""The frame of a page and its tables: one HTML file that loads nothing and runs nothing.

It is read on paper and on a phone, by light and in the dark. What comes in as text is escaped here;
the parts of a page and the items of an `ordered_list` are HTML already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

# Colours that tell the two kinds of curves apart in print and by eyes that see few colours.
STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c1c1c;--dim:#646464;--rule:#dcdcdc;--train:#1f63a8;--val:#b4480c}
@media(prefers-color-scheme:dark){:root{--page:#16181b;--ink:#e8e8e8;--dim:#a2a2a2;--rule:#3a3d42;--train:#76b3f0;--val:#f39a55}}
body{margin:2em auto;padding:0 1em;max-width:1180px;background:var(--page);color:var(--ink);font:15px/1.45 Helvetica,Arial,sans-serif;overflow-wrap:anywhere}
h1{margin-bottom:0}h2{margin:1.6em 0 .4em;border-bottom:1px solid var(--rule)}h3{margin:1em 0 .2em}small,.dim{color:var(--dim)}
section{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:1.2em}
figure{margin:0}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11px}
path{fill:none;stroke-width:1.6;stroke-linejoin:round}line.axis{stroke:var(--rule)}line.whisker{stroke:var(--ink);stroke-width:1.4}
path.train{stroke:var(--train)}path.val{stroke:var(--val)}circle.train{fill:var(--train)}circle.val{fill:var(--val)}rect.bar{fill:var(--train)}
path.pale{opacity:.35;stroke-width:1}span.train{color:var(--train)}span.val{color:var(--val)}line.best{stroke:var(--dim);stroke-dasharray:4 3}
p.verdict{padding:.5em .8em;border-left:4px solid var(--dim);font-weight:bold}p.BETTER{border-color:#2a8a3e}p.WORSE{border-color:#c62828}
table.neighbours{width:100%;table-layout:fixed}ol,ul{margin:0;padding-left:1.4em}.wide{overflow-x:auto}.wide td,.wide th{overflow-wrap:normal;white-space:nowrap}
table{border-collapse:collapse}th,td{padding:.15em 1.2em .15em 0;text-align:left;vertical-align:top;font-weight:normal}th{color:var(--dim)}
td.number{text-align:right}blockquote{margin:.3em 0;padding-left:.8em;border-left:3px solid var(--rule)}
pre{overflow-x:auto;padding:.8em;border:1px solid var(--rule);font-size:12.5px}
"""  # noqa: E501
# No address but the page's own, should a name in it ever come to be read as a tag.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, parts: Iterable[str]) -> str:
    """The text of a page with this title and these parts, which are HTML."""
    lines = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *parts,
        "</body></html>\n",
    ]
    return "\n".join(lines)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of a text, perhaps of a class of the style sheet."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def fact_table(rows: Mapping[str, Any]) -> str:
    """A table with a row for each fact: its name and its value."""
    cells = (
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(in_words(value))}</td></tr>"
        for name, value in rows.items()
    )
    return "\n".join(["<table>", *cells, "</table>"])


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head; whole numbers stand to the right."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return "\n".join(['<div class="wide"><table>', *lines, "</table></div>"])


def ordered_list(items: Iterable[str]) -> str:
    """A numbered list of items that are HTML."""
    return "<ol>" + "".join(f"<li>{item}</li>" for item in items) + "</ol>"


def text_list(items: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def in_words(value: Any) -> str:
    """A value of JSON as a person reads it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(inner)}" for name, inner in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"
