import pytest

from tests.helpers.small_scirepeval import documents, judged, labelled, write_tasks


@pytest.fixture
def folder(tmp_path):
    """A task of each type; the searches' queries have the ids of papers."""
    searches = [
        {"doc_id": f"p{q}", "query": f"Words {q}", "candidates": documents([f"p{q}", f"p{q + 8}"])}
        for q in range(4)
    ]
    write_tasks(
        tmp_path,
        labelled(
            tmp_path,
            "classes",
            lambda i: i // 8 % 2,
            metrics=["f1", "f1_macro"],
            few_shot=[{"sample_size": 4, "iterations": 50}],
        ),
        labelled(
            tmp_path,
            "labels",
            lambda i: [int(i % 2 == 0), int(i < 9)],
            multi_label=True,
            metrics=["f1_macro"],
        ),
        labelled(
            tmp_path,
            "numbers",
            lambda i: (i * 7 % 24) / 2,
            kind="regression",
            metrics=["kendalltau", "mse"],
        ),
        judged(
            tmp_path,
            "near",
            {"p3": {"p4": 1, "p9": 0}, "p8": {"p1": 1, "p7": 0}},
            documents(),
            metrics=["map", "ndcg"],
        ),
        judged(
            tmp_path,
            "search",
            {f"p{q}": {f"p{q}": 1, f"p{q + 8}": 0} for q in range(4)},
            searches,
            kind="adhoc_search",
            metrics=["ndcg"],
        ),
    )
    return tmp_path
