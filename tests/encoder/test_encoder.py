"""Settings, loading, saving and encoding of texts."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.find_model import find_folder
from sciembed_train.encoder.io.model_metadata import read_metadata, tokenizer_folder
from sciembed_train.encoder.settings import EncoderSettings, position_limit
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

TEXTS = ["word1 word2 word3", "word4", "word5 " * 40, ""]


@pytest.fixture
def copy(tiny_bert, tmp_path):
    """A folder of the tiny BERT that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_bert, folder)
    return folder


def change(path, **values):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone", ""),
        ("pooling", "max"),
        ("forward", "fast"),
        ("max_length", 2),
        ("max_tokens_per_forward", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_and_value(key, value):
    with pytest.raises(UserError, match=f"encoder.{key} is {value!r}"):
        EncoderSettings(**{"backbone": "x", key: value})


def test_settings_survive_json():
    settings = EncoderSettings(
        "x", "mean", input_format=InputFormat("space", "sep", "[CLF]"), dropout=0.0
    )
    assert EncoderSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_a_new_encoder_trains_with_dropout_and_a_loaded_one_evaluates(tiny_bert):
    # Lightning keeps the modes it finds; transformers hands out models in evaluation mode.
    encoder = Encoder(EncoderSettings(str(tiny_bert)))
    assert all(m.training for m in encoder.modules())
    assert not any(m.training for m in Encoder.load(tiny_bert).modules())


def test_the_pooler_is_frozen_and_keeps_its_name(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert)))
    frozen = {n for n, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}


def test_saving_and_loading_give_the_same_vectors_and_settings(tiny_roberta, tmp_path):
    input_format = InputFormat("space", "joined", "[CLF]")
    settings = EncoderSettings(str(tiny_roberta), "mean", 100, input_format, dropout=0.3)
    encoder = Encoder(settings)
    encoder.save(tmp_path / "a", {"method": "specter", "seed": 3})
    again = Encoder.load(tmp_path / "a")
    assert (again.settings.pooling, again.settings.max_length) == ("mean", 100)
    assert again.settings.input_format == input_format
    torch.testing.assert_close(
        again.encode_texts(TEXTS), encoder.encode_texts(TEXTS), rtol=0, atol=0
    )
    record = json.loads((tmp_path / "a/sciembed.json").read_text())
    assert (record["method"], record["seed"], record["version"]) == ("specter", 3, 1)
    config = json.loads((tmp_path / "a/config.json").read_text())
    # A setting of this training, not of the model that others fine-tune further.
    assert config["hidden_dropout_prob"] == 0.1
    assert encoder.backbone.config.hidden_dropout_prob == 0.3
    assert str(tiny_roberta) not in "".join(p.read_text() for p in (tmp_path / "a").glob("*.json"))


def test_a_saved_folder_is_what_transformers_loads(tiny_bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=32))
    encoder.save(tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == 32
    with torch.no_grad():
        vectors = model.eval()(**batch).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode_texts(TEXTS), vectors, rtol=0, atol=1e-5)


def test_arguments_of_load_take_the_place_of_what_is_recorded(tiny_bert, tmp_path):
    Encoder(EncoderSettings(str(tiny_bert), "mean", 64)).save(tmp_path)
    encoder = Encoder.load(tmp_path, pooling="cls", max_length=16, max_tokens_per_forward=99)
    assert (encoder.settings.pooling, encoder.settings.max_length) == ("cls", 16)
    assert encoder.max_tokens_per_forward == 99


def test_texts_are_cut_and_come_back_in_order_from_any_budget(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=20)).double()
    whole = encoder.encode_texts(TEXTS)
    assert whole.shape == (4, 32)
    assert whole.dtype == torch.float32
    assert not whole.is_inference()
    assert encoder.training
    assert encoder.rows(TEXTS).lengths.tolist() == [5, 3, 20, 2]
    done = []
    again = encoder.encode_texts(TEXTS, batch_tokens=1, progress=done.append)
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-6)
    assert done == [1, 1, 1, 1]
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    assert encoder.encode_texts([]).shape == (0, 32)


