"""The shipped SPECTER rankings against the numbers that their source's scorer gives."""

import json

import pytest

from sciembed_train.commands import evaluate

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
    assert evaluate.main([*arguments, "--to", str(target), "--quiet", *more]) == 0
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


@pytest.fixture(scope="module")
def few(folder):
    """The background facet with four of its queries: all 3,368 papers take minutes on two cores.

    The third one's pool has a paper whose sentences have no labels.
    """
    from sciembed_train.evaluation.benchmarks import csfcube

    data = csfcube.CsfCube.open(folder, "background")
    dev = data.splits["background"]["fold1_dev"]
    few = [dev[i] for i in (0, 1, 3, 4)]
    halves = ("fold1_dev", "fold1_test", "fold2_dev", "fold2_test")
    data.splits["background"] = dict.fromkeys(halves, few)
    pools = data.facets["background"].pools
    kept = {entry.removesuffix("_background") for entry in few}
    data.facets["background"].pools = {q: pools[q] for q in kept}
    return data


SCORERS = ["document", pytest.param("sentences", marks=pytest.mark.slow), "best_match", "transport"]


@pytest.mark.slow
@pytest.mark.parametrize("scorer", SCORERS)
def test_a_real_encoder_ranks_above_chance(few, folder, minilm, scorer):
    from sciembed_train.evaluation.benchmarks import csfcube
    from sciembed_train.evaluation.sentence_model import SentenceModel
    from sciembed_train.evaluation.systems import Model
    from sciembed_train.inference.options import EmbedSettings, ScoreSettings
    from sciembed_train.inference.paper_file import PaperFile

    papers, settings = PaperFile(csfcube.paper_file(folder)), EmbedSettings(max_length=64)
    system, labels = Model(str(minilm), settings, quiet=True), None
    if scorer != "document":
        asked = ScoreSettings(scorer, temperature=5000.0 if scorer == "transport" else None)
        system = SentenceModel(str(minilm), settings, True, asked)
        labels = csfcube.read_labels(papers, few)
        assert all("background_label" in row for row in labels.values())
    found = csfcube.evaluate(few, system, papers, labels)
    assert found.settings.get("queries_without_a_sentence_of_the_facet", 0) == 0
    pools = few.facets["background"].pools.values()
    shares = [sum(g >= 2 for g in pool.values()) / len(pool) for pool in pools]
    chance = sum(shares) / len(shares)  # mean precision of a random order
    assert found.metrics["background/map_grade2"] > 1.5 * chance


def test_every_query_has_a_sentence_labelled_with_its_facet(folder):
    from sciembed_train.evaluation.benchmarks import csfcube
    from sciembed_train.inference.paper_file import PaperFile

    data = csfcube.CsfCube.open(folder)
    labels = csfcube.read_labels(PaperFile(csfcube.paper_file(folder)), data)
    asking = {
        facet: [csfcube.asking_sentences(facet, labels[query]) for query in one.pools]
        for facet, one in data.facets.items()
    }
    assert {facet: len(rows) for facet, rows in asking.items()} == {"background": 16, "method": 17}
    assert all(rows.count(None) == 0 for rows in asking.values())
