"""A small collection with an index: vectors of a tiny encoder in shards, and titles."""

import json
from types import SimpleNamespace

import sciembed_train as st

TITLES = [f"word{n} word{n + 1} word{n + 2}" for n in range(60)]


def write_index(folder, model, titles=TITLES, **settings):
    """The folders of vectors and index; papers are numbered ``p0``, ``p1``, ..."""
    papers = folder / "papers.jsonl"
    rows = ({"paper_id": f"p{n}", "title": t, "abstract": None} for n, t in enumerate(titles))
    papers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    st.embed(model, papers, folder / "vectors", device="cpu", shard_size=25)
    built = st.build_index(folder / "vectors", folder / "index", papers=papers, **settings)
    return SimpleNamespace(
        papers=papers, vectors=folder / "vectors", index=folder / "index", built=built
    )
