"""The shipped SPECTER rankings against the numbers that their source's scorer gives."""

import json

import pytest

from sciembed_train.evaluation import command

# Two-fold test means, computed apart from this project.
GOLDEN = {
    "map_grade2": (0.4395, 0.2244),
    "ndcg_pct20_jk": (0.6670, 0.3741),
    "ndcg_jk": (0.8224, 0.6277),
    "ndcg20_jk": (0.6624, 0.3765),
    "precision20_grade2": (0.3531, 0.1358),
    "recall20_grade2": (0.5745, 0.4081),
    "precision_last_relevant_grade2": (0.2481, 0.1172),
    "r_precision_grade2": (0.3987, 0.1744),
    "ndcg_pct20_log2": (0.6722, 0.3780),
    "ndcg_pct20_log2_exp": (0.5908, 0.3486),
}
THEIR_NAMES = {
    "precision": "precision20_grade2",
    "recall": "recall20_grade2",
    "f1": "f1_20_grade2",
    "r_precision": "precision_last_relevant_grade2",
    "av_precision": "map_grade2",
    "mean_av_precision": "map_grade2",
    "reciprocal_rank": "mrr_grade2",
    "mean_reciprocal_rank": "mrr_grade2",
    "ndcg": "ndcg_jk",
    "ndcg@20": "ndcg20_jk",
    "ndcg%20": "ndcg_pct20_jk",
}


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "csfcube"


def scores(folder, ranking, tmp_path, *more):
    target = tmp_path / "results.json"
    arguments = ["--ranking", str(ranking), "--benchmark", "csfcube", "--data", str(folder)]
    assert command.main([*arguments, "--to", str(target), "--quiet", *more]) == 0
    return json.loads(target.read_text())


def test_golden_numbers(folder, tmp_path):
    found = scores(folder, folder / "specter_ranked", tmp_path)["metrics"]
    for name, values in GOLDEN.items():
        for facet, value in zip(("background", "method"), values, strict=True):
            assert found[f"{facet}/{name}"] == pytest.approx(value, abs=1e-4), (facet, name)


def test_everything_the_sources_scorer_says(folder, tmp_path):
    results = scores(folder, folder / "specter_ranked", tmp_path)
    theirs = json.loads((folder / "specter_metrics.json").read_text())
    compared = 0
    for facet in ("background", "method"):
        for half, suffix in (("test", ""), ("dev", "_dev")):
            for name, value in theirs[facet][half].items():
                ours = results["metrics"][f"{facet}{suffix}/{THEIR_NAMES[name]}"]
                assert ours == pytest.approx(value, abs=1e-6), (facet, half, name)
                compared += 1
    for query, row in theirs["per_query"].items():
        paper, facet = query.rsplit("_", 1)
        for name, value in row.items():
            ours = results["per_query"][f"{facet}/{paper}"][THEIR_NAMES[name]]
            assert ours == pytest.approx(value, abs=1e-6), (query, name)
            compared += 1
    assert compared > 300


def test_one_file_is_scored_by_the_facet_in_its_name(folder, tmp_path):
    whole = scores(folder, folder / "specter_ranked", tmp_path)["metrics"]
    for facet in ("background", "method"):
        file = next((folder / "specter_ranked").glob(f"*{facet}*"))
        one = scores(folder, file, tmp_path)["metrics"]
        assert one == {k: v for k, v in whole.items() if k.split("/")[0] in (facet, f"{facet}_dev")}


def test_a_real_encoder_ranks_above_chance(folder, minilm):
    """Two queries and short texts: all 3,368 whole ones take minutes on two cores."""
    from sciembed_train.evaluation.benchmarks import csfcube
    from sciembed_train.evaluation.options import EmbedSettings
    from sciembed_train.evaluation.papers import PaperFile
    from sciembed_train.evaluation.systems import Model

    data = csfcube.CsfCube.open(folder, "background")
    few = data.splits["background"]["fold1_dev"][:2]
    halves = ("fold1_dev", "fold1_test", "fold2_dev", "fold2_test")
    data.splits["background"] = dict.fromkeys(halves, few)
    pools = data.facets["background"].pools
    kept = {entry.removesuffix("_background") for entry in few}
    data.facets["background"].pools = {q: pools[q] for q in kept}
    papers = PaperFile(csfcube.paper_file(folder))
    system = Model(str(minilm), EmbedSettings(max_length=64), quiet=True)
    found = csfcube.evaluate(data, system, papers)
    shares = [sum(g >= 2 for g in pools[q].values()) / len(pools[q]) for q in kept]
    chance = sum(shares) / len(shares)  # mean precision of a random order
    assert found.metrics["background/map_grade2"] > 1.5 * chance
