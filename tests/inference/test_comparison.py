import pytest

from sciembed_train.corpus.validation import Paper
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.inference.comparison import as_dict, as_lines, compare_papers, find_papers

PAPERS = [
    Paper(paper_id="a", title="word1", abstract=["word2 word3.", "word4."]),
    Paper(paper_id="b", title="word5", abstract=["word6."]),
    Paper(paper_id="c", title="word7", abstract=[" "]),
]


def test_papers_are_found_in_the_order_of_the_ids():
    assert [p.paper_id for p in find_papers(iter(PAPERS), "f", ["b", "a"])] == ["b", "a"]
    with pytest.raises(UserError, match=r"f: holds no paper with the id x.*3 papers, such as a"):
        find_papers(iter(PAPERS), "f", ["x", "a"])
    with pytest.raises(UserError, match="It holds no paper at all"):
        find_papers(iter([]), "f", ["x", "a"])
    with pytest.raises(UserError, match="paper c has no abstract"):
        find_papers(iter(PAPERS), "f", ["a", "c"])


def test_a_comparison_has_a_plan_only_with_a_temperature(tiny_bert, tmp_path):
    Encoder(EncoderSettings(str(tiny_bert), "sentences", 30)).save(
        tmp_path / "m", {"similarity": "best_match"}
    )
    comparison = compare_papers(PAPERS[:2], tmp_path / "m")
    assert comparison.plan is None
    assert as_dict(comparison)["transport"] is None
    assert any("No optimal transport" in line for line in as_lines(comparison, 3))
    with pytest.raises(UserError, match="--temperature"):
        compare_papers(PAPERS[:2], tmp_path / "m", needs_plan=True)
    comparison = compare_papers(PAPERS[:2], tmp_path / "m", temperature=1.0)
    values = as_dict(comparison)
    assert values["papers"][0]["sentences"] == ["word2 word3.", "word4."]
    total = sum(map(sum, values["transport"]["plan"]))
    assert total == pytest.approx(1.0, abs=1e-3)
