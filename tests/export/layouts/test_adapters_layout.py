"""The export of an encoder with adapters: AdapterHub's files, and a whole model for each format."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train import cli
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.export.custom_model import with_custom_codes
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import adapters_layout
from sciembed_train.export.verification import ExportError
from sciembed_train.text.input_format import FORMATS
from tests.helpers.adapter_models import WIDE, stir

adapters_library = pytest.importorskip("adapters")

CARD = {"method": "tasks", "seed": 7, "base_model": "somebody/some-bert"}
TEXTS = ["word1 word2 word3", "word4 " * 700, "word5"]

# With peft installed, transformers misses peft's own keys in a file of the library adapters.
REFUSALS = (OSError, ValueError, KeyError)


def adapted(folder, config=WIDE, formats=tuple(FORMATS), **changes) -> Encoder:
    wanted = AdapterSettings(config=config, formats=formats)
    encoder = Encoder(EncoderSettings(str(folder), dropout=0.2, adapters=wanted, **changes))
    stir(encoder.backbone, encoder.format_reader)
    return encoder


@pytest.fixture(scope="module")
def bert(tiny_bert, tmp_path_factory):
    """An encoder and its export, in a folder whose name holds a model type's."""
    encoder = adapted(tiny_bert)
    folder = tmp_path_factory.mktemp("adapted") / "a-bert-model"
    return encoder, folder, export_encoder(encoder, folder, CARD)


