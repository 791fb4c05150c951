"""Contrastive training of encoders for scientific papers.

``import sciembed_train as st`` gives the functions of `api`, and the types of their results. They
are imported when they are first used, so that importing the package imports no torch.

Example:
    >>> import sciembed_train as st
    >>> corpus = st.prepare("corpus", papers="papers.jsonl", citations="c.csv")
    >>> run = st.fit("specter", {"data.corpus": "corpus"})
    >>> st.load_encoder(run.export).encode([{"title": "Attention"}])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciembed_train.api import (
        build_index,
        embed,
        evaluate,
        evaluate_suite,
        export_encoder,
        fit,
        load_encoder,
        merge,
        mine,
        open_index,
        prepare,
        push,
    )
    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.errors import UserError
    from sciembed_train.evaluation.scores import Scores
    from sciembed_train.evaluation.suite.suite_results import SuiteResults
    from sciembed_train.export.export_checkpoint import Export
    from sciembed_train.export.merge import Merge
    from sciembed_train.export.push import Pushed
    from sciembed_train.hard_negatives.mining_summary import Mined
    from sciembed_train.inference.embed_file import Embeddings
    from sciembed_train.inference.embed_shards import EmbeddingShards
    from sciembed_train.inference.paper_encoder import PaperEncoder
    from sciembed_train.search.build_index import BuiltIndex
    from sciembed_train.search.paper_search import PaperSearch
    from sciembed_train.training.run import Run

__version__ = "0.1.0"

# Name -> the module that has it.
_LAZY = {
    **dict.fromkeys(
        (
            *("prepare", "mine", "fit", "load_encoder", "embed", "evaluate", "evaluate_suite"),
            *("export_encoder", "merge", "push", "build_index", "open_index"),
        ),
        "api",
    ),
    "Corpus": "corpus.store.corpus_folder",
    "Run": "training.run",
    "Scores": "evaluation.scores",
    "SuiteResults": "evaluation.suite.suite_results",
    "Embeddings": "inference.embed_file",
    "EmbeddingShards": "inference.embed_shards",
    "Export": "export.export_checkpoint",
    "Merge": "export.merge",
    "Pushed": "export.push",
    "Mined": "hard_negatives.mining_summary",
    "PaperEncoder": "inference.paper_encoder",
    "BuiltIndex": "search.build_index",
    "PaperSearch": "search.paper_search",
    "UserError": "errors",
}

__all__ = [
    "BuiltIndex",
    "Corpus",
    "EmbeddingShards",
    "Embeddings",
    "Export",
    "Merge",
    "Mined",
    "PaperEncoder",
    "PaperSearch",
    "Pushed",
    "Run",
    "Scores",
    "SuiteResults",
    "UserError",
    "__version__",
    "build_index",
    "embed",
    "evaluate",
    "evaluate_suite",
    "export_encoder",
    "fit",
    "load_encoder",
    "merge",
    "mine",
    "open_index",
    "prepare",
    "push",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
