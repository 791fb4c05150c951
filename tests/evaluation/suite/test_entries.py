import pytest

from sciembed_train.errors import UserError
from sciembed_train.evaluation.suite.entries import open_suite, recognised
from tests.helpers.benchmark_folders import write_csfcube
from tests.helpers.small_corpus import write_small_corpus
from tests.helpers.small_suite import write_suite


def test_folders_are_recognised_by_their_files(tmp_path):
    suite = open_suite(write_suite(tmp_path))
    assert [(entry.name, entry.benchmark) for entry in suite.entries] == [
        ("mine/citations", "citations"),
        ("plain/title_abstract", "title_abstract"),
        ("plain/abstract_halves", "abstract_halves"),
        ("reviews/one/review", "review"),
        ("topics/labels", "labels"),
    ]
    assert suite.unknown == ["other"]
    assert {"csfcube", "scirepeval", "relish"} < set(suite.missing)
    assert "review" not in suite.missing


def test_a_folder_that_is_a_benchmark_itself(tmp_path):
    folder = write_csfcube(tmp_path / "CSFCube")
    (entry,) = open_suite(folder).entries
    assert (entry.name, entry.benchmark, entry.data) == ("CSFCube", "csfcube", folder)
    assert recognised(tmp_path) == []


def test_entries_are_chosen_by_name_or_benchmark(tmp_path):
    suite = open_suite(write_suite(tmp_path))
    assert [e.name for e in suite.only(["review", "mine/citations"]).entries] == [
        "mine/citations",
        "reviews/one/review",
    ]
    assert suite.only([]) is suite
    with pytest.raises(UserError, match=r"--only csfcube: there is none in the suite; it has mine"):
        suite.only(["review", "csfcube"])


def test_a_yaml_file_lists_benchmarks_with_options(tmp_path):
    write_suite(tmp_path)
    path = tmp_path / "suite.yaml"
    path.write_text(
        "benchmarks:\n"
        "  - {benchmark: labels, data: topics, sample: 20, name: Topics}\n"
        "  - {benchmark: review, data: reviews/one}\n"
    )
    first, second = open_suite(path).entries
    assert (first.name, dict(first.options)) == ("Topics", {"sample": 20})
    assert first.data == (tmp_path / "topics").resolve()
    assert second.name == "one/review"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benchmarks: {", "is no YAML that can be read"),
        ("tasks: []", "expected a list `benchmarks`"),
        ("benchmarks: []", "expected a list `benchmarks`"),
        ("benchmarks: [{benchmark: labels}]", "benchmark 1: expected `benchmark` and `data`"),
        (
            "benchmarks: [{benchmark: nope, data: x}]",
            "--benchmark nope: there is none",
        ),
        ("benchmarks: [{benchmark: labels, data: x, qeries: 3}]", "there is no option qeries"),
        ("benchmarks: [{benchmark: labels, data: x, model: m}]", "there is no option model"),
        ("benchmarks: [{benchmark: csfcube, data: x, sample: 3}]", "--sample goes with"),
        (
            "benchmarks: [{benchmark: labels, data: x}, {benchmark: labels, data: x}]",
            "two benchmarks are called x/labels",
        ),
    ],
)
def test_a_malformed_list_is_refused(tmp_path, text, message):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        open_suite(path)


def test_places_that_are_no_suite_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such folder or YAML file"):
        open_suite(tmp_path / "none")
    with pytest.raises(UserError, match="no benchmark is recognised by its files"):
        open_suite(tmp_path)


def test_a_corpus_without_citations_is_recognised_as_none(tmp_path, tiny_bert):
    corpus = write_small_corpus(tmp_path / "mine", tiny_bert)
    assert recognised(corpus.folder) == ["citations"]
    for name in ("train", "dev", "test"):
        (corpus.folder / "queries" / f"{name}.npy").unlink()
    assert recognised(corpus.folder) == []


def test_mdcr_is_recognised_by_its_test_judgements(tmp_path):
    (tmp_path / "mdcr_val.json").write_text("{}")
    assert recognised(tmp_path) == []
    (tmp_path / "mdcr_test.json").write_text("{}")
    assert recognised(tmp_path) == ["mdcr"]