def test_bfloat16_encoding_is_near_and_not_the_same(tiny_bert):
    encoder = Encoder.load(tiny_bert)
    exact, near = encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS, precision="bf16")
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.1


def test_rows_longer_than_the_encoder_reads_are_refused(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=4))
    long = Encoder(EncoderSettings(str(tiny_bert))).rows(TEXTS)
    with pytest.raises(ValueError, match="max_length 4"):
        encoder(long)
    with pytest.raises(ValueError, match="no text"):
        encoder(long.select(torch.tensor([], dtype=torch.long)))


def test_the_position_table_bounds_the_length(tiny_bert, tiny_roberta):
    with pytest.raises(UserError, match="positions for 512 tokens"):
        Encoder(EncoderSettings(str(tiny_bert), max_length=513))
    # RoBERTa's table of 514 loses two places to the padding index.
    with pytest.raises(UserError, match="positions for 512 tokens"):
        Encoder(EncoderSettings(str(tiny_roberta), max_length=513))
    encoder = Encoder(EncoderSettings(str(tiny_roberta), max_length=512))
    assert position_limit(encoder.backbone.config) == 512
    assert encoder.encode_texts(["a" * 600]).isfinite().all()


def test_a_length_that_special_tokens_fill_is_refused(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=3))
    assert encoder.rows(["word1 word2"]).lengths.tolist() == [3]
    encoder.tokenizer.suffix = (3, 3)
    with pytest.raises(UserError, match="special tokens alone take 3; use 4"):
        Encoder(encoder.settings, encoder.backbone, encoder.tokenizer)


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(copy):
    weights = load_file(copy / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    weights[name] = weights[name][:100].clone()
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    change(copy / "config.json", vocab_size=100)
    with pytest.raises(UserError, match="embeddings for 100 tokens only"):
        Encoder(EncoderSettings(str(copy)))


def test_weights_that_lack_a_tensor_are_refused_and_never_random(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors .*encoder\.layer\.1\.output\.dense\.weight"):
        Encoder(EncoderSettings(str(copy)))


def test_weights_of_another_shape_are_refused(copy):
    change(copy / "config.json", intermediate_size=48)
    with pytest.raises(UserError, match=r"copy: .*"):
        Encoder(EncoderSettings(str(copy)))


def test_a_missing_pooler_is_left_out_and_not_invented(copy, tmp_path):
    weights = load_file(copy / "model.safetensors")
    weights = {k: v for k, v in weights.items() if not k.startswith("pooler.")}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    encoder = Encoder(EncoderSettings(str(copy)))
    assert all(p.requires_grad for p in encoder.parameters())
    encoder.save(tmp_path / "out")
    assert load_file(tmp_path / "out/model.safetensors").keys() == weights.keys()


def test_old_bin_weights_are_read_when_they_hold_tensors_only(copy, tiny_bert):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    want = Encoder.load(tiny_bert).encode_texts(TEXTS)
    torch.testing.assert_close(Encoder.load(copy).encode_texts(TEXTS), want, rtol=0, atol=0)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_bin_weights_that_would_run_code_are_refused_and_do_not_run(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    mark = tmp_path / "harmed"
    torch.save({"x": Harm(str(mark))}, copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="could not be loaded"):
        Encoder(EncoderSettings(str(copy)))
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"\xff" * 64])
def test_damaged_weights_are_named(copy, content):
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"copy: .*(safetensors|loaded)"):
        Encoder(EncoderSettings(str(copy)))


def test_a_folder_without_weights_or_configuration_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        Encoder(EncoderSettings(str(copy)))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        Encoder(EncoderSettings(str(copy)))


def test_an_unknown_model_type_or_tokenizer_is_refused(copy):
    change(copy / "config.json", model_type="no-such-model")
    with pytest.raises(UserError, match=r"config\.json: .*'no-such-model'"):
        Encoder(EncoderSettings(str(copy)))
    change(copy / "config.json", model_type="bert")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(UserError):
        Encoder(EncoderSettings(str(copy)))


