"""Two papers compared by their sentences."""

import json
import re
import subprocess
import sys
from math import dist
from pathlib import Path

import pytest
import torch

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.inference.matching import Matcher, picture
from sciembed_train.losses.transport import TransportSettings, transport
from sciembed_train.text.input_format import InputFormat
from tests.helpers.adapter_models import library_is_there

PAPERS = [
    {"title": "word1 word2", "abstract": ["word3 word4 a.", "word5.", "word6 b c."]},
    {"title": "word7", "abstract": ["word8 word9.", "d e f word10 word11."]},
]
SETTINGS = TransportSettings(3.0, 0.2, 0.8)


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    made = Encoder(EncoderSettings(str(tiny_bert), "sentences", 40)).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():  # the layers of a new BERT change next to nothing
        for parameter in made.backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.2)
    return made


def saved(encoder, folder, **record):
    encoder.save(folder, record)
    return folder


def by_loops(a, b):
    """All distances of two papers' sentences in double precision."""
    return [[dist(p, q) for q in b.vectors.double().tolist()] for p in a.vectors.double().tolist()]


def test_sentences_have_the_vectors_of_the_encoder_in_their_order(encoder):
    found = Matcher(encoder).encode(PAPERS)
    wanted = encoder.encode_sentences([(p["title"], p["abstract"]) for p in PAPERS])
    for paper, vectors, given in zip(found, wanted, PAPERS, strict=True):
        assert torch.equal(paper.vectors, vectors)
        assert list(paper.sentences) == given["abstract"]
        assert paper.left_out == ()


def test_each_vector_is_named_by_its_own_sentence_where_others_have_none(encoder):
    long = [f"word{i} a b c d e f g." for i in range(1, 9)]
    # The tokenizer leaves nothing of the second.
    abstract = [long[0], "\x00\x01", *long[1:]]
    (paper,) = Matcher(encoder).encode([{"title": "word9", "abstract": abstract}])
    assert len(paper.vectors) == len(paper.sentences) == 4
    assert list(paper.sentences) == long[:4]
    assert list(paper.left_out) == ["\x00\x01", *long[4:]]
    # Every sentence in turn is made another one: its own vector alone changes most.
    for number in range(4):
        changed = [*long]
        changed[number] = "word150 " * 8 + "."
        (other,) = Matcher(encoder).encode([{"title": "word9", "abstract": changed}])
        apart = (other.vectors[:4] - paper.vectors).norm(dim=1)
        assert apart.argmax() == number


def test_of_a_title_alone_the_title_is_the_sentence(encoder):
    for abstract in (None, "", []):
        (paper,) = Matcher(encoder).encode([{"title": " word1 word2 ", "abstract": abstract}])
        assert paper.sentences == ("word1 word2",)
        assert len(paper.vectors) == 1
    filled = {"title": "word1 " * 60, "abstract": ["word2."]}
    (paper,) = Matcher(encoder).encode([filled])
    assert paper.sentences == (filled["title"].strip(),)
    assert paper.left_out == ("word2.",)


def test_an_abstract_in_one_text_is_cut_into_its_sentences(encoder):
    matcher = Matcher(encoder)
    text = "Word1 word2 is here. Word3 is there.  And word4 too."
    sentences = ["Word1 word2 is here.", "Word3 is there.", "And word4 too."]
    one, other = matcher.encode(
        [{"title": "word5", "abstract": text}, {"title": "word5", "abstract": sentences}]
    )
    assert list(one.sentences) == sentences
    assert torch.equal(one.vectors, other.vectors)


def test_the_best_match_is_that_of_plain_loops(encoder):
    a, b = Matcher(encoder).encode(PAPERS)
    distances = by_loops(a, b)
    wanted = min((d, i, j) for i, row in enumerate(distances) for j, d in enumerate(row))
    found = Matcher(encoder).best_match(a, b)
    assert (found.first, found.second) == wanted[1:]
    assert found.distance == pytest.approx(wanted[0], rel=1e-5)
    same = Matcher(encoder).best_match(a, a)
    assert (same.distance, same.first) == (0, same.second)


