"""A sampling of your own, trained by an existing method, without touching the package.

Each paper is paired with a paper that it cites, and the negative is a paper of another decade.

Run: ``python examples/own_sampling.py [FOLDER]``; about a minute on two CPU cores.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import synthetic_data

import sciembed_train as st
from sciembed_train.sampling.base import Sampling, fingerprint
from sciembed_train.sampling.triplets import TripletExamples


@dataclass(frozen=True)
class DecadeSampling(Sampling):
    """Citations with a negative whose number is far from the query's.

    Args:
        seed: of the negatives.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers", "citations")
    needs: ClassVar[tuple[str, ...]] = ("papers", "citations")

    seed: int = 0

    def open(self, corpus, tokenization, dev_limit):
        """Citations of training papers, each with a random negative; the mined dev triplets."""
        rng = np.random.default_rng(self.seed)
        citations = np.asarray(corpus.citations())
        held_out = np.concatenate([corpus.queries("dev"), corpus.queries("test")])
        citations = citations[~np.isin(citations[:, 0], held_out)]
        offset = rng.integers(corpus.n_papers // 4, corpus.n_papers // 2, len(citations))
        negatives = (citations[:, 0] + offset) % corpus.n_papers
        triplets = np.column_stack([citations, negatives]).astype(np.int32)
        key = tokenization.tokenizer.key(tokenization.input_format)
        digits = fingerprint(corpus, [key, f"decades {self.seed}"], triplets)
        dev = np.asarray(corpus.triplets("dev"))[:dev_limit]
        return TripletExamples(corpus.tokens(key), triplets, dev, tokenization.max_length, digits)


def main(folder: Path) -> None:
    """Train twenty steps with it."""
    files = synthetic_data.make(folder)
    run = st.fit(
        ["specter", "machine/cpu"],
        {
            "data.papers": files.papers,
            "data.citations": files.citations,
            "data.sampling": {"class_path": "own_sampling.DecadeSampling"},
            "model.encoder.backbone": files.backbone,
            "model.encoder.max_length": 128,
            "model.optim.lr": 2e-3,
            "trainer.max_steps": 20,
        },
        run="own_sampling",
        root=folder / "runs",
        quiet=True,
    )
    print(run)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
