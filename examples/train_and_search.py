"""From papers and citations to an encoder, and a search among the papers.

Run: ``python examples/train_and_search.py [FOLDER]``; about a minute on two CPU cores.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import synthetic_data

import sciembed_train as st


def main(folder: Path) -> None:
    """Train, embed, and print the papers nearest to one of them."""
    files = synthetic_data.make(folder)
    run = st.fit(
        ["specter", "machine/cpu"],
        {
            "data.papers": files.papers,
            "data.citations": files.citations,
            "model.encoder.backbone": files.backbone,
            "model.encoder.max_length": 128,
            "model.optim.lr": 2e-3,
            "trainer.max_steps": 60,
        },
        root=folder / "runs",
        quiet=True,
    )
    print(run)

    papers = [json.loads(line) for line in files.papers.read_text().splitlines()]
    vectors = st.load_encoder(run.export).encode(papers)
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    print(f"nearest to: {papers[0]['title']}")
    for index in np.argsort(distances)[1:6]:
        print(f"  {distances[index]:.2f}  {papers[index]['title']}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
