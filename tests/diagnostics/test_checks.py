from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.diagnostics.checks import examine, exchanges


def test_every_section_of_the_machine_is_examined(tmp_path):
    sections = {finding.about for finding in examine(tmp_path)}
    assert {"machine", "package", "run", "disk"} <= sections


def test_what_gpus_exchange_of_a_recipe_is_summed(tiny_bert):
    words = ["-c", "specter", "--model.encoder.backbone", str(tiny_bert)]
    findings = list(exchanges(RecipeCommandLine("doctor", "").read(words), 2))
    assert findings[-1].name == "together"
    assert {finding.about for finding in findings} == {"exchange"}
