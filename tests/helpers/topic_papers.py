"""Papers of a few topics that cite within their topic: citations can be learned from words."""

import json
from pathlib import Path

import numpy as np

import sciembed_train as st
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining

TOPICS, WORDS = 6, 30


def write_topic_papers(folder: Path, papers: int = 120, seed: int = 0) -> Path:
    """``papers.jsonl`` and ``citations.csv``; titles and halves of abstracts share rare words.

    A paper has two words of its own, in its title and in both halves of its abstract; all others
    are of its topic, or of any.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows, citations = [], ["citing,cited"]
    for paper in range(papers):
        topic = paper % TOPICS
        own = [f"word{n}" for n in rng.integers(0, 200, 2)]

        def sentence(topic: int = topic, own: list[str] = own) -> str:
            of_topic = rng.integers(0, WORDS, 4) + WORDS * topic
            words = [*own, *(f"word{n}" for n in of_topic), f"word{rng.integers(0, 200)}"]
            return " ".join(rng.permutation(words)) + "."

        abstract = " ".join(sentence() for _ in range(4))
        rows.append({"paper_id": f"p{paper:03d}", "title": sentence()[:-1], "abstract": abstract})
        near = [p for p in range(topic, papers, TOPICS) if p != paper]
        citations += [f"p{paper:03d},p{p:03d}" for p in rng.choice(near, 6, replace=False)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "papers.jsonl").write_text(text)
    (folder / "citations.csv").write_text("\n".join(citations) + "\n")
    return folder


def write_search(folder: Path, papers: int = 20) -> Path:
    """Twenty searches for a word that one of the papers has."""
    folder.mkdir(parents=True)
    rows = [{"paper_id": f"d{i}", "title": f"word{i}", "abstract": "a b"} for i in range(papers)]
    queries = [{"query_id": f"q{i}", "text": f"word{i}"} for i in range(20)]
    for name, part in (("papers", rows), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "qrels.tsv").write_text("".join(f"q{i} 0 d{i} 1\n" for i in range(20)))
    return folder


def write_topic_corpus(folder: Path, tokenizer: Path) -> Path:
    """`write_topic_papers`, prepared as ``corpus`` in that folder for pairs and triplets alike."""
    write_topic_papers(folder)
    st.prepare(
        folder / "corpus",
        papers=folder / "papers.jsonl",
        citations=folder / "citations.csv",
        cocitation_mining=CocitationMining(cocitations_from="references"),
        tokenizer=str(tokenizer),
        dev_share=0.25,
        test_share=0.3,
        part_tokens=True,
    )
    return folder
