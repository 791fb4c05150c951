"""A folder of small benchmarks: a review, labels, citations, and something else."""

import json
from pathlib import Path

WORDS = ("graph", "protein", "galaxy", "market", "neuron", "theorem")


def write_suite(folder: Path) -> Path:
    """The folder, made; its papers are told apart by a word that papers of a label share."""
    papers = [
        {
            "paper_id": f"p{at:02}",
            "title": f"On the {WORDS[at % 3]} number {at}",
            "abstract": f"We study a {WORDS[at % 3]} and its {WORDS[3 + at % 3]} in detail {at}.",
        }
        for at in range(30)
    ]
    files = {
        "reviews/one/labels.tsv": _table(
            ("paper_id", "included"), [(p["paper_id"], int(at % 3 == 0)) for at, p in _all(papers)]
        ),
        "topics/labels.tsv": _table(
            ("paper_id", "label"), [(p["paper_id"], WORDS[at % 3]) for at, p in _all(papers)]
        ),
        "mine/citations.tsv": _table(
            ("citing", "cited"), [(f"p{at:02}", f"p{(at + 3) % 30:02}") for at in range(30)]
        ),
        "other/notes.txt": "nothing\n",
    }
    lines = "\n".join(map(json.dumps, papers)) + "\n"
    files |= {f"{name}/papers.jsonl": lines for name in ("reviews/one", "topics", "mine", "plain")}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _all(papers):
    return enumerate(papers)


def _table(head, rows):
    return "\n".join("\t".join(map(str, row)) for row in [head, *rows]) + "\n"
