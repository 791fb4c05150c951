"""The page of a run: what it says, what it draws, and that it needs nothing but itself."""

import json
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from pytorch_lightning.utilities import rank_zero_only

from sciembed_train.commands import fit
from sciembed_train.training.report import Report, page, read_metrics
from tests.helpers.runs import STEPS, losses, validations
from tests.helpers.small_corpus import write_small_corpus

NAN, INF = math.nan, math.inf


class Parts(HTMLParser):
    """Elements, their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("margin: 1.0  # a < b & c\n")
    (folder / "metrics.csv").write_text(
        "step,train/loss,train/lr,train/grad_norm,train/tokens_per_second,train/negatives,val/map\n"
        "1,0.9,0.001,2.0,1200.0,31.0,\n"
        "2,0.8,0.002,1.5,1300.0,31.0,\n"
        "2,,,,,,0.25\n"
        "3,0.7,0.001,1.0,1400.0,31.0,\n"
        "4,,,,,,0.5\n"
        "5,,,,,,0.5\n"
    )
    return folder


@pytest.fixture(scope="module")
def corpus(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "corpus"
    write_small_corpus(folder, tiny_bert)
    dropped = {"a paper <img src=x> citing itself": {"count": 1234, "examples": ["c.csv:7"]}}
    part = {"rows": 5000, "kept": 3766, "malformed": {}, "dropped": dropped, "notes": ["a note"]}
    (folder / "report.json").write_text(json.dumps({"citations": part}))
    return folder


def text_of(run, corpus, name="run", monitor="val/map"):
    lines = [name, "Specter from tiny", "Step 3 of 9, training."]
    return page(run, corpus, monitor, lines, {"training_triplets": 1000, "recipe": "a"})


def figure_of(text, name):
    """The SVG of one number on a page."""
    found = re.findall(rf'<svg [^>]*aria-label="{re.escape(name)} by step">.*?</svg>', text, re.S)
    assert len(found) == 1, name
    return found[0]


def places(path):
    """Pixels of a path's corners."""
    corners = re.search(r' d="M([^"]+)"', path)
    return [tuple(map(float, part.split())) for part in corners[1].split("L")]


def test_the_page_tells_the_run_its_data_its_settings_and_versions(run, corpus):
    told = Parts(text_of(run, corpus)).text
    for expected in (
        *("Specter from tiny", "Step 3 of 9, training.", "Loss and its parts", "Throughput"),
        *("training triplets1,000", "papers60", "triplets", "train 100, dev 10, test 10"),
        *("3,766 of 5,000 rows used", "1,234: a paper <img src=x> citing itself", "a note"),
        *("margin: 1.0  # a < b & c", "torch"),
        *("tokens/s 1,400", "effective negatives 31", "learning rate 0.001", "gradient norm 1"),
        "Dashed: step 4, where val/map is best, 0.5000",
    ):
        assert expected in told
    assert "peak memory" not in told  # it was not logged


def test_the_page_loads_nothing_and_no_name_becomes_a_tag(run, corpus):
    text = text_of(run, corpus, name='<script>alert("1")</script>')
    with (run / "metrics.csv").open() as file:
        rows = file.read().replace("val/map", 'val/<img src="http://x/y.png">')
    (run / "metrics.csv").write_text(rows)
    for found in (text, text_of(run, corpus, name="</title><link href=//x>")):
        parts = Parts(found)
        loading = {"script", "img", "image", "link", "iframe", "object", "embed", "video", "use"}
        assert not loading & set(parts.tags)
        assert not {"src", "href", "xlink:href", "srcset", "data"} & {
            n for n, _ in parts.attributes
        }
        assert not any(name.startswith("on") for name, _ in parts.attributes)
        style = found[found.index("<style>") : found.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        assert ("content", policy) in parts.attributes
    assert '<script>alert("1")</script>' in Parts(text).text


def test_a_curve_is_drawn_where_its_values_are(run, corpus):
    drawn = figure_of(text_of(run, corpus), "loss")
    (path,) = re.findall("<path[^>]*>", drawn)
    (x1, y1), (x2, y2), (x3, y3) = places(path)
    # Steps 1 to 5 from 52 to 348 pixels; 0.9 at the top, 8, and 0.7 at the bottom, 166.
    assert (x1, x2, x3) == pytest.approx((52, 126, 200), abs=0.06)
    assert (y1, y2, y3) == pytest.approx((8, 87, 166), abs=0.06)


def test_the_best_step_is_marked_on_every_held_out_curve(run, corpus):
    drawn = figure_of(text_of(run, corpus), "map")
    assert len(re.findall('<line class="best" x1="274.0"', drawn)) == 1  # step 4 of 1 to 5
    sizes = dict(re.findall(r'r="([\d.]+)"><title>step (\d)', drawn))
    assert sizes == {"2.5": "5", "4.5": "4"}  # of 2, 4 and 5 the best alone is large
    assert 'class="best"' not in figure_of(text_of(run, corpus), "learning rate")


@pytest.mark.parametrize(
    ("monitor", "values", "step"),
    [
        ("val/map", [0.1, 0.3, 0.3, 0.2], 2),
        ("val/loss", [0.5, NAN, 0.2, 0.4], 3),
        ("val/map", [NAN, NAN], None),
        # Nearer than the 32 bits in which checkpoints are compared.
        ("val/map", [0.3, 0.3 + 1e-12], 1),
        ("val/map", [], None),
    ],
)
def test_the_best_step_is_the_one_that_was_kept(tmp_path, monitor, values, step):
    lines = [f"step,{monitor}", *(f"{i},{value!r}" for i, value in enumerate(values, 1))]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, ""]))
    best = read_metrics(tmp_path / "metrics.csv").best(monitor)
    assert (best and best[0]) == step