@pytest.mark.slow  # One format of it is read by test_model_card_usage.
def test_every_library_gives_the_format_s_vector_or_refuses(bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel

    encoder, folder, differences = bert
    assert set(differences) == {"AutoModel and adapters", "AutoModel with trust_remote_code"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    plain = Encoder.load(folder / "base").encode_texts(TEXTS)
    again = Encoder.load(folder)
    places = [folder / "hf" / code for code in FORMATS.values()]
    found = [vectors for _, vectors in with_custom_codes(places, TEXTS)]
    library = adapters_layout.with_adapterhub(encoder, folder, TEXTS)
    for name, one, other in zip(FORMATS, found, library, strict=True):
        expected = encoder.encode_texts(TEXTS, format=name)
        assert (expected - plain).abs().max() > 0.5  # what must not be given
        assert (again.encode_texts(TEXTS, format=name) - expected).abs().max() < 1e-6
        assert (one - expected).abs().max() < 1e-5
        assert (other - expected).abs().max() < 1e-5
    for place in (
        folder,
        folder / "hf",
        *(folder / "hf").iterdir(),
        *(folder / "adapters").iterdir(),
    ):
        with pytest.raises(REFUSALS):
            AutoModel.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    for place in (folder, *(folder / "hf").iterdir()):
        with pytest.raises(REFUSALS):
            sentence_transformers.SentenceTransformer(
                str(place), device="cpu", local_files_only=True, trust_remote_code=False
            )


@pytest.fixture(scope="module")
def fused(bert, tmp_path_factory):
    """Fusions over the adapters of that folder, and their export."""
    _, folder, _ = bert
    wanted = AdapterSettings(
        ("adhoc_query", "proximity"), WIDE, fusion="dynamic", fused=tuple(FORMATS)
    )
    encoder = Encoder(EncoderSettings(str(folder), dropout=0.2, adapters=wanted))
    for parameter in encoder.backbone.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(4))
    to = tmp_path_factory.mktemp("fused") / "model"
    return encoder, to, export_encoder(encoder, to, CARD)


@pytest.mark.slow
def test_fused_adapters_give_their_vectors_in_every_library_or_refuse(fused, bert, tmp_path):
    from transformers import AutoModel

    encoder, folder, differences = fused
    assert set(differences) == {"AutoModel and adapters", "AutoModel with trust_remote_code"}
    names = ["README.md", "adapters", "base", "fusion", "hf", "sciembed.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    for kind, codes in (("adapters", FORMATS.values()), ("fusion", ("[PRX]", "[QRY]"))):
        assert {p.name for p in (folder / kind).iterdir()} == set(codes)
    for code in FORMATS.values():  # as they were given
        name = f"adapters/{code}/adapter.safetensors"
        given, kept = load_file(bert[1] / name), load_file(folder / name)
        assert given.keys() == kept.keys()
        assert all(torch.equal(given[key], kept[key]) for key in given)
    places = [folder / "hf" / code for code in ("[QRY]", "[PRX]")]
    found = [vectors for _, vectors in with_custom_codes(places, TEXTS)]
    again = Encoder.load(folder)
    for name, own in zip(("adhoc_query", "proximity"), found, strict=True):
        expected = encoder.encode_texts(TEXTS, format=name)
        assert (expected - bert[0].encode_texts(TEXTS, format=name)).abs().max() > 0.1
        assert (own - expected).abs().max() < 1e-5
        assert (again.encode_texts(TEXTS, format=name) - expected).abs().max() < 1e-6
    for place in (folder, *(folder / "hf").iterdir()):
        with pytest.raises(REFUSALS):
            AutoModel.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    # With adapters asked for alone, those of the folder are read.
    alone = Encoder.load(folder, adapters=AdapterSettings(config=WIDE)).eval()
    want = bert[0].encode_texts(TEXTS, format="regression")
    assert (alone.encode_texts(TEXTS, format="regression") - want).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["dynamic", "static"])
def test_the_code_of_fused_adapters_takes_either_kind(bert, tmp_path, fusion):
    wanted = AdapterSettings(("proximity",), WIDE, fusion=fusion, fused=("regression", "proximity"))
    encoder = Encoder(EncoderSettings(str(bert[1]), "mean", adapters=wanted))
    differences = export_encoder(encoder, tmp_path / "model", CARD)
    assert len(differences) == 2
    config = json.loads((tmp_path / "model" / "hf" / "[PRX]" / "config.json").read_text())
    assert (config["model_type"], config["adapters"]) == ("sciembed_fused", 2)
    assert config["values"] == (fusion == "dynamic")


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_sentence_transformers_with_trust_gives_the_same(
    tiny_roberta, tmp_path, monkeypatch, pooling
):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = adapted(tiny_roberta, formats=("adhoc_query",), pooling=pooling)
    folder = tmp_path / "model"
    export_encoder(encoder, folder, {**CARD, "similarity": "cosine"})
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    model = sentence_transformers.SentenceTransformer(
        str(folder / "hf" / "[QRY]"),
        device="cpu",
        local_files_only=True,
        trust_remote_code=True,
    )
    assert (model.max_seq_length, model.similarity_fn_name) == (512, "cosine")
    found = torch.from_numpy(model.encode(TEXTS))
    assert (found - encoder.encode_texts(TEXTS)).abs().max() < 1e-5


def test_the_folder_says_what_it_is(bert):
    encoder, folder, _ = bert
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["README.md", "adapters", "base", "hf", "sciembed.json"]
    content = json.loads((folder / "sciembed.json").read_text())
    assert content["backbone"] == "base"
    assert content["adapters"] == {"formats": list(FORMATS), "config": WIDE, "reduction": None}
    for code in FORMATS.values():
        config = json.loads((folder / "hf" / code / "config.json").read_text())
        assert config["model_type"] == "sciembed_adapted"
        assert config["hidden_size"] == 32
        assert config["backbone"]["hidden_dropout_prob"] == 0.1  # the base's own
        own = load_file(folder / "hf" / code / "model.safetensors")
        saved = load_file(folder / "adapters" / code / "adapter.safetensors")
        for key, value in saved.items():
            assert torch.equal(own["backbone." + key.replace(f"adapters.{code}.", "")], value)
    card = (folder / "README.md").read_text()
    for said in (
        *FORMATS.values(),
        "--format-token '[PRX]'",
        "trust_remote_code=True",
        "load_adapter",
        "The training tasks' labels and relations were the training signal",
    ):
        assert said in card
    assert "library_name: sciembed_train" in card
    assert encoder.settings.backbone not in "".join(
        p.read_text() for p in folder.rglob("*") if p.suffix in (".json", ".md")
    )


SLOW_CARDS = [pytest.param(name, marks=pytest.mark.slow) for name in ("mean", "cls", "fused")]


@pytest.mark.parametrize("pooling", SLOW_CARDS)
def test_the_card_s_code_gives_the_vectors(tiny_bert, bert, tmp_path, pooling):
    folder = tmp_path / "model"
    if pooling == "fused":
        wanted = AdapterSettings(config=WIDE, fusion="dynamic")
        encoder = Encoder(EncoderSettings(str(bert[1]), max_length=12, adapters=wanted))
    else:
        encoder = adapted(tiny_bert, pooling=pooling, max_length=12)
    export_encoder(encoder, folder, CARD)
    card = (folder / "README.md").read_text()
    texts = [
        encoder.compose("A first title", "What the paper says."),
        encoder.compose("A title without an abstract", None),
    ]
    expected = encoder.encode_texts(texts, format="proximity")
    blocks = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert len(blocks) == 3
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    for number, block in enumerate(blocks):
        code = block.replace("PATH_OF_THIS_MODEL", str(folder))
        code += "\nimport torch\nvectors = torch.as_tensor(embeddings).detach()\n"
        code += f"torch.save(vectors, '{tmp_path}/{number}')\n"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        vectors = torch.load(tmp_path / str(number), weights_only=True)
        assert vectors.shape == expected.shape
        assert (vectors - expected).abs().max() < 1e-5


def test_other_configurations_have_no_whole_models_and_say_so(tiny_bert, tmp_path):
    encoder = adapted(tiny_bert, "double_seq_bn[reduction_factor=4]", ("proximity",))
    differences = export_encoder(encoder, tmp_path / "model", CARD)
    assert set(differences) == {"AutoModel and adapters"}
    assert not (tmp_path / "model" / "hf").exists()
    assert "hf/" not in (tmp_path / "model" / "README.md").read_text()
    assert "run by the library alone" in str(adapters_layout.why_no_own_code(encoder))


@pytest.mark.slow
def test_an_export_that_gives_other_vectors_is_not_left_behind(tiny_bert, tmp_path, monkeypatch):
    write = adapters_layout.write_parts

    def wrongly(encoder, folder, similarity):
        write(encoder, folder, similarity)
        path = folder / "hf" / "[RGN]" / "model.safetensors"
        state = load_file(path)
        key = "backbone.encoder.layer.1.output.adapter_up.bias"
        # One entry alone: the norm that follows takes out what is added to all.
        state[key][0] += 0.1
        save_file(state, path, metadata={"format": "pt"})

    monkeypatch.setattr(adapters_layout, "write_parts", wrongly)
    with pytest.raises(ExportError, match=r"trust_remote_code \(\[RGN\]\) computes other"):
        export_encoder(adapted(tiny_bert, formats=("regression",)), tmp_path / "model", CARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_checkpoint_is_exported_and_embedded_by_a_named_format(tiny_bert, tmp_path, capsys):
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    encoder = adapted(base, formats=("regression", "proximity"))
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    record = {"version": 1, "method": "tasks", **describe(encoder)}
    torch.save({"sciembed": record, "state_dict": state, "global_step": 3}, tmp_path / "a.ckpt")
    export = ["export", str(tmp_path / "a.ckpt"), "--to", str(tmp_path / "model")]
    base.rename(tmp_path / "moved")
    assert cli.main(export) == 2
    assert "`export --base` names its new place" in capsys.readouterr().err
    assert cli.main([*export, "--base", str(tmp_path / "moved")]) == 0
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": "1", "title": "word1 word2", "abstract": "word3"}\n')
    given = ["embed", "--model", str(tmp_path / "model"), "--input", str(papers), "--to"]
    for token, name in (("[PRX]", "proximity"), ("regression", "regression")):
        to = tmp_path / f"{name}.jsonl"
        assert cli.main([*given, str(to), "--format-token", token]) == 0
        found = torch.tensor(json.loads(to.read_text())["embedding"])
        want = encoder.encode_texts([encoder.compose("word1 word2", "word3")], format=name)[0]
        assert (found - want).abs().max() < 1e-6
    capsys.readouterr()
    assert cli.main([*given, str(tmp_path / "x.jsonl")]) == 2
    assert "Name it with --format-token: one of [RGN], [PRX]" in capsys.readouterr().err
    plain = ["embed", "--model", str(tiny_bert), "--input", str(papers), "--to"]
    assert cli.main([*plain, str(tmp_path / "y.jsonl"), "--format-token", "[PRX]"]) == 2
    assert "reads every text in the same way, so it takes no format" in capsys.readouterr().err