@pytest.mark.parametrize(
    "name", ["no/such/folder", "./nowhere", "/nowhere", "nobody/no-such-model"]
)
def test_what_is_neither_folder_nor_hub_model_is_said(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="there is no such folder"):
        find_folder(name)


def test_a_file_in_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(UserError, match="is a file"):
        find_folder(tmp_path / "model.txt")


def sentence_transformers_layout(folder, pooling, kind="models", **bert):
    types = {
        "models": "sentence_transformers.models.{}",
        "new": "sentence_transformers.sentence_transformer.modules.{}",
    }[kind]
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": types.format("Transformer")},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": types.format("Pooling")},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": types.format("Normalize")},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps(bert))
    return modules


@pytest.mark.parametrize(
    ("kind", "pooling", "expected"),
    [
        ("models", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ("models", {"pooling_mode_mean_tokens": True}, "mean"),
        ("new", {"embedding_dimension": 32, "pooling_mode": "mean"}, "mean"),
        ("new", {"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_a_sentence_transformers_folder_tells_its_pooling_and_length(copy, kind, pooling, expected):
    sentence_transformers_layout(copy, pooling, kind, max_seq_length=77)
    encoder = Encoder.load(copy)
    assert encoder.settings.pooling == expected
    assert encoder.settings.max_length == 77
    assert encoder.settings.normalize
    lengths = encoder.encode_texts(["a text", "another one of more words"]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2))


def test_unit_vectors_are_the_others_scaled_and_recorded(copy):
    plain, texts = Encoder.load(copy, "mean"), ["a text", "another one of more words"]
    unit = Encoder.load(copy, "mean", normalize=True)
    vectors = plain.encode_texts(texts)
    expected = vectors / vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit.encode_texts(texts), expected)
    assert read_metadata(copy).normalize is False
    unit.save(copy)
    assert Encoder.load(copy).settings.normalize
    assert not Encoder.load(copy, "mix").settings.normalize


@pytest.mark.parametrize(
    "settings", [{"pooling": "mix"}, {"pooling": "sentences"}, {"control_codes": True}]
)
def test_vectors_that_are_never_scaled_are_refused(settings):
    with pytest.raises(UserError, match=r"encoder\.normalize is True; expected false"):
        EncoderSettings("x", normalize=True, **settings)


def test_a_backbone_in_a_sub_folder_has_its_tokenizer_there(copy, tmp_path):
    assert tokenizer_folder(copy) == copy
    modules = sentence_transformers_layout(copy, {"pooling_mode_max_tokens": True})
    modules[0]["path"] = "0_Transformer"
    (copy / "modules.json").write_text(json.dumps(modules))
    inside = copy / "0_Transformer"
    inside.mkdir()
    for path in [p for p in copy.iterdir() if p.is_file() and p.name != "modules.json"]:
        path.rename(inside / path.name)
    assert tokenizer_folder(copy) == inside
    encoder = Encoder(EncoderSettings(str(copy), "mean"))
    assert encoder.tokenizer.fingerprint == Encoder.load(inside).tokenizer.fingerprint


def test_what_vectors_are_compared_by_is_read_where_it_is_recorded(copy):
    assert read_metadata(copy).similarity is None
    modules = sentence_transformers_layout(copy, {"pooling_mode": "cls"})
    assert read_metadata(copy).similarity == "cosine"
    assert read_metadata(copy).sources["similarity"] == "modules.json"
    about = copy / "config_sentence_transformers.json"
    about.write_text(json.dumps({"similarity_fn_name": "dot"}))
    assert read_metadata(copy).similarity == "cosine"  # of unit vectors
    (copy / "modules.json").write_text(json.dumps(modules[:2]))
    assert read_metadata(copy).similarity == "dot"
    about.write_text(json.dumps({"similarity_fn_name": "euclidean"}))
    assert read_metadata(copy).similarity == "euclidean"
    about.write_text(json.dumps({"prompts": {"query": "query: ", "passage": ""}}))
    assert read_metadata(copy).similarity == "cosine"  # the library's default
    assert read_metadata(copy).sources["similarity"] == "sentence-transformers' default"
    assert read_metadata(copy).prompts == {"query": "query: "}
    about.write_text("[]")
    with pytest.raises(UserError, match=r"sentence_transformers.json: expected a JSON object"):
        read_metadata(copy)
    about.unlink()
    Encoder.load(copy).save(copy)
    assert (
        read_metadata(copy).similarity == "euclidean"
    )  # as folders without the entry were trained
    Encoder.load(copy).save(copy, {"similarity": "cosine"})
    assert read_metadata(copy).similarity == "cosine"


def test_the_newer_layout_keeps_the_length_with_the_tokenizer(copy):
    sentence_transformers_layout(copy, {"pooling_mode": "cls"}, "new")
    change(copy / "tokenizer_config.json", model_max_length=66)
    assert Encoder.load(copy).settings.max_length == 66


def test_the_real_sentence_encoder_is_read_as_published(minilm):
    encoder = Encoder.load(minilm)
    assert (encoder.settings.pooling, encoder.settings.max_length) == ("mean", 256)
    assert encoder.settings.normalize
    library = pytest.importorskip("sentence_transformers")
    texts = ["Citations relate papers.", "A longer text. " * 100]
    model = library.SentenceTransformer(str(minilm), device="cpu", local_files_only=True)
    expected = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(encoder.encode_texts(texts), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m[1].update(path="../else"), "leads out of the folder"),
        (lambda m: m[0].update(type="x.CLIPModel"), "expected Transformer"),
        (lambda m: m[2].update(type="x.Dense"), "the module Dense"),
        (lambda m: m.insert(2, {**m[2]}), "the module Normalize"),
        (lambda m: m[2].pop("path"), "`type` and `path`"),
    ],
)
def test_a_sentence_transformers_folder_that_cannot_be_run_is_refused(copy, spoil, message):
    modules = sentence_transformers_layout(copy, {"pooling_mode": "cls"})
    spoil(modules)
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match=message):
        Encoder.load(copy)


