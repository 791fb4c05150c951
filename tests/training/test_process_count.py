"""A run that is continued on another number of processes is the run that never changed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sciembed_train.commands import fit
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.plan import Plan
from sciembed_train.training.process_count import process_count_line
from tests.helpers import elastic_runs
from tests.helpers.elastic_runs import FAMILIES, NEEDS


def is_there(library):
    try:
        __import__(library)
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def continued(tiny_bert, tmp_path_factory):
    """The checkpoints of a family's runs, made together with those of others."""
    folder = tmp_path_factory.mktemp("elastic")
    done = {}

    def of(name):
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        if name not in done:
            there = [n for n in FAMILIES if is_there(NEEDS.get(n, "torch"))]
            same_data = [n for n in there if FAMILIES[n].data == FAMILIES[name].data]
            done.update(elastic_runs.continued(same_data, folder, tiny_bert))
        return done[name]

    return of


def difference(one, other, part):
    assert one[part].keys() == other[part].keys()
    parts = [(value.double(), other[part][key].double()) for key, value in one[part].items()]
    return max(float((ours - theirs).abs().max()) for ours, theirs in parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_continued_on_another_number_of_processes_makes_the_same_steps(continued, name):
    runs = continued(name)
    for other in (runs.up, runs.down):
        assert other["global_step"] == runs.whole["global_step"] == elastic_runs.STEPS
        assert difference(other, runs.whole, "state_dict") < 1e-10
        best, unchanged = (run["callbacks"]["RunCheckpoints"] for run in (other, runs.whole))
        assert best["best_step"] == unchanged["best_step"]
        assert best["best"] == pytest.approx(unchanged["best"], rel=1e-5)
        if "trained_weights" in runs.whole:  # beside their average
            assert difference(other, runs.whole, "trained_weights") < 1e-10
    assert difference(runs.half, runs.whole, "state_dict") > 1e-5, "the second half trains nothing"
    assert runs.up["sciembed"]["training"]["processes"] == 2
    assert runs.down["sciembed"]["training"]["processes"] == 1
    assert "continued on 2 processes, where the checkpoint's run had 1: " in runs.said_up
    assert "continued on 1 process, where the checkpoint's run had 2: " in runs.said_down


def line(then, now, depends=None):
    content = {"global_step": 3, "sciembed": {"training": {"processes": then}}}
    data = SimpleNamespace(
        settings=DataSettings(batch_size=12), plan=lambda ranks: Plan(100, 12, 0, ranks)
    )
    method = SimpleNamespace(depends_on_processes=depends)
    return process_count_line(Path("last.ckpt"), content, method, data, now)


def test_a_change_of_the_number_of_processes_is_said():
    assert line(2, 2) is None
    assert line(None, 2) is None  # a checkpoint that does not say
    assert line(1, 4) == (
        "continued on 4 processes, where the checkpoint's run had 1: the steps are the same but "
        "for rounding, and for dropout, which every process draws for itself."
    )


def test_a_quiet_run_does_not_say_it(toy, tmp_path, capsys):
    few = ["--run", "elastic", "--trainer.limit_val_batches", "0", "--trainer.max_steps"]
    assert fit.main(toy.arguments(*few, "1")) == 0
    content = torch.load(toy.root / "elastic" / "last.ckpt", weights_only=True)
    content["sciembed"]["training"]["processes"] = 2
    torch.save(content, tmp_path / "of_two.ckpt")
    go_on = toy.arguments(*few, "2", "--ckpt_path", str(tmp_path / "of_two.ckpt"))
    capsys.readouterr()
    assert fit.main(go_on) == 0
    assert "continued on" not in capsys.readouterr().err
    go_on.remove("--quiet")
    assert fit.main(go_on) == 0
    assert capsys.readouterr().err.count("continued on 1 process, where the") == 1


def test_a_method_whose_steps_depend_on_the_number_keeps_it():
    assert line(2, 2, "it depends") is None
    expected = r"last.ckpt: is of a run on 1 process, and this is one on 2 processes; it depends\."
    with pytest.raises(UserError, match=f"{expected} Continue it on 1 process, or start anew"):
        line(1, 2, "it depends")


@pytest.mark.parametrize(
    ("name", "more", "now", "said"),
    [
        ("co-citations", ["--model.negatives", "local"], 2, "with those of its process alone"),
        ("spans", ["--model.reproduce", "true"], 2, "divides the contrastive gradient by the"),
        # Two of each task at least on one process, and three on three.
        ("codes", ["--data.batch_size", "18"], 3, r"with the same steps: 1, 2\. Continue it on"),
    ],
)
def test_what_cannot_go_on_with_another_number_is_refused_before_a_step(
    name, more, now, said, tiny_bert, tmp_path
):
    given = [*elastic_runs.words(name, tmp_path, tiny_bert), *more]
    elastic_runs.run(given, name, stop=2)
    more = ["--ckpt_path", "last", "--trainer.devices", str(now)]
    with pytest.raises(UserError, match=said):
        elastic_runs.run(given, name, more=more)
