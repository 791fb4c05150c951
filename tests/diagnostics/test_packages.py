import pytest

from sciembed_train.diagnostics import packages


def states(findings, name):
    return [f.state for f in findings if f.name == name]


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
@pytest.mark.parametrize("name", ["pytorch-lightning", "lightning"])
def test_a_stolen_release_of_lightning_is_refused(name, version):
    (finding,) = packages.safety({name: version})
    assert finding.state == "bad"
    assert "GHSA-w37p-236h-pfx3" in finding.detail


def test_other_releases_of_lightning_are_not():
    assert list(packages.safety({"pytorch-lightning": "2.6.6", "lightning": "2.6.4"})) == []


def test_kernels_beside_an_old_transformers_must_be_mended():
    assert states(packages.safety({"transformers": "4.57.6", "kernels": "0.9"}), "kernels") == [
        "bad"
    ]


def test_an_old_transformers_alone_is_a_note_and_a_new_one_nothing():
    assert states(packages.safety({"transformers": "5.2.3"}), "transformers") == ["note"]
    assert list(packages.safety({"transformers": "5.3.0", "kernels": "0.9"})) == []


def test_a_missing_or_too_new_package_is_named_with_the_range():
    needs = packages.requirements()
    have = packages.versions() | {"torch": "2.15.0"}
    del have["jaxtyping"]
    findings = {f.name: f for f in packages.packages(needs, have)}
    assert findings["torch"].state == "bad"
    assert "2.15.0" in findings["torch"].detail
    assert "<2.14" in findings["torch"].detail
    assert findings["jaxtyping"].detail.startswith("not installed")
    assert findings["numpy"].state == "ok"


def test_a_local_version_of_torch_is_admitted():
    needs = packages.requirements()
    assert dict(packages.lacking(needs, {"torch": "2.13.0+cpu"})).get("torch") is None


def test_an_extra_names_what_it_lacks_and_how_to_get_it():
    needs = packages.requirements()
    have = {k: v for k, v in packages.versions().items() if k != "duckdb"}
    finding = next(f for f in packages.tasks(needs, have) if f.name == "prepare")
    assert finding.state == "no"
    assert "duckdb not installed" in finding.detail
    assert "sciembed_train[prepare]" in finding.detail


def test_every_task_stands_for_an_extra_that_exists():
    needs = packages.requirements()
    for extra, _ in packages.TASKS.values():
        assert packages.of_extra(needs, extra), extra


def test_requirements_are_the_same_read_from_the_source(monkeypatch):
    def absent(name):
        raise packages.metadata.PackageNotFoundError(name)

    installed = {r.name for r in packages.of_extra(packages.requirements(), "")}
    monkeypatch.setattr(packages.metadata, "requires", absent)
    assert {r.name for r in packages.of_extra(packages.requirements(), "")} == installed
