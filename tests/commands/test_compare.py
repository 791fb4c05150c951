"""The command compare."""

import json

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.inference.matching import Matcher

TRANSPORT = {"temperature": 50.0, "blur": 0.2, "scaling": 0.8}
ROWS = [
    {"paper_id": "p1", "title": "word1", "abstract": ["word2 word3.", "word4 a b.", "word5."]},
    {"paper_id": 7, "title": "word6", "abstract": ["word7.", "word8 word9 c d."]},
    {"paper_id": "bare", "title": "word10", "abstract": None},
    {"paper_id": "blank", "title": "word11", "abstract": [" ", ""]},
]


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    """A folder with papers, and models of each kind."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, pooling, record in (
        ("ot", "sentences", {"similarity": "transport", "transport": TRANSPORT}),
        ("ts", "sentences", {"similarity": "best_match"}),
        ("lone", "cls", {"texts": "sentences"}),
    ):
        encoder = Encoder(EncoderSettings(str(tiny_bert), pooling, 30)).eval()
        draw = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in encoder.backbone.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.2)
        encoder.save(folder / name, record)
    return folder


def run(place, model, *args):
    given = ["compare", "--model", str(place / model), "--papers", str(place / "papers.jsonl")]
    return cli.main([*given, *map(str, args)])


def refused(capsys, place, model, *args):
    assert run(place, model, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("./train compare: ")
    assert error.count("\n") == 1
    return error


def test_both_papers_their_best_match_and_the_strongest_links_are_printed(place, capsys):
    assert run(place, "ot", "p1", 7, "--links", 0) == 0
    assert capsys.readouterr().out.endswith("scaling 0.8)\n")
    assert run(place, "ot", "p1", 7, "--links", 2) == 0
    said = capsys.readouterr().out
    matcher = Matcher.load(place / "ot")
    a, b = matcher.encode(ROWS[:2])
    match, plan = matcher.best_match(a, b), matcher.transport(a, b)
    for row in ROWS[:2]:
        assert all(sentence in said for sentence in row["abstract"])
    pair = f"A{match.first + 1} - B{match.second + 1}"
    assert f"Best match: {pair}, distance {match.distance:.4f}" in said
    assert f"cost {plan.cost:.4f} (temperature 50, blur 0.2, scaling 0.8)" in said
    lines = said.splitlines()
    assert [line.split("%")[0].split()[-1] for line in lines if "%" in line] == [
        f"{100 * link.share:.2f}" for link in plan.links(2)
    ]


def test_json_holds_all_of_it(place, capsys):
    assert run(place, "ot", "p1", 7, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [paper["paper_id"] for paper in found["papers"]] == ["p1", "7"]
    assert [len(paper["sentences"]) for paper in found["papers"]] == [3, 2]
    sizes = [len(found["transport"]["plan"]), len(found["transport"]["plan"][0])]
    assert sizes == [3, 2]
    assert sum(map(sum, found["transport"]["plan"])) == pytest.approx(1, abs=1e-2)
    assert found["transport"]["temperature"] == 50
    assert found["best_match"]["distance"] == pytest.approx(
        min(map(min, found["transport"]["distances"])), rel=1e-5
    )


def test_without_a_temperature_there_is_no_plan_and_that_is_said(place, capsys, tmp_path):
    assert run(place, "ts", "p1", 7) == 0
    said = capsys.readouterr().out
    assert "No optimal transport: the model records no temperature" in said
    assert "%" not in said
    for words in (("--scorer", "transport"), ("--picture", tmp_path / "plan.svg")):
        error = refused(capsys, place, "ts", "p1", 7, *words)
        assert "Give --temperature" in error
        assert "5000" in error
    assert not (tmp_path / "plan.svg").exists()
    assert run(place, "ts", "p1", 7, "--temperature", 5000) == 0
    assert "temperature 5000, blur 0.05" in capsys.readouterr().out


def test_the_picture_is_drawn_where_it_is_asked_for(place, capsys, tmp_path):
    to = tmp_path / "new" / "plan.svg"
    assert run(place, "ot", "p1", 7, "--picture", to) == 0
    assert f"Picture in {to}" in capsys.readouterr().out
    assert to.read_text().startswith("<svg ")
    assert "end its name in .svg" in refused(
        capsys, place, "ot", "p1", 7, "--picture", tmp_path / "plan.png"
    )
    (tmp_path / "x.svg").mkdir()
    error = refused(capsys, place, "ot", "p1", 7, "--picture", tmp_path / "x.svg")
    assert "--picture" in error
    assert "is a folder" in error


def test_an_encoder_of_sentences_compares_them_alone_unless_told_otherwise(place, capsys):
    for words, how in (
        ((), "each by itself"),
        (("--scorer", "sentences"), "each by itself"),
        (("--scorer", "best_match"), "in their papers"),
    ):
        assert run(place, "lone", "p1", 7, *words) == 0
        assert f"Sentences are encoded {how} and" in capsys.readouterr().out
    error = refused(capsys, place, "ot", "p1", 7, "--scorer", "sentences")
    assert "not of a sentence alone" in error


def test_papers_that_cannot_be_compared_are_refused_by_name(place, capsys, tmp_path):
    error = refused(capsys, place, "ot", "p1", "p9")
    assert "no paper with the id p9" in error
    assert "4 papers, such as p1, 7, bare" in error
    assert "p8 and none with p9" in refused(capsys, place, "ot", "p8", "p9")
    for name in ("bare", "blank"):
        assert f"the paper {name} has no abstract" in refused(capsys, place, "ot", "p1", name)
    given = ["compare", "--model", str(place / "ot"), "p1", "7", "--papers"]
    assert cli.main([*given, str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"paper_id": "p1", "abstract": 5}\n')
    assert cli.main([*given, str(tmp_path / "bad.jsonl")]) == 2
    assert "bad.jsonl:1" in capsys.readouterr().err
    assert "--links is -1" in refused(capsys, place, "ot", "p1", 7, "--links", -1)
    assert "no such folder" in refused(capsys, place, "gone", "p1", 7)


def test_sentences_that_are_not_seen_are_counted(place, capsys, tmp_path):
    rows = [{**ROWS[0], "abstract": ["word2 a b c d e f g."] * 5}, ROWS[1]]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["compare", "--model", str(place / "ot"), "--papers", str(tmp_path / "papers.jsonl")]
    assert cli.main([*given, "p1", "7"]) == 0
    assert "2 more are not seen: beyond 30 tokens" in capsys.readouterr().out
