"""The export of an encoder that reads control codes: plain models, one for each format."""

import json

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import control_codes_layout
from sciembed_train.export.verification import ExportError
from sciembed_train.text.input_format import FORMATS

CARD = {"method": "multitask", "seed": 7, "base_model": "somebody/some-bert"}
TEXTS = ["word1 word2 word3", "word4 " * 60, "word5"]


def coded(folder) -> Encoder:
    torch.manual_seed(0)  # of the codes
    settings = EncoderSettings(str(folder), max_length=40, dropout=0.0, control_codes=True)
    encoder = Encoder(settings).eval()
    with torch.no_grad():
        # As after training: a pretrained table of positions is no noise around nothing.
        for name, parameter in encoder.backbone.named_parameters():
            if "embeddings" in name and parameter.dim() == 2:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return encoder


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_roberta"])
def test_plain_models_give_the_vectors_of_the_codes_without_any_code_file(base, request, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    encoder = coded(request.getfixturevalue(base))
    folder = tmp_path / "a-bert-model"
    differences = export_encoder(encoder, folder, CARD)
    assert set(differences) == {"AutoModel", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert not list(folder.rglob("*.py"))
    again = Encoder.load(folder)
    seen = []
    for name, code in FORMATS.items():
        place = folder / "hf" / code
        tokenizer = AutoTokenizer.from_pretrained(place)
        model = AutoModel.from_pretrained(place).eval()
        expected = encoder.encode_texts(TEXTS, format=name)
        for text, vector in zip(TEXTS, expected, strict=True):
            given = tokenizer(text, truncation=True, return_tensors="pt")
            assert tokenizer.decode(given["input_ids"][0, :1]) == code
            assert given["input_ids"].shape[1] <= 40
            with torch.no_grad():
                first = model(**given).last_hidden_state[0, 0]
            assert (first - vector).abs().max() < 1e-5
        whole = sentence_transformers.SentenceTransformer(str(place), device="cpu")
        found = torch.from_numpy(whole.encode(TEXTS, batch_size=2))
        assert (found - expected).abs().max() < 1e-5
        assert (again.encode_texts(TEXTS, format=name) - expected).abs().max() < 1e-6
        # The part of a format is a plain model to this program, too.
        assert (Encoder.load(place).encode_texts(TEXTS) - expected).abs().max() < 1e-5
        seen.append(expected)
    assert all((a - b).abs().max() > 0.01 for n, a in enumerate(seen) for b in seen[:n])
    with pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(folder)


def test_a_table_of_positions_is_turned_by_the_prefix():
    table = torch.arange(7.0)[:, None]
    assert control_codes_layout.turned(table, 2, 1)[:, 0].tolist() == [0, 1, 3, 2, 4, 5, 6]
    assert control_codes_layout.turned(table, 0, 2)[:, 0].tolist() == [2, 0, 1, 3, 4, 5, 6]


def test_an_export_whose_positions_are_not_turned_is_not_left_behind(
    tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.setattr(control_codes_layout, "turned", lambda table, first, prefix: table)
    with pytest.raises(ExportError, match=r"AutoModel \(\[CLF\]\) computes other embeddings"):
        export_encoder(coded(tiny_bert), tmp_path / "model", CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_codes_is_exported_and_embedded_by_a_named_format(
    tiny_bert, tmp_path, capsys, caplog
):
    encoder = coded(tiny_bert)
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    record = {"version": 1, "method": "multitask", **describe(encoder)}
    torch.save({"sciembed": record, "state_dict": state, "global_step": 3}, tmp_path / "a.ckpt")
    folder = tmp_path / "model"
    assert cli.main(["export", str(tmp_path / "a.ckpt"), "--to", str(folder)]) == 0
    content = json.loads((folder / "sciembed.json").read_text())
    assert (content["control_codes"], content["backbone"]) == (True, "base")
    assert "is untrained" in (folder / "README.md").read_text()
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": "1", "title": "word1 word2", "abstract": "word3"}\n')
    given = ["embed", "--model", str(folder), "--input", str(papers), "--to"]
    assert cli.main([*given, str(tmp_path / "v.jsonl"), "--format-token", "[RGN]"]) == 0
    found = torch.tensor(json.loads((tmp_path / "v.jsonl").read_text())["embedding"])
    want = encoder.encode_texts([encoder.compose("word1 word2", "word3")], format="regression")[0]
    assert (found - want).abs().max() < 1e-6
    capsys.readouterr()
    assert cli.main([*given, str(tmp_path / "x.jsonl")]) == 2
    assert "Name it with --format-token: one of [CLF], [RGN]" in capsys.readouterr().err
    Encoder(EncoderSettings(str(folder), max_length=40))
    assert "reads control codes, which are left out here" in caplog.text
