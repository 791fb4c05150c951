"""A small folder of MDCR."""

import json

MDCR_LISTS = ("bm25", "graph", "most_cited", "random", "scincl", "specter", "true")
# Query to its candidates, each with the lists that it is in.
MDCR_FIELDS = {
    "Art": {
        "1": {"true": ["10", "11"], "bm25": ["12", "11"], "graph": ["13"], "random": ["14", "12"]},
        "2": {"true": ["12"], "specter": ["10", "13"], "scincl": ["15"]},
    },
    "Computer Science": {"1": {"true": ["15", "16"], "most_cited": ["10", "11", "17"]}},
}
MDCR_PAPERS = ("1", "2", *map(str, range(10, 18)))


def write_mdcr(folder, fields=None, papers=MDCR_PAPERS, split="test"):
    """The two files of a split."""
    folder.mkdir(exist_ok=True)
    content = {
        name: {
            query: {one: lists.get(one, []) for one in MDCR_LISTS}
            for query, lists in queries.items()
        }
        for name, queries in (fields or MDCR_FIELDS).items()
    }
    (folder / f"mdcr_{split}.json").write_text(json.dumps(content))
    rows = [{"paper_id": p, "title": f"T {p}", "abstract": f"Of {p}."} for p in papers]
    (folder / f"mdcr_{split}_data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