def test_the_plan_moves_every_share_and_costs_what_it_says(encoder):
    a, b = Matcher(encoder).encode(PAPERS)
    plan = Matcher(encoder, settings=SETTINGS).transport(a, b)
    distances = by_loops(a, b)
    cells = [(i, j) for i in range(3) for j in range(2)]
    moved = {(i, j): plan.plan[i, j].item() for i, j in cells}
    assert sum(moved.values()) == pytest.approx(1, abs=1e-3)
    assert plan.cost == pytest.approx(sum(moved[c] * distances[c[0]][c[1]] for c in cells))
    for j in range(2):
        assert sum(moved[i, j] for i in range(3)) == pytest.approx(
            plan.marginals[1][j].item(), 0.02
        )
    nearest = torch.tensor([-min(row) / 3.0 for row in distances])
    assert (plan.marginals[0] - nearest.softmax(0)).abs().max() < 1e-5
    strongest = plan.links(2)
    assert [(k.first, k.second) for k in strongest] == sorted(cells, key=moved.get)[:-3:-1]
    assert strongest[0].share == max(moved.values())
    assert len(plan.links(100)) == 6


def test_papers_may_stand_either_way_round(encoder):
    matcher = Matcher(encoder, settings=TransportSettings(5000.0))
    a, b = matcher.encode(PAPERS)
    there, back = matcher.transport(a, b), matcher.transport(b, a)
    assert there.cost == pytest.approx(back.cost, rel=1e-3)
    assert (there.plan - back.plan.T).abs().max() < 1e-3


def test_the_temperature_comes_from_the_record_or_by_hand_and_never_by_itself(encoder, tmp_path):
    recorded = saved(encoder, tmp_path / "a", similarity="transport", transport=SETTINGS.as_dict())
    bare = saved(encoder, tmp_path / "b", similarity="best_match")
    matcher = Matcher.load(recorded)
    a, b = matcher.encode(PAPERS)
    rows = a.vectors.double()[None], b.vectors.double()[None]
    there = [torch.ones(1, n, dtype=torch.bool) for n in (3, 2)]
    for temperature, settings in (
        (None, SETTINGS),
        (0.5, TransportSettings(0.5, SETTINGS.blur, SETTINGS.scaling)),
    ):
        wanted = transport(*rows, *there, settings)
        plan = matcher.transport(a, b, temperature)
        assert plan.settings == settings
        assert plan.cost == pytest.approx(wanted.cost.item(), rel=1e-5)
        assert plan.value == pytest.approx(wanted.value.item(), rel=1e-5)
    other = Matcher.load(bare)
    with pytest.raises(UserError, match=r"records no temperature .* 5000"):
        other.transport(a, b)
    assert other.transport(a, b, 7.0).settings == TransportSettings(7.0)
    with pytest.raises(UserError, match="temperature"):
        other.transport(a, b, 0.0)


def test_an_encoder_of_sentences_reads_each_alone(tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "cls", 40)).eval()
    matcher = Matcher.load(saved(encoder, tmp_path / "m", texts="sentences"))
    assert matcher.alone
    found = matcher.encode([*PAPERS, {"title": "word12"}])
    for paper, given in zip(found, PAPERS, strict=False):
        assert list(paper.sentences) == given["abstract"]
        wanted = encoder.encode_texts(given["abstract"])
        assert (paper.vectors - wanted).abs().max() < 1e-5
        in_paper = encoder.encode_sentences([(given["title"], given["abstract"])])[0]
        assert (paper.vectors - in_paper).abs().max() > 0.01
    assert found[2].sentences == ("word12",)


