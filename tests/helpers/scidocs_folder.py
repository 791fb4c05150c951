"""A small folder of SciDocs."""

import itertools
import json

SCIDOCS_RANKINGS = ("coview", "coread", "cite", "cocite")
SCIDOCS_POOLS = {
    "q1": {"a": 1, "b": 0, "c": 0, "d": 1, "e": 0},
    "q2": {"e": 1, "d": 0, "c": 0, "q1": 0},
    "q3": {"b": 0, "a": 0},
}
SCIDOCS_PAPERS = ("q1", "q2", "q3", *"abcde")


def scidocs_paper(name, title=None):
    return {
        "abstract": None if name == "b" else f"Of {name}.",
        "authors": ["17"],
        "cited_by": [],
        "paper_id": name,
        "references": ["z"],
        "title": f"T {name}" if title is None else title,
        "year": 2015,
    }


def write_scidocs(
    folder,
    pools=SCIDOCS_POOLS,
    papers=SCIDOCS_PAPERS,
    tasks=SCIDOCS_RANKINGS,
    classes=("mag", "mesh"),
):
    """A folder of SciDocs; labelled papers are m000, m001, ..., their class the number modulo 3."""
    folder.mkdir()
    for task in tasks:
        (folder / task).mkdir()
        for split, named in (("test", pools), ("val", dict(itertools.islice(pools.items(), 1)))):
            lines = [f"{q} 0 {p} {g}\n" for q, row in named.items() for p, g in row.items()]
            (folder / task / f"{split}.qrel").write_text("".join(lines))
    for task in classes:
        (folder / task).mkdir()
        for split, numbers in (
            ("train", range(60)),
            ("val", range(60, 66)),
            ("test", range(66, 90)),
        ):
            lines = [f"m{at:03},{at % 3}\n" for at in numbers]
            (folder / task / f"{split}.csv").write_text("pid,class_label\n" + "".join(lines))
    texts = {name: scidocs_paper(name) for name in papers}
    (folder / "paper_metadata_view_cite_read.json").write_text(json.dumps(texts))
    labelled = {f"m{at:03}": scidocs_paper(f"m{at:03}") for at in range(90)}
    (folder / "paper_metadata_mag_mesh.json").write_text(json.dumps(labelled))
    return folder
