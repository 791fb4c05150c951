"""The export of an encoder that mixes its layers: a folder in which nobody finds a plain model."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.export.custom_model import with_custom_codes
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import layer_mix_layout
from sciembed_train.export.verification import ExportError
from sciembed_train.inference.embedding import open_encoder
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.text.input_format import InputFormat
from tests.helpers.masked_models import write_masked_lm

CARD = {"method": "cocite", "seed": 7, "base_model": "somebody/some-bert"}
TEXTS = ["word1 word2 word3", "word4 " * 700, "word5"]
UNLIKE = [[0.3, -1.2, 0.8]]


def mixing(folder, masked_lm: bool | str = False, **changes):
    values = {"pooling": "mix", "max_length": 512, "dropout": 0.2, **changes}
    encoder = Encoder(EncoderSettings(str(folder), **values), masked_lm=masked_lm)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        encoder.pooling.mix.copy_(torch.tensor(UNLIKE))
        # The layers of a new BERT change next to nothing.
        for parameter in encoder.backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    return encoder


@pytest.fixture(scope="module")
def bert(tiny_bert, tmp_path_factory):
    """An encoder and its export, in a folder whose name holds a model type's."""
    encoder = mixing(tiny_bert, input_format=InputFormat(separator="space", control_code="word1"))
    folder = tmp_path_factory.mktemp("mix") / "a-bert-model"
    return encoder, folder, export_encoder(encoder, folder, CARD)


def run_reader(folder, texts):
    return with_custom_codes([folder / "hf"], texts)[0][1]


@pytest.mark.slow
def test_every_library_gives_the_mixed_vector_or_refuses(bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel

    encoder, folder, differences = bert
    assert set(differences) == {"AutoModel with trust_remote_code", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    expected = encoder.encode_texts(TEXTS)
    last = Encoder.load(folder / "st" / "0_Transformer").encode_texts(TEXTS)
    assert (expected - last).abs().max() > 0.5  # what must not be given

    st = sentence_transformers.SentenceTransformer(str(folder / "st"), device="cpu")
    assert (st.max_seq_length, st.similarity_fn_name) == (512, "euclidean")
    assert (torch.from_numpy(st.encode(TEXTS)) - expected).abs().max() < 1e-5
    assert (run_reader(folder, TEXTS) - expected).abs().max() < 1e-5
    for place in (folder, folder / "st", folder / "hf"):
        with pytest.raises((OSError, ValueError)):
            AutoModel.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    for place in (folder, folder / "hf"):
        with pytest.raises((OSError, ValueError)):
            sentence_transformers.SentenceTransformer(
                str(place), device="cpu", local_files_only=True, trust_remote_code=False
            )


@pytest.mark.slow
def test_sentence_transformers_with_trust_gives_the_mix_from_the_other_part_too(bert, monkeypatch):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder, folder, _ = bert
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder.parent))
    monkeypatch.syspath_prepend(str(folder.parent))
    model = sentence_transformers.SentenceTransformer(
        str(folder / "hf"), device="cpu", local_files_only=True, trust_remote_code=True
    )
    vectors = torch.from_numpy(model.encode(TEXTS))
    assert (vectors - encoder.encode_texts(TEXTS)).abs().max() < 1e-5
    # Where all layers are asked for, they are the backbone's own.
    batch = model.tokenizer(TEXTS[:1], return_tensors="pt")
    inner = model[0].auto_model
    with torch.inference_mode():
        found = inner(**batch, output_hidden_states=True)
        as_tuple = inner(**batch, return_dict=False)
        want = Encoder.load(folder / "st" / "0_Transformer").backbone(
            **batch, output_hidden_states=True
        )
    assert len(found.hidden_states) == 3
    assert (found.hidden_states[1] - want.hidden_states[1]).abs().max() < 1e-6
    assert torch.equal(as_tuple[0], found.last_hidden_state)
    assert inner(**batch).hidden_states is None


