"""Aspire's own layout of a bi-encoder, both ways."""

import json

import pytest
import torch
from torch import nn

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.errors import UserError
from sciembed_train.export.aspire_run import load_aspire
from sciembed_train.export.layouts import aspire_layout
from sciembed_train.export.verification import ExportError
from sciembed_train.text.input_format import InputFormat
from tests.helpers.aspire_models import disturbed, export_aspire, refused
from tests.helpers.masked_models import write_masked_lm
from tests.helpers.tiny_models import write_tiny_bert

CARD = {"method": "cocite", "base_model": "somebody/some-bert"}
TEXTS = ["word1 word2 word3", "word4 " * 700, "word5"]


class Published(nn.Module):
    """What Aspire's example loads the files into: the layers' states of all tokens, mixed."""

    def __init__(self, base):
        from transformers import AutoModel

        super().__init__()
        self.bert_encoder = AutoModel.from_pretrained(base)
        self.bert_layer_weights = nn.Linear(3, 1, bias=False)

    def forward(self, batch):
        states = self.bert_encoder(**batch, output_hidden_states=True).hidden_states
        shares = torch.softmax(self.bert_layer_weights.weight, dim=1)
        mixed = torch.zeros_like(states[0])
        for layer in range(3):
            mixed = mixed + shares[0, layer] * states[layer]
        return mixed[:, 0]


@pytest.fixture
def published(tiny_bert, tmp_path):
    """A folder as released, and the model whose it is."""
    model = disturbed(Published(tiny_bert)).eval()
    folder = tmp_path / "published"
    folder.mkdir()
    hparams = {"model_name": "cospecter", "base-pt-layer": str(tiny_bert), "train_size": 1276820}
    (folder / "run_info.json").write_text(json.dumps({"all_hparams": hparams, "data_path": "x"}))
    positions = {"bert_encoder.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({**model.state_dict(), **positions}, folder / "model_cur_best.pt")
    return folder, model


def vectors_of(model, tokenizer_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt", max_length=512)
    with torch.inference_mode():
        return model.eval()(batch).clone()


def test_a_released_folder_gives_the_published_vectors_to_the_bit_of_its_weights(
    published, tiny_bert
):
    folder, model = published
    encoder = load_aspire(folder)
    assert torch.equal(encoder.pooling.mix, model.bert_layer_weights.weight)
    for name, tensor in model.bert_encoder.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[name], tensor), name
    assert encoder.settings.pooling == "mix"
    assert encoder.settings.max_length == 512
    # As trained; an abstract in one piece then has one separator, as in the published example.
    assert encoder.settings.input_format == InputFormat(sentences="sep")
    found, want = encoder.encode_texts(TEXTS), vectors_of(model, tiny_bert)
    assert (found - want).abs().max() < 1e-5
    plain = Encoder.load(tiny_bert, pooling="mix").encode_texts(TEXTS)
    assert (plain - want).abs().max() > 0.1


def test_it_is_imported_ready_to_use_and_exported_again_the_same(published, tmp_path, capsys):
    folder, model = published
    ready = tmp_path / "ready"
    assert cli.main(["import", str(folder), "--to", str(ready)]) == 0
    assert "a learned mix of every layer's first-token state, compared by Eu" in (
        capsys.readouterr().out
    )
    record = json.loads((ready / "sciembed.json").read_text())
    assert (record["method"], record["similarity"]) == ("cocite", "euclidean")
    assert record["imported_from"] == "published"
    assert len(record["imported_sha256"]) == 64
    encoder = Encoder.load(ready)
    assert torch.equal(encoder.pooling.mix, model.bert_layer_weights.weight)
    assert torch.equal(encoder.encode_texts(TEXTS), load_aspire(folder).encode_texts(TEXTS))
    export_aspire(encoder, tmp_path / "back", CARD)
    state = torch.load(tmp_path / "back" / "model_cur_best.pt", weights_only=True)
    want = model.state_dict()
    assert state.keys() == want.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in want.items())


