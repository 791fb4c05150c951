"""Small files of papers and contexts, and the command that prepares them."""

import json

from sciembed_train.cli import main as train

TEXT = "Some follow the way of others (Roe, 2000; Doe, 2001)."


def write_letter_papers(folder, names="abcde", without="e"):
    papers = [{"paper_id": n, "title": "" if n in without else f"title {n}"} for n in names]
    path = folder / "papers.jsonl"
    path.write_text("".join(json.dumps(p) + "\n" for p in papers))
    return path


def write_contexts(folder, lists, **values):
    path = folder / "contexts.jsonl"
    rows = [{"text": TEXT, "cited_ids": list(ids), **values} for ids in lists]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_prepare(folder, *arguments):
    """The exit code of ``prepare`` with the papers of the folder, none held out."""
    command = ["prepare", "--papers", folder / "papers.jsonl", "--to", folder / "corpus"]
    shares = ["--dev-share", "0", "--test-share", "0", "--memory", "1GB"]
    return train([*map(str, [*command, *shares, *arguments])])