def test_the_whole_folder_loads_here_without_running_its_code(bert, tmp_path):
    encoder, folder, _ = bert
    copied = shutil.copytree(folder, tmp_path / "m")
    (copied / "hf" / "layer_mix.py").write_text("raise SystemExit('was run')")
    again = Encoder.load(copied)
    assert torch.equal(again.pooling.mix, encoder.pooling.mix)
    assert again.settings.input_format == encoder.settings.input_format
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert again.backbone_config() == encoder.backbone_config()
    opened = open_encoder(copied, EmbedSettings(device="cpu"))
    assert torch.equal(opened.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    further = Encoder(EncoderSettings(str(copied), "mix"))
    assert torch.equal(further.pooling.mix, encoder.pooling.mix)


def test_the_parts_hold_what_was_trained_and_no_place_of_this_machine(bert, tiny_bert):
    encoder, folder, _ = bert
    shares = load_file(folder / "st" / "1_WeightedLayerPooling" / "model.safetensors")
    assert torch.equal(shares["layer_weights"], torch.softmax(torch.tensor(UNLIKE[0]), 0))
    assert torch.equal(load_file(folder / "hf" / "model.safetensors")["mix"], encoder.pooling.mix)
    config = json.loads((folder / "st" / "0_Transformer" / "config.json").read_text())
    assert config["output_hidden_states"] is True
    assert config["hidden_dropout_prob"] == 0.1  # the backbone's own
    modules = json.loads((folder / "st" / "modules.json").read_text())
    assert [m["type"].removeprefix("sentence_transformers.models.") for m in modules] == [
        "Transformer",
        "WeightedLayerPooling",
        "Pooling",
    ]
    record = json.loads((folder / "sciembed.json").read_text())
    assert record["pooling"] == "mix"
    assert record["mix"] == encoder.pooling.mix[0].tolist()
    assert encoder.settings.dropout == encoder.backbone.config.hidden_dropout_prob == 0.2
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tiny_bert.parent).encode() not in content, path
            assert str(folder.parent).encode() not in content, path


def test_the_card_says_which_part_is_which_and_its_code_runs(bert, monkeypatch):
    pytest.importorskip("sentence_transformers")
    encoder, folder, _ = bert
    card = (folder / "README.md").read_text()
    assert "library_name: sciembed_train" in card
    assert "| `st/` | for sentence-transformers" in card
    shares = " ".join(f"{s:.3f}" for s in torch.softmax(encoder.pooling.mix[0], 0).tolist())
    assert f"| shares in the mix | {shares} (" in card
    assert "pooler_output" not in card
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder.parent))
    monkeypatch.syspath_prepend(str(folder.parent))
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(block.replace("PATH_OF_THIS_MODEL", str(folder)), names)
        texts = [encoder.compose(p["title"], p["abstract"]) for p in names["papers"]]
        assert names["texts"] == texts
        found = torch.as_tensor(names["embeddings"])
        assert (found - encoder.encode_texts(texts)).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_backbones_and_heads_are_exported_whole(kind, tmp_path):
    from transformers import AutoModelForMaskedLM

    encoder = mixing(write_masked_lm(tmp_path / "b", kind), masked_lm=True)
    differences = export_encoder(encoder, tmp_path / "m", {"similarity": "cosine"})
    assert len(differences) == 3
    assert all(d is not None and d < 1e-5 for d in differences.values())
    again = Encoder.load(tmp_path / "m", masked_lm="auto")
    states = encoder.state_dict()
    assert all(torch.equal(t, states[name]) for name, t in again.state_dict().items())
    assert again.head is not None
    place = tmp_path / "m" / "st" / "0_Transformer"
    _, info = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.slow
