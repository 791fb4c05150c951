"""Aspire's multi-vector models and its sentence encoder, both ways."""

import json

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.export.aspire_run import load_aspire
from sciembed_train.export.layouts import aspire_layout
from sciembed_train.export.layouts.aspire_layout import is_aspire
from sciembed_train.export.verification import ExportError
from sciembed_train.inference.matching import Matcher
from sciembed_train.text.input_format import InputFormat
from tests.helpers.aspire_models import disturbed, export_aspire, refused

OT = {
    "model_name": "miswordbienc",
    "score_aggregation": "l2wasserstein",
    "geoml_blur": 0.05,
    "geoml_scaling": 0.9,
    "sent_sm_temp": 5000,
}
TS = {"model_name": "sbalisentbienc", "score_aggregation": "l2lse", "sentsup_loss_prop": 1.0}
LONE = {"model_name": "cosentbert"}
FILES = {"cosentbert": "sent_encoder_cur_best.pt"}
TRANSPORT = {"temperature": 5000.0, "blur": 0.05, "scaling": 0.9}


@pytest.fixture
def bert(tiny_bert):
    from transformers import AutoModel

    return disturbed(AutoModel.from_pretrained(tiny_bert)).eval()


def write_run(folder, bert, tiny_bert, hparams):
    """A folder as Aspire's code wrote it with the transformers of its day."""
    folder.mkdir(exist_ok=True)
    info = {"all_hparams": {"base-pt-layer": str(tiny_bert), **hparams}, "data_path": "x"}
    (folder / "run_info.json").write_text(json.dumps(info))
    name = FILES.get(hparams.get("model_name"), "model_cur_best.pt")
    prefix = "" if name in FILES.values() else "bert_encoder."
    state = {**bert.state_dict(), "embeddings.position_ids": torch.arange(512)[None]}
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, folder / name)
    return folder


def record_of(folder):
    return json.loads((folder / "sciembed.json").read_text())


@pytest.mark.parametrize(
    ("hparams", "wanted"),
    [
        (OT, {"pooling": "sentences", "similarity": "transport", "transport": TRANSPORT}),
        (TS, {"pooling": "sentences", "similarity": "best_match"}),
        (LONE, {"pooling": "cls", "similarity": "euclidean", "texts": "sentences"}),
    ],
)
def test_a_run_is_imported_as_what_it_says_it_is_with_its_weights(
    hparams, wanted, bert, tiny_bert, tmp_path
):
    run = write_run(tmp_path / "run", bert, tiny_bert, hparams)
    assert is_aspire(run)
    assert cli.main(["import", str(run), "--to", str(tmp_path / "m"), "--quiet"]) == 0
    record = record_of(tmp_path / "m")
    assert record.items() >= wanted.items()
    assert ("transport" in record) == ("transport" in wanted)
    assert len(record["imported_sha256"]) == 64
    encoder = Encoder.load(tmp_path / "m")
    state = encoder.backbone.state_dict()
    assert state.keys() == bert.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in bert.state_dict().items())
    # As trained: no separators between the sentences, and segments of the last layer's states.
    assert encoder.settings.input_format == InputFormat()
    assert encoder.settings.max_length == 512


def test_vectors_are_those_of_the_published_formulas(bert, tiny_bert, tmp_path):
    """Token ids of title, separator and each sentence end to end, and means over the sentences."""
    title, sentences = "word1 word2", ["word3 word4.", "word5 " * 300, "word6 " * 400, "word7."]
    encoder = load_aspire(write_run(tmp_path / "ts", bert, tiny_bert, TS))
    hf = encoder.tokenizer.hf
    pieces = [hf.encode(text, add_special_tokens=False) for text in (title, *sentences)]
    ids, spans = [*pieces[0], hf.sep_token_id], []
    for piece in pieces[1:]:
        spans.append((len(ids), min(len(ids) + len(piece), 510)))
        ids += piece
    ids = [hf.cls_token_id, *ids[:510], hf.sep_token_id]
    with torch.inference_mode():
        states = bert(torch.tensor([ids])).last_hidden_state[0]
    wanted = torch.stack([states[1 + a : 1 + b].mean(0) for a, b in spans if a < b])
    assert len(wanted) == 3
    (found,) = encoder.encode_sentences([(title, sentences)])
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-5
    lone = load_aspire(write_run(tmp_path / "lone", bert, tiny_bert, LONE))
    with torch.inference_mode():
        first = bert(torch.tensor([hf.encode(sentences[0])])).last_hidden_state[:, 0]
    assert (lone.encode_texts(sentences[:1]) - first).abs().max() < 1e-5


