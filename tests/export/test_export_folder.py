import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.training_titles import read_titles, title_numbers
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.text.input_format import InputFormat
from tests.helpers.exports import CARD, contents, encoder_of


def test_what_vectors_are_compared_by_is_recorded_everywhere(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, pooling="mean")
    for name in ("euclidean", "cosine", None):
        card = {**CARD, **({"similarity": name} if name else {})}
        folder = tmp_path / str(name)
        export_encoder(encoder, folder, card)
        name = name or "euclidean"
        assert json.loads((folder / "sciembed.json").read_text())["similarity"] == name
        about = json.loads((folder / "config_sentence_transformers.json").read_text())
        assert about["similarity_fn_name"] == name
        card_text = (folder / "README.md").read_text()
        assert f"| compared by | {name.capitalize() if name == 'euclidean' else name}" in card_text
    with pytest.raises(ValueError, match="'dot'"):
        export_encoder(encoder, tmp_path / "dot", {"similarity": "dot"})


def test_the_record_says_how_the_encoder_was_made_and_loads_again(tiny_bert, tmp_path):
    input_format = InputFormat(separator="space", control_code="[CLF]")
    encoder = encoder_of(tiny_bert, pooling="mean", max_length=100, input_format=input_format)
    export_encoder(encoder, tmp_path / "m", CARD)
    record = json.loads((tmp_path / "m" / "sciembed.json").read_text())
    assert record.items() >= CARD.items()
    assert record["pooling"] == "mean"
    assert record["max_length"] == 100
    assert record["input_format"] == input_format.as_dict()
    assert record["versions"]["torch"] == torch.__version__
    again = Encoder.load(tmp_path / "m")
    assert again.settings.input_format == input_format
    assert again.settings.pooling == "mean"
    text = [encoder.compose("word1", "word2 word3")]
    assert torch.equal(again.encode_texts(text), encoder.encode_texts(text))


def test_the_base_model_is_named_and_its_place_not_published(tiny_bert, tmp_path):
    base = shutil.copytree(tiny_bert, tmp_path / "first_run" / "export")
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", {**CARD, "base_model": str(base)})
    assert "| base model | first_run |" in (tmp_path / "m" / "README.md").read_text()
    for name, content in contents(tmp_path / "m").items():
        assert str(tiny_bert.parent).encode() not in content, name
        assert str(tmp_path).encode() not in content, name


def test_training_dropout_and_mode_are_left_as_they_were(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, dropout=0.3).train()
    export_encoder(encoder, tmp_path / "m", CARD)
    assert encoder.training
    assert encoder.backbone.config.hidden_dropout_prob == 0.3
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["hidden_dropout_prob"] == 0.1  # the backbone's own


def test_a_half_precision_encoder_is_exported_in_fp32_and_not_changed(tiny_bert, tmp_path):
    from safetensors.torch import load_file

    encoder = encoder_of(tiny_bert).bfloat16()
    export_encoder(encoder, tmp_path / "m", CARD)
    assert encoder.backbone.embeddings.word_embeddings.weight.dtype == torch.bfloat16
    state = load_file(tmp_path / "m" / "model.safetensors")
    assert {t.dtype for t in state.values()} == {torch.float32}


def test_the_same_encoder_is_exported_to_the_same_bytes(tiny_bert, tmp_path):
    for place in "ab":
        export_encoder(encoder_of(tiny_bert), tmp_path / place / "m", CARD)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_export_imports_no_lightning():
    code = (
        "import sys, sciembed_train.export.export_folder, sciembed_train.commands.export; "
        "print([m for m in sys.modules if 'lightning' in m or m == 'sentence_transformers'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_titles_of_the_training_are_a_file_that_the_card_names(tiny_bert, tmp_path):
    titles = title_numbers(np.arange(-3, 40))
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD, titles=titles)
    assert np.array_equal(read_titles(tmp_path / "m"), titles)
    record = json.loads((tmp_path / "m" / "sciembed.json").read_text())
    assert record["training_titles"] == {"file": "training_titles.npy", "titles": 42}
    card = (tmp_path / "m" / "README.md").read_text()
    assert "`training_titles.npy` has hashes of the 42 titles of papers" in card
    assert "| training titles" not in card
    export_encoder(encoder_of(tiny_bert), tmp_path / "n", CARD)
    assert read_titles(tmp_path / "n") is None
    assert "Which titles were read in training is not recorded" in (
        (tmp_path / "n" / "README.md").read_text()
    )


def test_what_was_excluded_is_on_the_card(tiny_bert, tmp_path):
    place = {"entries": 7, "found by id": 5, "sha256": {"out.txt": "0f" * 32}}
    card = {**CARD, "training": {"excluded": {"papers": 10, "out.txt": place}}}
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", card)
    text = (tmp_path / "m" / "README.md").read_text()
    assert "| training: excluded: papers | 10 |" in text
    assert "| training: excluded: out.txt: found by id | 5 |" in text
    assert f"| training: excluded: out.txt: sha256: out.txt | {'0f' * 32} |" in text


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"pooling": "mix"}, id="mix", marks=pytest.mark.slow),
        pytest.param({"pooling": "sentences"}, id="sentences"),
        pytest.param({"control_codes": True}, id="codes"),
    ],
)
def test_every_layout_is_verified_behind_the_prompt_of_papers(tiny_bert, tmp_path, settings):
    form = InputFormat(prompt="word2: ")
    encoder = encoder_of(tiny_bert, input_format=form, **settings)
    card = CARD | ({"similarity": "best_match"} if settings.get("pooling") == "sentences" else {})
    differences = export_encoder(encoder, tmp_path / "m", card)
    assert differences
    assert all(value is None or value <= 1e-5 for value in differences.values())
    assert Encoder.load(tmp_path / "m").settings.input_format == form