def test_our_export_loads_as_the_published_example_does_and_comes_back(tiny_bert, tmp_path):
    input_format = InputFormat(separator="space", control_code="word1")
    encoder = disturbed(
        Encoder(EncoderSettings(str(tiny_bert), "mix", 60, input_format, dropout=0.3))
    )
    differences = export_aspire(encoder, tmp_path / "a", CARD)
    assert list(differences) == ["Aspire's layout"]
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert encoder.training
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "model_cur_best.pt",
        "run_info.json",
    ]
    info = json.loads((tmp_path / "a" / "run_info.json").read_text())
    assert info["all_hparams"]["base-pt-layer"] == "somebody/some-bert"
    model = Published(tiny_bert)
    model.load_state_dict(torch.load(tmp_path / "a" / "model_cur_best.pt", weights_only=True))
    again = load_aspire(tmp_path / "a", base=str(tiny_bert))
    assert (again.settings.max_length, again.settings.input_format) == (60, input_format)
    assert load_aspire(tmp_path / "a", str(tiny_bert), 20).settings.max_length == 20
    states = encoder.state_dict()
    assert again.state_dict().keys() == states.keys()
    assert all(torch.equal(t, states[name]) for name, t in again.state_dict().items())
    short = ["word1 word2 word3", "word5"]
    batch = again.tokenizer.hf(short, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model.eval()(batch)
    assert (found - encoder.encode_texts(short)).abs().max() < 1e-5


def test_the_command_writes_the_layout_and_replaces_only_its_own(tiny_bert, tmp_path, capsys):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mix"))
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    facts = {"version": 1, **describe(encoder), "training": {"base_model": "x/y"}}
    torch.save({"sciembed": facts, "state_dict": state}, tmp_path / "last.ckpt")
    given = ["export", str(tmp_path / "last.ckpt"), "--layout", "aspire-full", "--to"]
    assert cli.main([*given, str(tmp_path / "a")]) == 0
    assert "Aspire's layout differs by" in capsys.readouterr().out
    assert cli.main([*given, str(tmp_path / "a")]) == 2
    assert cli.main([*given, str(tmp_path / "a"), "--overwrite"]) == 0
    assert cli.main([*given, str(tmp_path / "a"), "--overwrite", "--base", str(tiny_bert)]) == 0
    info = json.loads((tmp_path / "a" / "run_info.json").read_text())
    assert info["all_hparams"]["base-pt-layer"] == str(tiny_bert.resolve())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    capsys.readouterr()
    assert cli.main([*given, str(tmp_path / "thesis"), "--overwrite"]) == 2
    assert "no run_info.json" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter.tex").is_file()


def test_the_published_example_opens_a_base_model_of_a_folder(tiny_bert, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    encoder = disturbed(Encoder(EncoderSettings(str(tiny_bert), "mix")))
    card = {**CARD, "base_model": tiny_bert.name}  # as runs record a folder
    monkeypatch.chdir(tiny_bert.parent)
    export_aspire(encoder, tmp_path / "a", card, base=tiny_bert.name)
    monkeypatch.chdir(tmp_path)
    hparams = json.loads((tmp_path / "a" / "run_info.json").read_text())["all_hparams"]
    tokenizer = AutoTokenizer.from_pretrained(hparams["base-pt-layer"])
    model = Published(hparams["base-pt-layer"])
    model.load_state_dict(torch.load(tmp_path / "a" / "model_cur_best.pt", weights_only=True))
    short = ["word1 word2 word3", "word5"]
    with torch.inference_mode():
        found = model.eval()(tokenizer(short, padding=True, return_tensors="pt"))
    assert (found - encoder.encode_texts(short)).abs().max() < 1e-5


@pytest.mark.parametrize("base", ["tiny-bert", "/somewhere/tiny-bert", None])
def test_a_base_model_that_nobody_could_open_is_asked_for(base, tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mix"))
    card = {**CARD, "base_model": base}
    with pytest.raises(UserError, match="give a hub name or a folder with --base") as caught:
        export_aspire(encoder, tmp_path / "a", card)
    assert ("trained from the folder tiny-bert" in str(caught.value)) == (base is not None)
    export_aspire(encoder, tmp_path / "a", card, base="bert-base-uncased")
    info = json.loads((tmp_path / "a" / "run_info.json").read_text())
    assert info["all_hparams"]["base-pt-layer"] == "bert-base-uncased"


def test_a_base_model_that_does_not_fit_is_refused(tiny_bert, tmp_path):
    from transformers import AutoTokenizer

    encoder = Encoder(EncoderSettings(str(tiny_bert), "mix"))
    shorter = write_tiny_bert(tmp_path / "shorter", max_positions=64)
    other = write_tiny_bert(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(other)
    for base, message in (
        (shorter, "position_embeddings.weight is 64x32, this encoder's 512x32"),
        (other, "its tokenizer has other tokens"),
        (tmp_path / "nowhere", "there is no such folder, and it is no hub name"),
    ):
        with pytest.raises(UserError, match=message):
            export_aspire(encoder, tmp_path / "a", CARD, base=base)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("what", ["pooling", "type", "pooler"])
def test_what_the_layout_cannot_hold_is_not_written(what, tiny_bert, tmp_path):
    folder = write_masked_lm(tmp_path / "b", "roberta") if what == "type" else tiny_bert
    pooling = "mean" if what == "pooling" else "mix"
    encoder = Encoder(EncoderSettings(str(folder), pooling))
    if what == "pooler":
        encoder.backbone.pooler = None
    with pytest.raises(UserError, match="Use the layout sentence-transformers"):
        export_aspire(encoder, tmp_path / "a", CARD)
    assert not (tmp_path / "a").exists()


def test_a_wrong_file_is_noticed_and_removed(tiny_bert, tmp_path, monkeypatch):
    save = torch.save

    def spoil(state, path):
        state["bert_layer_weights.weight"][0, 0] += 0.5
        save(state, path)

    encoder = disturbed(Encoder(EncoderSettings(str(tiny_bert), "mix")))
    monkeypatch.setattr(aspire_layout.torch, "save", spoil)
    with pytest.raises(ExportError, match="other embeddings"):
        export_aspire(encoder, tmp_path / "sub" / "a", CARD)
    assert list((tmp_path / "sub").iterdir()) == []


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_folders_that_do_not_fit_are_refused_with_what_to_do(published, tmp_path, capsys):
    folder, model = published
    to = ("--to", tmp_path / "m")
    info, weights = folder / "run_info.json", folder / "model_cur_best.pt"
    assert "Leave the option out" in refused(capsys, folder, *to, "--pooling", "cls")
    error = refused(capsys, folder, *to, "--base", "/nowhere")
    assert "there is no such folder" in error
    assert "Say where it is with --base." in error
    roberta = write_masked_lm(tmp_path / "r", "roberta")
    capsys.readouterr()  # transformers 5 shows a bar while it saves
    assert "roberta with 3 states" in refused(capsys, folder, *to, "--base", roberta)
    state = model.state_dict()
    bare = {k.removeprefix("bert_encoder."): v for k, v in state.items()}
    for other, message in (
        ({k: v for k, v in state.items() if "weights" not in k}, "has no bert_layer_weights"),
        (bare, "so it is no bi-encoder that mixes its layers"),
        ({k: v for k, v in state.items() if "layer.1" not in k}, "does not fit"),
        ({**state, "bert_layer_weights.weight": torch.zeros(1, 13)}, "mixes 13 states"),
        ({**state, "x": Harm(str(tmp_path / "harmed"))}, "safely"),
    ):
        torch.save(other, weights)
        assert message in refused(capsys, folder, *to)
    assert not (tmp_path / "harmed").exists()
    info.write_text("{}")
    assert "--base" in refused(capsys, folder, *to)
    assert not (tmp_path / "m").exists()


def test_a_base_is_for_aspire_runs_alone(tiny_bert, tmp_path, capsys):
    error = refused(capsys, tiny_bert, "--to", tmp_path / "m", "--base", "x")
    assert "is a whole model" in error
