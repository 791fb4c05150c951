import json

import pytest

from sciembed_train.commands import doctor


def states(findings, name):
    return [f.state for f in findings if f.name == name]


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
@pytest.mark.parametrize("name", ["pytorch-lightning", "lightning"])
def test_a_stolen_release_of_lightning_is_refused(name, version):
    (finding,) = doctor.safety({name: version})
    assert finding.state == "bad"
    assert "GHSA-w37p-236h-pfx3" in finding.detail


def test_other_releases_of_lightning_are_not():
    assert list(doctor.safety({"pytorch-lightning": "2.6.6", "lightning": "2.6.4"})) == []


def test_kernels_beside_an_old_transformers_must_be_mended():
    assert states(doctor.safety({"transformers": "4.57.6", "kernels": "0.9"}), "kernels") == ["bad"]


def test_an_old_transformers_alone_is_a_note_and_a_new_one_nothing():
    assert states(doctor.safety({"transformers": "5.2.3"}), "transformers") == ["note"]
    assert list(doctor.safety({"transformers": "5.3.0", "kernels": "0.9"})) == []


def test_a_missing_or_too_new_package_is_named_with_the_range():
    needs = doctor.requirements()
    have = doctor.versions() | {"torch": "2.15.0"}
    del have["jaxtyping"]
    findings = {f.name: f for f in doctor.packages(needs, have)}
    assert findings["torch"].state == "bad"
    assert "2.15.0" in findings["torch"].detail
    assert "<2.14" in findings["torch"].detail
    assert findings["jaxtyping"].detail.startswith("not installed")
    assert findings["numpy"].state == "ok"


def test_a_local_version_of_torch_is_admitted():
    needs = doctor.requirements()
    assert dict(doctor.lacking(needs, {"torch": "2.13.0+cpu"})).get("torch") is None


def test_an_extra_names_what_it_lacks_and_how_to_get_it():
    needs = doctor.requirements()
    have = {k: v for k, v in doctor.versions().items() if k != "duckdb"}
    finding = next(f for f in doctor.tasks(needs, have) if f.name == "prepare")
    assert finding.state == "no"
    assert "duckdb not installed" in finding.detail
    assert "sciembed_train[prepare]" in finding.detail


def test_every_task_stands_for_an_extra_that_exists():
    needs = doctor.requirements()
    for extra, _ in doctor.TASKS.values():
        assert doctor.of_extra(needs, extra), extra


def test_requirements_are_the_same_read_from_the_source(monkeypatch):
    def absent(name):
        raise doctor.metadata.PackageNotFoundError(name)

    installed = {r.name for r in doctor.of_extra(doctor.requirements(), "")}
    monkeypatch.setattr(doctor.metadata, "requires", absent)
    assert {r.name for r in doctor.of_extra(doctor.requirements(), "")} == installed


def test_a_file_where_the_folder_should_be_is_found(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    (finding,) = doctor.disk(tmp_path / "checkpoints")
    assert finding.state == "bad"
    (finding,) = doctor.disk(tmp_path / "new" / "folder")
    assert finding.state == "ok"


def test_the_exit_code_follows_the_findings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 0
    assert "Nothing stands in the way" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "versions", lambda: {"lightning": "2.6.3"})
    assert doctor.main(["--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is False
    assert {"about", "name", "state", "detail"} == set(answer["findings"][0])
