"""An encoder before and after training beside BM25, on the citations of held-out papers.

Run: ``python examples/score_encoders.py [FOLDER]``; about a minute on two CPU cores.
"""

import sys
import tempfile
from pathlib import Path

import synthetic_data

import sciembed_train as st


def main(folder: Path) -> dict[str, float]:
    """Prepare, train, and print the mean average precision of each."""
    files = synthetic_data.make(folder)
    corpus = st.prepare(
        folder / "corpus",
        papers=files.papers,
        citations=files.citations,
        tokenizer=files.backbone,
        dev_share=0.1,
        test_share=0.1,
    )
    run = st.fit(
        ["specter", "machine/cpu"],
        {
            "data.corpus": corpus.folder,
            "model.encoder.backbone": files.backbone,
            "model.encoder.max_length": 128,
            "model.optim.lr": 2e-3,
            "trainer.max_steps": 100,
        },
        root=folder / "runs",
        quiet=True,
    )
    models = {"before": files.backbone, "bm25": "bm25", "after": run.export}
    scores = {}
    for name, model in models.items():
        scores[name] = st.evaluate(model, "citations", corpus.folder)["citations/map"]
        print(f"{name:<8}{scores[name]:.3f}")
    return scores


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
