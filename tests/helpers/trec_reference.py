"""trec_eval's measures in plain loops, of scores where higher is better."""

import math


def trec_measures(scores, grades, cut=5):
    """MAP, nDCG and recall of one query; ``scores`` lacks what was not ranked.

    Equal scores are ordered by id, from the last to the first.
    """
    ranked = sorted(scores, reverse=True)  # the ids, so that a stable sort leaves them so
    ranked.sort(key=lambda paper: -scores[paper])
    relevant = sum(grade >= 1 for grade in grades.values())
    found, precisions, gain, early = 0, 0.0, 0.0, 0
    for rank, paper in enumerate(ranked, start=1):
        if grades[paper] >= 1:
            found += 1
            precisions += found / rank
            gain += grades[paper] / math.log2(rank + 1)
            early += rank <= cut
    best = sum(
        grade / math.log2(rank + 1)
        for rank, grade in enumerate(sorted(grades.values(), reverse=True), start=1)
    )
    return {
        "map": precisions / relevant if relevant else 0.0,
        "ndcg": gain / best if best else 0.0,
        f"recall_{cut}": early / relevant if relevant else 0.0,
    }
