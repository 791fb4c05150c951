from sciembed_train.evaluation.benchmarks.result import Result, counted, described, mean
from sciembed_train.evaluation.systems import RandomOrder


def test_the_mean_of_queries_is_that_of_each_metric():
    assert mean([{"map": 0.5, "mrr": 1.0}, {"map": 0.25, "mrr": 0.0}]) == {"map": 0.375, "mrr": 0.5}
    assert mean([]) == {}


def test_notes_are_those_whose_count_is_not_0():
    notes = {"Left out": 3, "{} queries of {{}}": 2, "Twice": 0}
    assert counted(notes) == ["Left out: 3.", "2 queries of {}"]


def test_a_system_adds_its_settings_and_notes_and_the_results_own_stand_above():
    class Ranked(RandomOrder):
        def describe(self):
            return {"similarity": "bm25", "queries": 0}

    system = Ranked(name="bm25", notes=["of the system"])
    name, result = described(system, Result({"map": 0.5}, settings={"queries": 2}, notes=["own"]))
    assert name == "bm25"
    assert result.settings == {"similarity": "bm25", "queries": 2}
    assert result.notes == ["own", "of the system"]
