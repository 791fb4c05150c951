"""How many papers and citations led to triplets, and why none did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, in_brackets, list_reasons
from sciembed_train.corpus.mining.triplet_mining import Triplets
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.store.corpus_files import SPLITS


def explain_triplets(
    triplets: Triplets,
    split: NDArray[np.int8],
    counts: Mapping[str, Any],
    papers: Papers,
    citations: NDArray[np.int32] | None,
) -> dict[str, Any]:
    """Counts of the papers and citations on the way to triplets, for ``report.json``."""
    facts: dict[str, Any] = {name: dict(counts[name]) for name in ("queries", "triplets", "hard")}
    if citations is not None:
        usable = papers.usable
        textless = ~(usable[citations[:, 0]] & usable[citations[:, 1]])
        facts["citations with a text at both ends"] = int((~textless).sum())
        facts["citations left out for want of a text"] = {
            "count": int(textless.sum()),
            "examples": _pairs(papers, citations[textless][:EXAMPLES]),
        }
    split_of = split[triplets.without_hops]
    by_split = {name: int((split_of == number).sum()) for number, name in enumerate(SPLITS)}
    facts["queries left out for want of a hard negative"] = {
        "count": len(triplets.without_hops),
        "by split": by_split,
        "examples": [papers.ids[i] for i in triplets.without_hops[:EXAMPLES]],
    }
    facts["triplets not made: no paper left for an easy negative"] = triplets.unfilled
    return facts


def _pairs(papers: Papers, citations: NDArray[np.int32]) -> list[str]:
    return [f"{papers.ids[a]} cites {papers.ids[b]}" for a, b in citations]


def no_triplets_message(report: Mapping[str, Any], papers: Papers) -> str:
    """The message that there is no training triplet: why, with numbers, and what to do."""
    facts = report["triplets"]
    texts, n = int(papers.usable.sum()), len(papers.ids)
    lines = [f"No training triplet can be made. Of {n:,} papers {texts:,} have a text."]
    for name in ("citations", "pairs"):
        if name not in report:
            continue
        rows = report[name]
        why = in_brackets(list_reasons({**rows["malformed"], **rows["dropped"]}, places=True))
        lines.append(f"Of {rows['rows']:,} {name} {rows['kept']:,} can be used{why}.")
        lines.extend(rows["notes"])
    if "pairs" in report:
        lines.append("The ids in both files must agree, and each split needs queries of its own.")
        return " ".join(lines)
    both = facts["citations with a text at both ends"]
    queries = facts["queries"]
    hops = facts["queries left out for want of a hard negative"]["by split"]["train"]
    lines.append(
        f"{both:,} of these have a text at both ends; they make {sum(queries.values()):,} papers "
        f"queries, {queries['train']:,} of them for training (dev {queries['dev']:,}, test "
        f"{queries['test']:,})."
    )
    if both == 0:
        lines.append(
            "Give texts for more papers, and see that both files name papers by the same ids."
        )
    elif hops:
        lines.append(
            f"{hops:,} training queries have no hard negative (a paper that a cited training "
            "paper cites, and that is not cited itself): give more citations, or use "
            "--no-require-hard to train with easy negatives alone."
        )
    elif not queries["train"]:
        lines.append("Every query is held out: lower --dev-share and --test-share.")
    else:
        lines.append(
            "No paper is left that could be an easy negative: every text is within two hops of "
            "its query. Give more papers."
        )
    return " ".join(lines)