def test_a_pooling_that_is_not_built_is_refused_unless_another_is_named(copy):
    sentence_transformers_layout(copy, {"pooling_mode_max_tokens": True})
    with pytest.raises(UserError, match="pools by max"):
        Encoder.load(copy)
    assert Encoder.load(copy, pooling="mean").settings.pooling == "mean"
    assert Encoder(EncoderSettings(str(copy))).settings.pooling == "cls"


def test_a_spoiled_record_is_refused(copy):
    (copy / "sciembed.json").write_text(json.dumps({"pooling": "cls"}))
    with pytest.raises(UserError, match=r"sciembed\.json: .*max_length"):
        Encoder.load(copy)


def test_the_dropout_setting_reaches_hidden_states_and_attention(tiny_bert):
    settings = EncoderSettings(str(tiny_bert))
    own = Encoder(settings).backbone.encoder.layer[0]
    assert (own.attention.self.dropout.p, own.output.dropout.p) == (0.1, 0.1)
    other = Encoder(dataclasses.replace(settings, dropout=0.25)).backbone.encoder.layer[0]
    assert (other.attention.self.dropout.p, other.output.dropout.p) == (0.25, 0.25)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("inside", ["", "0_Transformer/"])
def test_what_is_fetched_of_a_hub_model_is_all_that_is_read(weights, inside, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    small = ["config.json", "tokenizer.json", "vocab.txt", "merges.txt", "spiece.model"]
    wanted = {f"{inside}{name}" for name in [*small, weights]}
    wanted |= {"modules.json", "sciembed.json", "1_Pooling/config.json"}
    others = {"tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "README.md"}

    def download(name, allow_patterns):
        for path in filter_repo_objects(wanted | others, allow_patterns=allow_patterns):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_folder("somebody/model") == tmp_path
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == wanted
