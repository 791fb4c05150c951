"""A small list of tasks of every type, of invented papers."""

import csv
import json

import numpy as np

PAPERS = {f"p{i}": (f"Title {i}", f"Abstract number {i}.") for i in range(24)}


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("paper_id", "label"), *rows])


def write_tasks(folder, *entries):
    write_lines(folder / "scirepeval_tasks.jsonl", entries)


def documents(names=PAPERS, **more):
    return [{"doc_id": n, "title": PAPERS[n][0], "abstract": PAPERS[n][1], **more} for n in names]


def labelled(folder, name, label, kind="classification", **more):
    """A task whose labels are ``label(number of the paper)``; two thirds of the papers train."""
    write_lines(folder / name / "meta.jsonl", documents())
    rows = [(paper, label(i)) for i, paper in enumerate(PAPERS)]
    write_csv(folder / name / "train.csv", rows[:16])
    write_csv(folder / name / "test.csv", rows[16:])
    data = {"meta": f"{name}/meta.jsonl", "test": name}
    return {"name": name, "type": kind, "data": data, **more}


def judged(folder, name, pools, texts, kind="proximity", **more):
    """A task of judged pools ``{query: {candidate: grade}}``."""
    write_lines(folder / name / "meta.jsonl", texts)
    write_lines(
        folder / name / "test_qrel.jsonl",
        [
            {"query_id": query, "cand_id": paper, "score": grade}
            for query, pool in pools.items()
            for paper, grade in pool.items()
        ],
    )
    data = {"meta": f"{name}/meta.jsonl", "test": name}
    return {"name": name, "type": kind, "data": data, **more}


class Known:
    """Vectors that a test gives: a function of a record's fields and the format."""

    name, similarity = "known", "euclidean"

    def __init__(self, vector):
        self.vector = vector
        self.notes = []
        self.asked = []

    def describe(self):
        return {}

    def embed(self, records, format):
        self.asked += [(record, format) for record in records.values()]
        found = [self.vector(record, format) for record in records.values()]
        return np.array(found, dtype=np.float32).reshape(len(records), -1)


def number(record):
    """The number of an invented paper."""
    return int(record[0].split()[1])


def by_number(record, format):
    """Tells the number of a paper, and nothing of the format."""
    n = number(record) / 24
    return [n, n * n, n % 0.25, 1.0]