def test_directions_are_compared_where_a_model_of_lone_sentences_is_of_cosine(tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mean", 40)).eval()
    folder = saved(encoder, tmp_path / "m", texts="sentences", similarity="cosine")
    a, b = Matcher.load(folder).encode(PAPERS)
    raw = encoder.encode_texts(PAPERS[0]["abstract"])
    assert (a.vectors - raw / raw.norm(dim=1, keepdim=True)).abs().max() < 1e-6
    cosines = [[float(p @ q) for q in b.vectors] for p in a.vectors]
    best = max((c, i, j) for i, row in enumerate(cosines) for j, c in enumerate(row))
    match = Matcher.load(folder).best_match(a, b)
    assert (match.first, match.second) == best[1:]


def test_an_encoder_of_whole_texts_is_used_with_a_warning(tiny_bert, tmp_path, caplog):
    input_format = InputFormat(separator="space", control_code="word1")
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mean", 40, input_format)).eval()
    matcher = Matcher.load(saved(encoder, tmp_path / "m"))
    assert "one vector of a whole text" in caplog.text
    wanted = encoder.encode_sentences([(p["title"], p["abstract"]) for p in PAPERS])
    found = matcher.encode(PAPERS)
    assert all(torch.equal(p.vectors, v) for p, v in zip(found, wanted, strict=True))
    assert Matcher.load(tmp_path / "m", alone=True).alone


def test_what_cannot_be_compared_is_refused(encoder, tmp_path):
    folder = saved(encoder, tmp_path / "m", similarity="best_match")
    with pytest.raises(UserError, match="not of a sentence alone"):
        Matcher.load(folder, alone=True)
    matcher = Matcher.load(folder)
    for paper, words in (
        ({"title": "", "abstract": [" "]}, "Paper 2 has neither"),
        ({}, "Paper 2 has neither"),
        ({"title": 7, "abstract": "a"}, "`title` must be a text"),
        ({"title": "a", "abstract": ["a", None]}, "list of sentences"),
        ({"title": "a", "abstract": {"a": 1}}, "list of sentences"),
    ):
        with pytest.raises(UserError, match=words):
            matcher.encode([PAPERS[0], paper])
    record = json.loads((folder / "sciembed.json").read_text())
    record["transport"] = {"heat": 1.0}
    (folder / "sciembed.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="expected temperature, blur and scaling"):
        Matcher.load(folder)


def test_the_picture_is_written_with_the_sentences_in_it(encoder, tmp_path):
    matcher = Matcher(encoder, settings=SETTINGS)
    a, b = matcher.encode(PAPERS)
    picture(matcher.transport(a, b), tmp_path / "plan.svg")
    text = (tmp_path / "plan.svg").read_text()
    assert all(sentence in text for paper in (a, b) for sentence in paper.sentences)
    assert "temperature 3, blur 0.2, scaling 0.8" in text


def test_the_code_of_the_documentation_runs(tiny_bert, tmp_path, monkeypatch, capsys):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "sentences"))
    folder = saved(encoder, tmp_path / "m", similarity="best_match")
    text = (Path(__file__).parents[2] / "docs" / "matching.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block.replace("PATH_OR_NAME_OF_A_MODEL", str(folder)), names)
    assert len(names["a"].sentences) == 3
    assert (tmp_path / "plan.svg").is_file()
    assert capsys.readouterr().out.count("%") == 3


def test_inference_needs_no_trainer():
    code = (
        "import sys, sciembed_train.inference.matching; print('pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_model_of_several_formats_is_refused_in_words_for_its_user(tiny_bert):
    coded = Encoder(EncoderSettings(str(tiny_bert), control_codes=True)).eval()
    several = [coded]
    if library_is_there():
        settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings())
        several.append(Encoder(settings).eval())
    for made in several:
        for alone in (False, True):
            with pytest.raises(UserError, match="To compare sentences, use a model"):
                Matcher(made, alone=alone).encode(PAPERS)
