"""How many papers and contexts led to co-cited pairs, and why none did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import count_and_examples, in_brackets, list_reasons
from sciembed_train.corpus.citations.context_groups import ContextGroups
from sciembed_train.corpus.citations.usable_papers import EXCLUDED, FILTERED, REASONS
from sciembed_train.corpus.mining.cocitation_mining import CocitationMiner
from sciembed_train.corpus.papers import Papers

# What to do where the user's own settings leave cited papers out.
_REMEDIES = {
    EXCLUDED: "Exclude fewer papers (--exclude-ids).",
    FILTERED: "Set the filters on abstracts wider (min_sentences, max_sentences, "
    "longest_sentence, short_sentence).",
}


def explain_pairs(
    miner: CocitationMiner,
    counts: Mapping[str, Any],
    papers: Papers,
    why: NDArray[np.int8],
    excluded: set[str],
    groups: ContextGroups | None,
) -> dict[str, Any]:
    """Counts of the papers on the way to pairs, for ``report.json``."""
    facts: dict[str, Any] = {
        "pairs": dict(counts["cocitations"]),
        "known pairs": counts["known_cocitations"],
        "papers in no pair": {
            reason: int((why == number).sum()) for number, reason in enumerate(REASONS) if reason
        },
    }
    if miner.settings.min_count > 1:
        facts["known pairs without a place in training, dev or test"] = counts[
            "known_cocitations"
        ] - sum(counts["cocitations"].values())
    if groups is not None:
        facts["cited papers left out of contexts"] = {
            reason: dropped.as_dict() for reason, dropped in groups.removed.items()
        }
        facts["contexts by papers left"] = {str(n): k for n, k in sorted(groups.sizes.items())}
        facts["groups"] = miner.number("weights", "list > 0")
    if miner.settings.cocitations_from == "references":
        facts["papers that cite two or more"] = miner.number(
            "placed", "list < 0 AND place = 0 AND size > 1"
        )
    for kind, (lists, pairs) in miner.cut().items():
        if lists:
            facts[f"{kind} with more than {miner.settings.max_pairs:,} pairs"] = lists
            facts[f"pairs of such {kind} not taken"] = pairs
    if excluded:
        facts["excluded ids that name no paper"] = count_and_examples(excluded - papers.key.keys())
    return facts


def no_pairs_message(report: Mapping[str, Any], papers: Papers) -> str:
    """The message that there is no training pair: why, with numbers, and what to do."""
    facts = report["co-cited pairs"]
    usable, n = int(papers.usable.sum()), len(papers.ids)
    lines = [
        f"No training pair of co-cited papers can be made. Of {n:,} papers {usable:,} have a text."
    ]
    for name, unit in (("contexts", "contexts"), ("cocitation rows", "co-cited pairs")):
        if name in report:
            rows = report[name]
            why = in_brackets(list_reasons({**rows["malformed"], **rows["dropped"]}, places=True))
            lines.append(f"Of {rows['rows']:,} {unit} {rows['kept']:,} can be used{why}.")
    removed = facts.get("cited papers left out of contexts", {})
    if removed:
        lines.append(f"Cited papers left out of contexts: {list_reasons(removed)}.")
    if unresolved := facts.get("citations of full texts that name no paper", {}):
        lines.append(f"Citations of full texts that name no paper: {list_reasons(unresolved)}.")
    if "papers that cite two or more" in facts:
        lines.append(f"{facts['papers that cite two or more']:,} papers cite two or more of them.")
    return " ".join([*lines, *_what_to_do(facts, removed)])


def _what_to_do(facts: Mapping[str, Any], removed: Mapping[str, Any]) -> list[str]:
    pairs, known = facts["pairs"], facts["known pairs"]
    if sum(pairs.values()):
        return [
            f"All pairs are held out (dev {pairs['dev']:,}, test {pairs['test']:,}), for a pair "
            "trains only if both its papers do: lower --dev-share and --test-share."
        ]
    if known:
        return [
            f"{known:,} pairs are known to be co-cited, and the filters named above or min_count "
            "leave none of them: set them lower."
        ]
    return [
        *(remedy for reason, remedy in _REMEDIES.items() if reason in removed),
        "Give contexts that cite two or more papers, with texts for these, and check that the "
        "files name papers by the same ids.",
    ]