def test_the_commands_export_import_and_embed_a_mix(tiny_bert, tmp_path, capsys):
    encoder = mixing(tiny_bert)
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    record = {"version": 1, **describe(encoder), "method": "cocite"}
    torch.save({"sciembed": record, "state_dict": state}, tmp_path / "last.ckpt")
    folder = tmp_path / "run" / "export"
    assert cli.main(["export", str(tmp_path / "last.ckpt"), "--to", str(folder)]) == 0
    assert "AutoModel with trust_remote_code differs by" in capsys.readouterr().out
    # Again over it, and then as a source.
    again = ["export", str(tmp_path / "last.ckpt"), "--to", str(folder), "--overwrite"]
    assert cli.main(again) == 0
    capsys.readouterr()
    assert cli.main(["import", str(folder), "--to", str(tmp_path / "again")]) == 0
    assert "a learned mix of every layer's first-token state" in capsys.readouterr().out
    assert torch.equal(Encoder.load(tmp_path / "again").pooling.mix, encoder.pooling.mix)
    papers = tmp_path / "papers.jsonl"
    papers.write_text(json.dumps({"paper_id": "p", "title": "word1", "abstract": "word2"}) + "\n")
    import numpy as np

    for model in (tmp_path / "run", tmp_path / "again"):
        to = tmp_path / f"{model.name}.npy"
        given = ["embed", "--model", str(model), "--input", str(papers), "--to", str(to)]
        assert cli.main([*given, "--device", "cpu"]) == 0
        want = encoder.encode_texts([encoder.compose("word1", "word2")]).numpy()
        assert np.abs(np.load(to) - want).max() < 1e-6


def spoil_state(path, name):
    state = load_file(path)
    state[name] = state[name].clone()
    state[name].flatten()[0] += 1e-1
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        pytest.param("st", "SentenceTransformer computes other embeddings", marks=pytest.mark.slow),
        pytest.param(
            "hf",
            "AutoModel with trust_remote_code computes other embeddings",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "code",
            "does not load hf/ with its own code: .*SystemExit|was run",
            marks=pytest.mark.slow,
        ),
        ("top", "AutoModel loads the folder itself without the code"),
        ("type", "AutoModel loads hf without the code"),
    ],
)
def test_a_part_that_gives_another_vector_is_noticed_and_removed(
    what, message, tiny_bert, tmp_path, monkeypatch
):
    pytest.importorskip("sentence_transformers")
    write = layer_mix_layout.write_parts

    def spoil(encoder, folder, similarity):
        write(encoder, folder, similarity)
        backbone = folder / "st" / "0_Transformer"
        if what == "st":
            path = folder / "st" / "1_WeightedLayerPooling" / "model.safetensors"
            spoil_state(path, "layer_weights")
        if what == "hf":
            spoil_state(folder / "hf" / "model.safetensors", "mix")
        if what == "code":
            (folder / "hf" / "layer_mix.py").write_text("raise RuntimeError('was run')")
        if what in ("top", "type"):
            place = folder if what == "top" else folder / "hf"
            for name in ("config.json", "model.safetensors"):
                shutil.copyfile(backbone / name, place / name)

    monkeypatch.setattr(layer_mix_layout, "write_parts", spoil)
    with pytest.raises(ExportError, match=message):
        export_encoder(mixing(tiny_bert), tmp_path / "sub" / "m", CARD)
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.slow
def test_a_backbone_without_a_pooler_is_exported_without_one(tiny_bert, tmp_path):
    encoder = mixing(tiny_bert)
    encoder.backbone.pooler = None
    export_encoder(encoder, tmp_path / "m", CARD)
    assert Encoder.load(tmp_path / "m").backbone.pooler is None


@pytest.mark.slow
def test_where_a_norm_stands_above_the_layers_one_folder_is_for_both_libraries(
    tiny_modernbert, tmp_path
):
    from sentence_transformers import SentenceTransformer

    encoder, folder = mixing(tiny_modernbert), tmp_path / "m"
    assert set(export_encoder(encoder, folder, CARD)) == {"AutoModel with trust_remote_code"}
    expected = encoder.encode_texts(TEXTS)
    assert (run_reader(folder, TEXTS) - expected).abs().max() < 1e-5
    assert (Encoder.load(folder).encode_texts(TEXTS) - expected).abs().max() < 1e-6
    # sentence-transformers would mix another last state, and finds no modules that do.
    with pytest.raises((OSError, ValueError)):
        SentenceTransformer(str(folder / "st"), device="cpu")
    card = (folder / "README.md").read_text()
    assert 'SentenceTransformer("PATH_OF_THIS_MODEL/hf", trust_remote_code=True)' in card
    assert "cannot compute the mix" in card
