from html.parser import HTMLParser

from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.suite.entries import Entry, Suite
from sciembed_train.evaluation.suite.run_suite import SuiteScores
from sciembed_train.evaluation.suite.suite_page import suite_page
from sciembed_train.evaluation.suite.suite_table import suite_rows


class Tags(HTMLParser):
    """Sees that every tag is closed, and keeps the names."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "line", "circle", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in ("rect", "circle", "line"):
            assert self.open.pop() == tag


def found(tmp_path):
    queries = {f"q{at}": {"map": at / 10} for at in range(10)}
    better = {q: {"map": row["map"] + (0.05 if q != "q3" else -0.2)} for q, row in queries.items()}
    texts = {f"q{at}": f"<b>Title {at}</b> " + "long " * 60 for at in range(10)}
    table = {
        ("mine", model): Scores(
            "citations", model, {"citations/map": 0.5}, rows, {}, query_texts=texts
        )
        for model, rows in (("start", queries), ("tuned<script>", better))
    }
    suite = Suite([Entry("mine", "citations", tmp_path)])
    return SuiteScores(suite, ["start", "tuned<script>"], table, {})


def test_the_page_has_bars_intervals_points_and_queries(tmp_path):
    scores = found(tmp_path)
    text = suite_page(scores, suite_rows(scores))
    tags = Tags(text)
    assert tags.open == []
    kinds = [(tag, attrs.get("class")) for tag, attrs in tags.seen]
    assert kinds.count(("rect", "bar")) == 2
    assert kinds.count(("line", "whisker")) == 6
    assert sum(tag == "circle" for tag, _ in kinds) == 10
    assert "9 of 10 queries score higher with tuned&lt;script&gt;, 1 lower, 0 the same." in text
    assert "0.300 to 0.100: &lt;b&gt;Title 3&lt;/b&gt;" in text
    assert "<script" not in text
    assert "Gained most" in text
    assert "long ..." in text


def test_one_model_has_no_comparison(tmp_path):
    scores = found(tmp_path)
    pair = ("mine", "start")
    alone = SuiteScores(scores.suite, ["start"], {pair: scores.scores[pair]}, {})
    text = suite_page(alone, suite_rows(alone))
    assert "<circle" not in text
    assert "Gained most" not in text
    assert text.count('class="bar"') == 1
