"""Small folders of the benchmarks, as they were released."""

import json

CSFCUBE_GRADES = {
    "q1": {"a": 3, "b": 0, "c": 2, "d": 1, "e": 0, "q1": 3},
    "q2": {"a": 0, "c": 0, "e": 2, "f": 1, "d": 0},
    "q3": {"b": 2, "c": 1, "d": 0, "f": 0, "a": 0},
}
# Query to its candidates in the file's order, with grades as RELISH has them.
JUDGED_GRADES = {
    "q1": [("a", 2), ("b", 0), ("c", 1), ("d", 2), ("e", 0)],
    "q2": [("e", 0), ("d", 1), ("c", 2), ("b", 0), ("a", 0)],
    "q3": [("b", 2), ("q1", 0), ("a", 1)],
    "q4": [("a", 0), ("b", 0)],
}
JUDGED_SPLITS = {"dev": ["q2"], "test": ["q1", "q3", "q4"]}
SEARCHED_PAPERS = {
    "p1": ("Sorting networks", "Comparators in parallel."),
    "p2": ("Garbage collection", ["Tracing live cells.", "Compacting them."]),
    "p3": ("Compilers for parallel machines", ""),
    "p4": ("", None),
}
QUERIES = [
    {"query_id": 1, "text": "parallel sorting"},
    {"query_id": "2", "text": "tracing garbage"},
    {"query_id": "3", "paper_id": "p1"},
    {"query_id": "4", "text": "nobody judged this"},
]


def write_csfcube(place):
    """Three queries of two facets; q1 stands in its own pool with the best grade."""
    place.mkdir()
    splits = {}
    for facet, queries in (("background", ("q1", "q2", "q3")), ("method", ("q2", "q3"))):
        pools = {
            q: {
                "cands": list(CSFCUBE_GRADES[q]),
                "relevance_adju": list(CSFCUBE_GRADES[q].values()),
            }
            for q in queries
        }
        (place / f"test-pid2anns-csfcube-{facet}.json").write_text(json.dumps(pools))
        names = [f"{q}_{facet}" for q in queries]
        splits[facet] = {
            "fold1_dev": names[-1:],
            "fold1_test": names[:-1],
            "fold2_dev": names[:-1],
            "fold2_test": names[-1:],
        }
    (place / "evaluation_splits.json").write_text(json.dumps(splits))
    return place


def write_judged(place, name="relish", grades=None, splits=None, lost=()):
    """The three files of a collection, as released."""
    place.mkdir(exist_ok=True)
    pools = {
        query: {"cands": [p for p, _ in row], "relevance_adju": [g for _, g in row]}
        for query, row in (grades or JUDGED_GRADES).items()
    }
    (place / f"test-pid2anns-{name}.json").write_text(json.dumps(pools))
    (place / f"{name}-evaluation_splits.json").write_text(json.dumps(splits or JUDGED_SPLITS))
    rows = [
        {"paper_id": p, "title": f"T {p}", "abstract": [f"One of {p}.", "Two."], "pred_labels": []}
        for p in ("q1", "q2", "q3", "q4", *"abcde", "unused")
        if p not in lost
    ]
    (place / f"abstracts-{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


def write_searches(place):
    """A collection of four papers, four searches, and judgements of some of them."""
    rows = [{"paper_id": i, "title": t, "abstract": a} for i, (t, a) in SEARCHED_PAPERS.items()]
    (place / "papers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "queries.jsonl").write_text("\n".join(map(json.dumps, QUERIES)))
    (place / "qrels.tsv").write_text(
        "1\t0\tp1\t2\n1\t0\tp3\t1\n1\t0\tp2\t0\n2 0 p2 1\n3 0 p3 1\n3 0 p1 1\n"
        "9 0 p1 1\n2 0 gone 1\n"
    )
    return place