def test_a_broken_row_is_left_out_and_told(run, corpus):
    with (run / "metrics.csv").open("a") as file:
        file.write("6,0.6,0.001\n7,0.5,what,1,1,1,\nx,1,1,1,1,1,\n8,1,1,1,1,1,,9\n9,0.4,1,1,1,1,\n")
    found = read_metrics(run / "metrics.csv")
    assert found.odd == 4
    assert [step for step, _ in found.columns["train/loss"]] == [1, 2, 3, 9]
    assert "metrics.csv that cannot be read and are left out: 4." in text_of(run, corpus)


def test_a_run_without_a_row_or_a_corpus_has_a_page(tmp_path):
    told = Parts(text_of(tmp_path, tmp_path / "gone")).text
    assert "gone is no corpus" in told
    assert "There is no" in told
    assert "Step 3 of 9" in told


NOISE = [1 + (i * 37 % 100) / 1000 for i in range(200)]  # 1.000 to 1.099


def test_a_finished_run_has_its_page_with_every_step(whole):
    text = (whole / "report.html").read_text()
    told = Parts(text).text
    assert f"Step {STEPS} of {STEPS}, finished." in told
    assert "Specter from " in told
    assert "share of time spent waiting for data" in told
    drawn = figure_of(text, "loss")
    (trained,) = re.findall('<path class="train"[^>]*>', drawn)
    found, values = places(trained), [float(value) for _, value in sorted(losses(whole).items())]
    assert len(found) == len(values)
    lowest = max(range(STEPS), key=lambda i: found[i][1])
    assert values[lowest] == min(values)  # pixels count downwards
    held_out = re.findall(r'<circle class="val"[^>]*><title>step (\d+)', drawn)
    assert list(map(int, held_out)) == sorted(validations(whole))
    assert list(whole.glob("*.partial")) == []


@pytest.mark.slow
def test_the_page_of_a_continued_run_has_the_whole_curve(toy, whole):
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "17"]
    assert fit.main(toy.arguments("--run", "paged", *stop)) == 143
    path = toy.root / "paged" / "report.html"
    assert f"Step 17 of {STEPS}, interrupted by SIGTERM." in path.read_text()
    assert fit.main(toy.arguments("--run", "paged", "--ckpt_path", "last")) == 0
    text = path.read_text()
    assert f"Step {STEPS} of {STEPS}, finished." in text
    other = (whole / "report.html").read_text()
    for name in ("loss", "map", "learning rate", "gradient norm"):
        assert figure_of(text, name) == figure_of(other, name)


def test_a_page_that_cannot_be_written_is_told_and_loses_nothing(toy, capsys):
    run = toy.root / "unwritten"
    (run / "report.html.partial").mkdir(parents=True)
    assert fit.main(toy.arguments("--run", run.name, "--trainer.max_steps", "2")) == 0
    assert "report.html was not written: IsADirectoryError" in capsys.readouterr().err
    assert (run / "last.ckpt").is_file()
    assert not (run / "report.html").exists()


def test_only_the_first_rank_writes_and_only_a_run_that_began(run, corpus, monkeypatch):
    method = SimpleNamespace()
    trainer = SimpleNamespace(global_step=3, max_steps=9)
    report = Report(run, corpus, "val/map", 1, {"base_model": "tiny"})
    report.on_exception(trainer, method, RuntimeError("before the first step"))
    assert not (run / "report.html").exists()
    report.on_train_start(trainer, method)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    report.on_train_batch_end(trainer, method, None, None, 0)
    assert not (run / "report.html").exists()
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    report.on_train_batch_end(trainer, method, None, None, 0)
    assert "from tiny" in (run / "report.html").read_text()
    assert "Step 3 of 9, training." in (run / "report.html").read_text()
    report.on_exception(trainer, method, RuntimeError("no <b>luck</b>"))
    said = Parts((run / "report.html").read_text()).text
    assert "Step 3 of 9, stopped by RuntimeError: no <b>luck</b>." in said
    report.on_train_end(trainer, method)  # early stopping, or trainer.max_time
    assert "Step 3 of 9, ended before its last step." in (run / "report.html").read_text()
