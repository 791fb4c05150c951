from pathlib import Path

from sciembed_train.diagnostics.checks import examine, exchanges

RECIPE = str(Path(__file__).parents[2] / "configs" / "specter.yaml")


def test_every_section_of_the_machine_is_examined(tmp_path):
    sections = {finding.about for finding in examine(tmp_path)}
    assert {"machine", "package", "run", "disk"} <= sections


def test_nothing_is_exchanged_on_one_gpu():
    assert list(exchanges([RECIPE], 1)) == []
