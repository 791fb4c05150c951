"""A small corpus of citing sentences that cite the same papers, prepared from synthetic files."""

import json
from pathlib import Path

import numpy as np

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from tests.helpers.small_corpus import small_papers


def write_citing_files(folder: Path, papers: int = 40, sentences: int = 120) -> dict[str, Path]:
    """Papers, and sentences that cite one or two of the first ten, the dev or the test papers."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{k: p[k] for k in ("paper_id", "title", "abstract")} for p in small_papers(papers)]
    ranges = [(0, 10)] * 8 + [(10, 14), (14, 16)]
    contexts = [
        {
            "text": f"Of (many) word{rng.integers(200)} says {chr(97 + i % 26)} {chr(97 + i // 26)}"
            f" of word{i}x.",
            "cited_ids": [f"p{n}" for n in rng.choice(range(*ranges[i % 10]), 2, replace=False)],
        }
        for i in range(sentences)
    ]
    for row in contexts[::3]:
        row["cited_ids"] = row["cited_ids"][:1]
    files = {"papers": rows, "contexts": contexts}
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (folder / "dev.txt").write_text("".join(f"p{n}\n" for n in range(10, 14)))
    (folder / "test.txt").write_text("".join(f"p{n}\n" for n in range(14, 16)))
    places = {name: folder / f"{name}.jsonl" for name in files}
    return places | {f"{name}_ids": folder / f"{name}.txt" for name in ("dev", "test")}


def write_citing_corpus(folder: Path, tokenizer: Path, by: str = "paper") -> Corpus:
    """The files mined for sentence pairs and tokenised."""
    files = write_citing_files(folder)
    mining = CocitationMining(sentence_pairs=by)
    settings = PrepareSettings(
        **files, to=folder / "corpus", tokenizer=tokenizer, cocitation_mining=mining
    )
    return prepare(settings)
