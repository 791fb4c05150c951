"""Files of papers and citations with rows of every ordinary kind, and settings to prepare them."""

import json

import numpy as np

from sciembed_train.corpus.prepare_settings import PrepareSettings


def write_paper_files(folder, n=120, seed=0):
    """Papers and citations in files, some without text, some rows of every ordinary kind."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    papers = [
        {
            "paper_id": f"p{i}" if i % 2 else i,
            "title": f"word{i % 200} word3" if i % 10 else "",
            "abstract": [None, "word1 word2", ["word4 word5", "word6"]][i % 3] if i % 10 else None,
            "year": 1990 + i % 30,
        }
        for i in range(n)
    ]
    names = [str(p["paper_id"]) for p in papers]
    pairs = [(names[a], names[b]) for a, b in rng.integers(0, n, (n * 5, 2)) if a != b]
    (folder / "papers.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    lines = [f"{a},{b}" for a, b in pairs]
    lines += [lines[0], f"{names[0]},{names[0]}", f"unknown,{names[0]}", f"{names[0]},unknown"]
    (folder / "citations.csv").write_text("\n".join(lines) + "\n")
    return papers, sorted(set(pairs))


def paper_settings(folder, **values):
    return PrepareSettings(
        papers=folder / "papers.jsonl",
        citations=folder / "citations.csv",
        to=folder / "corpus",
        memory="1GB",
        threads=1,
        **values,
    )


def triplets_by_id(corpus, split):
    ids = corpus.paper_ids()
    return sorted([ids[i] for i in row] for row in corpus.triplets(split))
