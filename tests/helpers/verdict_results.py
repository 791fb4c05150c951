"""The content of a ``results.json``."""

from sciembed_train.evaluation.significance import Comparison
from sciembed_train.training.results_file import Results
from sciembed_train.training.verdict import AlphaChoice, AlphaPoint, Verdict

GAIN = Comparison(0.3, 0.34, 0.01, 0.07, 0.004, 345)
LOSS = Comparison(0.8, 0.75, -0.08, -0.02, 0.001, 345)
SAME = Comparison(0.5, 0.5, -0.01, 0.01, 0.9, 345)


def write_results(guard: Comparison = SAME, alpha: float = 0.4, **settings) -> Results:
    """Results with one guard, ``my <guard>``."""
    verdict = Verdict("citations", "map", {"citations": GAIN, "my <guard>": guard}, alpha)
    curve = (
        AlphaPoint(0.4, {"citations": 0.33, "my <guard>": 0.5}, ()),
        AlphaPoint(1.0, {"citations": 0.35, "my <guard>": 0.4}, ("my <guard>",)),
    )
    start = {"citations": 0.3, "my <guard>": 0.5}
    paper = {"id": "p1", "title": "Near & <far>", "cited": True}
    values = {
        "choice": AlphaChoice(0.4, True, start, curve),
        "bm25": {"citations": 0.25},
        "metrics": {"citations": "map", "my <guard>": "map_grade1"},
        "neighbours": [{"id": "q", "title": "A query", "before": [paper], "after": [paper]}],
        "run": {
            **{"name": "r", "checkpoint": "best.ckpt", "step": 200, "steps": 400},
            **{"monitor": "val/map", "score": 0.3312},
        },
        **settings,
    }
    facts = {"name": "my_start", "pooling": "mean", "max_length": 256, "similarity": "cosine"}
    facts["precision"] = "fp32"
    return Results(verdict, facts, **values)
