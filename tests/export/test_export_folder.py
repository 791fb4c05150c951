import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.export import library_vectors
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import plain_layout
from sciembed_train.export.verification import ExportError, probe_texts
from sciembed_train.text.input_format import InputFormat
from tests.helpers.masked_models import write_masked_lm

CARD = {
    "method": "specter",
    "recipe": "configs/specter.yaml",
    "seed": 7,
    "training": {"triplets": 12345, "steps": 20},
    "base_model": "somebody/some-bert",
    "base_model_sha256": "0f" * 32,
}


def encoder_of(backbone, **settings):
    settings = {"max_length": 512, **settings}
    return Encoder(EncoderSettings(str(backbone), **settings)).eval()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def backbone(request):
    return request.getfixturevalue(request.param)


def test_probe_texts_cross_the_lengths_where_tokenizers_cut(tiny_bert):
    encoder = encoder_of(tiny_bert)
    lengths = [len(ids) for ids in encoder.tokenizer.encode(probe_texts(encoder))]
    assert min(lengths) <= 2
    assert any(128 < n <= 512 for n in lengths)
    assert any(n > 512 for n in lengths)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_libraries_load_the_export_and_give_the_same_vectors(backbone, pooling, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoTokenizer

    encoder = encoder_of(backbone, pooling=pooling)
    folder = tmp_path / "model"
    differences = export_encoder(encoder, folder, CARD)
    assert set(differences) == {"AutoModel", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())

    # Again, on texts that the verification does not use.
    texts = [encoder.compose("word7 word9", "word1 " * 700), encoder.compose("word3", None)]
    expected = encoder.encode_texts(texts)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    assert tokenizer.model_max_length == 512
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    assert (pooled - expected).abs().max() < 1e-5
    st = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert st.max_seq_length == 512
    assert st.similarity_fn_name == "euclidean"
    vectors = torch.from_numpy(st.encode(texts))
    assert (vectors - expected).abs().max() < 1e-5
    assert st.similarity(vectors, vectors)[0, 1] < 0


@pytest.fixture(scope="module", params=["bert", "roberta", "electra", "distilbert", "mpnet"])
def with_head(request, tmp_path_factory):
    """An encoder with a head, trained a little, so that its folder must hold new weights."""
    folder = write_masked_lm(tmp_path_factory.mktemp(request.param), request.param)
    settings = EncoderSettings(str(folder), "mean", 512, dropout=0.1)
    encoder = Encoder(settings, masked_lm=True)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return encoder


DECLUTR = {**CARD, "method": "declutr", "similarity": "cosine", "texts": "any"}


def test_a_head_is_exported_and_every_library_gives_what_was_trained(with_head, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline

    folder = tmp_path / "m"
    differences = export_encoder(with_head, folder, DECLUTR)
    assert set(differences) == {"AutoModel", "SentenceTransformer", "AutoModelForMaskedLM"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert with_head.training

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["word7 word9", "a b c " * 300, "word3"]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1)
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    expected = with_head.encode_texts(texts)
    assert ((hidden * mask).sum(1) / mask.sum(1) - expected).abs().max() < 1e-5
    st = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    assert st.similarity_fn_name == "cosine"
    assert (torch.from_numpy(st.encode(texts)) - expected).abs().max() < 1e-5

    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    own = set(map(torch.Tensor.data_ptr, model.parameters()))
    assert len(own) == len(list(model.parameters())) == len(list(with_head.parameters()))
    sentence = f"a b {tokenizer.mask_token} c"
    ids = torch.tensor(with_head.rows([sentence]).ids.tolist())
    at = torch.nonzero(ids == tokenizer.mask_token_id)[:, 0]
    with with_head.inferring("fp32"):
        _, states = with_head.with_token_states(with_head.rows([sentence]), at)
        probabilities = with_head.token_logits(states)[0].softmax(0)
    for row in pipeline("fill-mask", model=str(folder), device="cpu")(sentence):
        assert row["score"] == pytest.approx(probabilities[row["token"]].item(), rel=1e-4)
    assert row["score"] <= probabilities.max()


@pytest.mark.parametrize("gone", [False, True])
def test_a_spoiled_head_is_noticed_and_removed(gone, with_head, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    save = Encoder.save

    def spoil(self, folder, record=None):
        save(self, folder, record)
        state = load_file(folder / "model.safetensors")
        biases = ("predictions.bias", "lm_head.bias", "projector.bias")
        name = next(key for key in state if key.endswith(biases))
        if gone:
            del state[name]
        else:
            state[name][:] += 1e-2
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(Encoder, "save", spoil)
    message = "does not find" if gone else "other logits of masked tokens"
    with pytest.raises(ExportError, match=f"AutoModelForMaskedLM.*{message}"):
        export_encoder(with_head, tmp_path / "m", DECLUTR)
    assert list(tmp_path.iterdir()) == []


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


def test_the_layout_names_only_modules_that_old_versions_have(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert, pooling="mean"), tmp_path / "m", CARD)
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert [m["type"] for m in modules] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
    ]
    assert [m["path"] for m in modules] == ["", "1_Pooling"]
    pooling = json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32
    assert [k for k, v in pooling.items() if v is True] == [
        "pooling_mode_mean_tokens",
        "include_prompt",
    ]
    limits = json.loads((tmp_path / "m" / "sentence_bert_config.json").read_text())
    assert limits == {"max_seq_length": 512, "do_lower_case": False}


def test_loading_warns_of_nothing_because_the_pooler_is_kept(backbone, tmp_path, caplog):
    from safetensors import safe_open
    from transformers import AutoModel
    from transformers.utils import logging as hf_logging

    export_encoder(encoder_of(backbone), tmp_path / "m", CARD)
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
        assert {tensors.get_tensor(n).dtype for n in names} == {torch.float32}
    assert any(n.startswith("pooler.") for n in names)
    logger = hf_logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        AutoModel.from_pretrained(tmp_path / "m")
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""


def test_a_tokenizer_that_cut_at_128_does_so_no_more(minilm, tmp_path):
    from transformers import AutoTokenizer

    original = json.loads((minilm / "tokenizer.json").read_text())
    assert original["truncation"]["max_length"] == 128  # else this test shows nothing
    export_encoder(encoder_of(minilm, pooling="mean"), tmp_path / "m", CARD)
    exported = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    assert exported["truncation"] is None
    assert exported["padding"] is None
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert len(tokenizer("citation " * 400)["input_ids"]) == 402
    assert len(tokenizer("citation " * 900, truncation=True)["input_ids"]) == 512


def test_a_shorter_longest_text_is_kept_by_both_libraries(tiny_bert, tmp_path):
    st = pytest.importorskip("sentence_transformers")
    from transformers import AutoTokenizer

    export_encoder(encoder_of(tiny_bert, max_length=40), tmp_path / "m", CARD)
    assert AutoTokenizer.from_pretrained(tmp_path / "m").model_max_length == 40
    assert st.SentenceTransformer(str(tmp_path / "m"), device="cpu").max_seq_length == 40


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


@pytest.mark.parametrize("what", ["weights", "pooling", "length", "tokenizer"])
def test_a_wrong_export_is_noticed_and_removed(what, tiny_bert, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    save, layout = Encoder.save, plain_layout.write_sentence_transformers

    def spoil_save(self, folder, record=None):
        save(self, folder, record)
        if what == "weights":
            from safetensors.torch import load_file, save_file

            state = load_file(folder / "model.safetensors")
            state["encoder.layer.1.output.LayerNorm.bias"][3] += 1e-3
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        if what == "tokenizer":
            path = folder / "tokenizer.json"
            content = json.loads(path.read_text())
            vocab = content["model"]["vocab"]
            vocab["##a"], vocab["##e"] = vocab["##e"], vocab["##a"]
            path.write_text(json.dumps(content))

    def spoil_layout(folder, *, dim, pooling, max_length, similarity):
        if what == "pooling":
            pooling = "mean"
        if what == "length":
            max_length = 128
        layout(folder, dim=dim, pooling=pooling, max_length=max_length, similarity=similarity)

    monkeypatch.setattr(Encoder, "save", spoil_save)
    monkeypatch.setattr(plain_layout, "write_sentence_transformers", spoil_layout)
    with pytest.raises(ExportError, match="removed"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "sub" / "m", CARD)
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_failed_replacement_leaves_the_earlier_export(tiny_bert, tmp_path, monkeypatch):
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    before = contents(tmp_path / "m")

    def fail(self, encoder, folder, record):
        raise ExportError("no")

    monkeypatch.setattr(plain_layout.PlainLayout, "verify", fail)
    with pytest.raises(ExportError):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", {}, overwrite=True)
    assert contents(tmp_path / "m") == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_earlier_export_is_replaced_only_when_asked(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    with pytest.raises(UserError, match="--overwrite"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", {**CARD, "seed": 8}, overwrite=True)
    assert json.loads((tmp_path / "m" / "sciembed.json").read_text())["seed"] == 8
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_of_something_else_is_never_overwritten(tiny_bert, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="no earlier export"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "thesis", CARD, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "file", CARD)
    with pytest.raises(UserError, match="cannot be made"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "file" / "m", CARD)


def test_the_same_encoder_is_exported_to_the_same_bytes(tiny_bert, tmp_path):
    for place in "ab":
        export_encoder(encoder_of(tiny_bert), tmp_path / place / "m", CARD)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_without_sentence_transformers_the_comparison_is_reported_missing(
    tiny_bert, tmp_path, monkeypatch
):
    find_spec = library_vectors.importlib.util.find_spec
    monkeypatch.setattr(
        library_vectors.importlib.util,
        "find_spec",
        lambda name, *args: None if name == "sentence_transformers" else find_spec(name, *args),
    )
    differences = export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    assert differences["SentenceTransformer"] is None
    assert differences["AutoModel"] is not None
    assert (tmp_path / "m" / "modules.json").is_file()


def test_the_export_imports_no_lightning():
    code = (
        "import sys, sciembed_train.export.export_folder, sciembed_train.commands.export; "
        "print([m for m in sys.modules if 'lightning' in m or m == 'sentence_transformers'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "input_format",
    [InputFormat(), InputFormat(separator="space"), InputFormat(control_code="word1")],
)
def test_the_code_on_the_model_card_runs_and_gives_the_vectors(
    pooling, input_format, tiny_roberta, tmp_path
):
    pytest.importorskip("sentence_transformers")
    encoder = encoder_of(tiny_roberta, pooling=pooling, input_format=input_format)
    export_encoder(encoder, tmp_path / "m", CARD)
    card = (tmp_path / "m" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(block.replace("PATH_OR_NAME_OF_THIS_MODEL", str(tmp_path / "m")), names)
        texts = [encoder.compose(p["title"], p["abstract"]) for p in names["papers"]]
        assert names["texts"] == texts
        found = torch.as_tensor(names["embeddings"])
        assert (found - encoder.encode_texts(texts)).abs().max() < 1e-5


def test_the_card_of_a_span_method_shows_texts_cosine_and_fill_mask(with_head, tmp_path):
    pytest.importorskip("sentence_transformers")
    export_encoder(with_head, tmp_path / "m", DECLUTR)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "a text in, one vector" in card
    assert "larger cosine similarity" in card
    assert "citations and labels were not seen" in " ".join(card.split())
    assert "Euclidean distance gives other rankings" in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3
    found = []
    for block in blocks:
        names = {}
        exec(block.replace("PATH_OR_NAME_OF_THIS_MODEL", str(tmp_path / "m")), names)
        found.append(names)
    for names in found[:2]:
        vectors = with_head.encode_texts(names["texts"])
        assert (torch.as_tensor(names["embeddings"]) - vectors).abs().max() < 1e-5
        cosine = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:])
        assert float(names["similarities"][0, 1]) == pytest.approx(cosine.item(), abs=1e-5)
    assert all({"score", "token_str"} <= row.keys() for row in found[2]["words"])


def test_the_card_has_metadata_and_what_was_counted(tiny_bert, tmp_path):
    import yaml

    export_encoder(encoder_of(tiny_bert), tmp_path / "my-model", CARD)
    card = (tmp_path / "my-model" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "sentence-transformers"
    assert metadata["base_model"] == "somebody/some-bert"
    assert "specter" in metadata["tags"]
    assert "# my-model" in body
    assert "| training: triplets | 12,345 |" in body
    assert "| seed | 7 |" in body
    assert "0f0f0f" in body
    assert "title and abstract in, one vector" in body
    assert "a smaller Euclidean distance are more similar" in body
    assert "Cosine gives other rankings" in body
    assert "fill-mask" not in body
    assert "[SEP]" in body


def test_a_card_without_a_record_says_so(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", {})
    assert "Nothing is recorded" in (tmp_path / "m" / "README.md").read_text()
