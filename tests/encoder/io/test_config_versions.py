"""Configurations of ModernBERT and of decoders as either version of transformers writes them."""

import json

import pytest
import torch
import transformers

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.config_versions import for_installed
from sciembed_train.encoder.io.load_backbone import checked_config
from sciembed_train.encoder.unpadded.modernbert import ModernBert
from sciembed_train.errors import UserError
from tests.helpers.tiny_models import write_tiny_decoder, write_tiny_modernbert

FOUR = int(transformers.__version__.split(".")[0]) == 4
OLD = {"global_attn_every_n_layers": 2, "global_rope_theta": 9000.0, "local_rope_theta": 500.0}
NEW = {
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_theta": 9000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 500.0, "rope_type": "default"},
    },
}


@pytest.fixture
def folder(tmp_path):
    return write_tiny_modernbert(tmp_path, num_hidden_layers=3)


def rewrite(folder, entries):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content = {key: value for key, value in content.items() if key not in {**OLD, **NEW}}
    path.write_text(json.dumps({**content, **entries}))


def test_the_words_of_either_version_make_the_same_model(folder):
    vectors, windows = [], []
    for entries in (OLD, NEW):
        rewrite(folder, entries)
        encoder = Encoder(EncoderSettings(str(folder), "mean")).eval()
        windows.append([ModernBert().window(layer) for layer in encoder.backbone.layers])
        vectors.append(encoder.encode_texts(["word1 word2 a b c d e f g", "word3"]))
    assert windows == [[None, 4, None]] * 2
    assert torch.equal(*vectors)
    rewrite(folder, {**NEW, "rope_parameters": {}})
    other = Encoder(EncoderSettings(str(folder), "mean")).eval()
    assert not torch.allclose(other.encode_texts(["word1 word2 a b c d e f g"]), vectors[0][:1])


@pytest.mark.parametrize("word", ["absolute", "sans_pos", None])
def test_what_a_file_says_of_a_table_of_positions_is_passed_over(folder, word):
    rewrite(folder, {"position_embedding_type": word})
    assert Encoder(EncoderSettings(str(folder))).unpadded


@pytest.mark.skipif(not FOUR, reason="transformers 5 has words for all of it")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"]}, "other layers than each n-th"),
        ({"layer_types": ["full_attention", "full_attention", "sliding_attention"]}, "each n-th"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "full_attention of type 'yarn', which transformers 4 does not read",
        ),
    ],
)
def test_what_version_4_cannot_compute_is_refused(folder, entries, message):
    rewrite(folder, entries)
    with pytest.raises(UserError, match=message):
        checked_config(folder)


def test_other_families_keep_their_entries():
    assert for_installed("bert", {"layer_types": 3}, "here.json") == {"layer_types": 3}


@pytest.mark.skipif(not FOUR, reason="transformers 5 takes neither unasked")
def test_version_4_attends_and_compiles_as_it_is_told(folder):
    config = checked_config(folder)
    assert config._attn_implementation == "sdpa"
    assert config.reference_compile is False
    saved = json.loads(config.to_json_string(use_diff=False))
    assert "reference_compile" not in saved
    assert "attn_implementation" not in saved


# What version 4 writes of a decoder, and the same as version 5 does.
DECODERS = {
    "qwen3": (
        {"rope_theta": 700.0, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 700.0, "rope_type": "default"}},
    ),
    "llama": (
        {"rope_theta": 700.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_parameters": {"rope_theta": 700.0, "rope_type": "linear", "factor": 8.0}},
    ),
    "gemma3_text": (
        {"rope_theta": 700.0, "rope_local_base_freq": 20.0, "rope_scaling": None},
        {
            "rope_parameters": {
                "full_attention": {"rope_theta": 700.0, "rope_type": "default"},
                "sliding_attention": {"rope_theta": 20.0, "rope_type": "default"},
            }
        },
    ),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_the_words_of_either_version_make_the_same_decoder(kind, tmp_path):
    folder, vectors = write_tiny_decoder(tmp_path, kind), []
    path = folder / "config.json"
    words = {"rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq"}
    plain = {k: v for k, v in json.loads(path.read_text()).items() if k not in words}
    for entries in (*DECODERS[kind], {}):
        path.write_text(json.dumps({**plain, **entries}))
        encoder = Encoder(EncoderSettings(str(folder), "last", 64)).eval()
        vectors.append(encoder.encode_texts(["word1 word2 a b c d e f g", "word3"]))
    assert torch.equal(*vectors[:2])
    assert not torch.allclose(vectors[0], vectors[2])


@pytest.mark.skipif(not FOUR, reason="transformers 5 has words for all of it")
def test_scaled_angles_of_near_layers_are_refused(tmp_path):
    folder = write_tiny_decoder(tmp_path, "gemma3_text")
    path = folder / "config.json"
    parameters = {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}
    content = {**json.loads(path.read_text()), "rope_parameters": parameters}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="sliding_attention of type 'linear', which transformers 4"):
        checked_config(folder)