@pytest.mark.parametrize("hparams", [OT, TS, LONE])
def test_what_was_imported_is_written_back_with_exactly_its_keys(
    hparams, bert, tiny_bert, tmp_path, capsys
):
    run = write_run(tmp_path / "run", bert, tiny_bert, hparams)
    assert cli.main(["import", str(run), "--to", str(tmp_path / "m"), "--quiet"]) == 0
    record = record_of(tmp_path / "m")
    encoder = Encoder.load(tmp_path / "m")
    differences = export_aspire(encoder, tmp_path / "back", {**record, "base_model": "a/bert"})
    assert differences["Aspire's layout"] < 1e-5
    name = FILES.get(hparams["model_name"], "model_cur_best.pt")
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == sorted([name, "run_info.json"])
    given = torch.load(run / name, weights_only=True)
    state = torch.load(tmp_path / "back" / name, weights_only=True)
    gone = [key for key in given if key.endswith("position_ids")]
    assert len(gone) == 1
    assert state.keys() == given.keys() - set(gone)
    assert all(torch.equal(given[key], value) for key, value in state.items())
    info = json.loads((tmp_path / "back" / "run_info.json").read_text())["all_hparams"]
    if hparams is OT:
        assert info.items() >= OT.items()
    assert str(tiny_bert.parent) not in json.dumps(info)
    again = ["import", str(tmp_path / "back"), "--base", str(tiny_bert), "--quiet", "--to"]
    assert cli.main([*again, str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out == ""
    found = record_of(tmp_path / "again")
    keys = ("similarity", "transport", "texts", "pooling", "max_length", "input_format")
    assert [found.get(key) for key in keys] == [record.get(key) for key in keys]
    state = Encoder.load(tmp_path / "again").state_dict()
    assert all(torch.equal(state[key], value) for key, value in encoder.state_dict().items())


def test_our_own_transport_and_form_come_back(tiny_bert, tmp_path):
    input_format = InputFormat(separator="space", sentences="sep")
    encoder = disturbed(Encoder(EncoderSettings(str(tiny_bert), "sentences", 60, input_format)))
    transport = {"temperature": 3.0, "blur": 0.1, "scaling": 0.7}
    card = {"similarity": "transport", "transport": transport, "base_model": "a/bert"}
    texts = ["word1", "word2 " * 300]
    before = encoder.tokenizer.encode(texts)
    export_aspire(encoder, tmp_path / "a", card)
    assert encoder.tokenizer.encode(texts) == before
    given = ["import", str(tmp_path / "a"), "--base", str(tiny_bert), "--quiet"]
    assert cli.main([*given, "--to", str(tmp_path / "m")]) == 0
    matcher = Matcher.load(tmp_path / "m")
    assert matcher.settings is not None
    assert matcher.settings.as_dict() == transport
    assert (matcher.encoder.settings.max_length, matcher.encoder.settings.input_format) == (
        60,
        input_format,
    )


def test_the_verb_writes_a_checkpoint_of_each_kind(tiny_bert, tmp_path):
    from sciembed_train.encoder.io.encoder_checkpoint import describe

    for pooling, record, name in (
        ("sentences", {"similarity": "best_match"}, "model_cur_best.pt"),
        ("cls", {"similarity": "euclidean", "texts": "sentences"}, "sent_encoder_cur_best.pt"),
    ):
        encoder = Encoder(EncoderSettings(str(tiny_bert), pooling))
        state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
        facts = {"version": 1, **describe(encoder), **record, "training": {"base_model": "x/y"}}
        torch.save({"sciembed": facts, "state_dict": state}, tmp_path / "last.ckpt")
        given = ["export", str(tmp_path / "last.ckpt"), "--layout", "aspire-full", "--quiet"]
        assert cli.main([*given, "--to", str(tmp_path / pooling)]) == 0
        assert (tmp_path / pooling / name).is_file()


def test_a_temperature_is_never_silent(bert, tiny_bert, tmp_path, capsys):
    bare = {key: value for key, value in OT.items() if key != "sent_sm_temp"}
    run = write_run(tmp_path / "run", bert, tiny_bert, bare)
    to = ("--to", tmp_path / "m")
    error = refused(capsys, run, *to)
    assert "Give --temperature" in error
    assert "5000" in error
    given = ["import", str(run), "--to", str(tmp_path / "m"), "--temperature", "1"]
    assert cli.main(given) == 0
    assert "(temperature 1)" in capsys.readouterr().out
    assert record_of(tmp_path / "m")["transport"] == {**TRANSPORT, "temperature": 1.0}
    lone = write_run(tmp_path / "lone", bert, tiny_bert, LONE)
    to = ("--to", tmp_path / "n")
    assert "not compared by optimal transport" in refused(capsys, lone, *to, "--temperature", "1")
    assert "Leave the option out" in refused(capsys, lone, *to, "--similarity", "transport")


def test_a_user_may_name_what_papers_are_compared_by(bert, tiny_bert, tmp_path, capsys):
    run = write_run(tmp_path / "run", bert, tiny_bert, {**OT, "geoml_reach": 2.0})
    to = ("--to", tmp_path / "m")
    assert "geoml_reach is 2.0" in refused(capsys, run, *to)
    unknown = write_run(tmp_path / "u", bert, tiny_bert, {**OT, "score_aggregation": "cosine"})
    assert "'cosine', which does not record how" in refused(capsys, unknown, *to)
    for source in (run, unknown):
        given = ["import", str(source), "--similarity", "best_match", "--quiet", "--overwrite"]
        assert cli.main([*given, "--to", str(tmp_path / "m")]) == 0
        assert record_of(tmp_path / "m")["similarity"] == "best_match"


def test_files_of_another_kind_are_refused_by_name(bert, tiny_bert, tmp_path, capsys):
    run = write_run(tmp_path / "run", bert, tiny_bert, TS)
    to = ("--to", tmp_path / "m")
    weights = run / "model_cur_best.pt"
    state = torch.load(weights, weights_only=True)
    mixed = {**state, "bert_layer_weights.weight": torch.zeros(1, 3)}
    bare = {key.removeprefix("bert_encoder."): value for key, value in state.items()}
    for other, words in (
        (mixed, "holds bert_layer_weights.weight, so it is no multi-vector model"),
        (bare, "holds embeddings.word_embeddings.weight, so it is no multi-vector model"),
        ({k: v for k, v in state.items() if "layer.1" not in k}, "does not fit"),
    ):
        torch.save(other, weights)
        assert words in refused(capsys, run, *to)
    lone = write_run(tmp_path / "lone", bert, tiny_bert, LONE)
    torch.save(state, lone / "sent_encoder_cur_best.pt")
    assert "so it is no sentence encoder" in refused(capsys, lone, *to)
    (lone / "run_info.json").write_text(json.dumps({"all_hparams": [1]}))
    assert "`all_hparams` is no table" in refused(capsys, lone, *to)
    (lone / "run_info.json").write_text("[]")
    assert "is no table" in refused(capsys, lone, *to)
    write_run(tmp_path / "gone", bert, tiny_bert, LONE)
    (tmp_path / "gone" / "sent_encoder_cur_best.pt").rename(tmp_path / "gone" / "model_cur_best.pt")
    assert "sent_encoder_cur_best.pt" in refused(capsys, tmp_path / "gone", *to)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("pooling", ["sentences", "cls"])
def test_a_wrong_file_is_noticed_and_removed(pooling, tiny_bert, tmp_path, monkeypatch):
    save = torch.save

    def spoilt(state, path):
        name = next(key for key in state if key.endswith("layer.1.output.LayerNorm.bias"))
        state[name][0] += 0.5
        save(state, path)

    encoder = disturbed(Encoder(EncoderSettings(str(tiny_bert), pooling)))
    card = {"base_model": "a/b", "similarity": "best_match"}
    if pooling == "cls":
        card = {"base_model": "a/b", "texts": "sentences"}
    monkeypatch.setattr(aspire_layout.torch, "save", spoilt)
    with pytest.raises(ExportError, match="other embeddings"):
        export_aspire(encoder, tmp_path / "sub" / "a", card)
    assert list((tmp_path / "sub").iterdir()) == []
