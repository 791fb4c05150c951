import json

import sciembed_train as st
from tests.helpers.small_suite import write_suite


def test_the_files_of_a_suite_are_written_and_the_api_gives_the_table(tmp_path):
    suite, to = write_suite(tmp_path / "suite"), tmp_path / "to"
    found = st.evaluate_suite(suite, ["bm25", "random"], to, only=["review", "citations"])
    assert isinstance(found, st.SuiteResults)
    names = {path.name for path in to.iterdir() if path.is_file()}
    assert names == {"results.json", "table.csv", "table.md", "report.html"}
    assert json.loads((to / "results.json").read_text()) == json.loads(json.dumps(found.as_dict()))
    assert "reviews/one/review" in str(found)
    assert str(found).replace("&", "&amp;")[:20] in found._repr_html_()
    assert found.rows[0].cells["bm25"].value > found.rows[0].cells["random"].value
    alone = st.evaluate_suite(suite, "bm25", tmp_path / "one", only=["review"])
    assert list(alone.found.models) == ["bm25"]
