import re

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.model_card import hub_name, render_card, training_rows
from sciembed_train.text.input_format import InputFormat
from tests.helpers.exports import CARD, DECLUTR, encoder_of


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


def test_the_code_on_a_decoders_card_gives_the_vectors_on_either_side(tiny_qwen3, tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = Encoder.load(tiny_qwen3, max_length=64)
    export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    card = (tmp_path / "m" / "README.md").read_text()
    assert "Title, one line break, abstract." in card
    assert "answer the query\\nQuery:`: `encode_query` of sentence-transformers" in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    on_the_right = blocks[0].replace(
        "batch = tokenizer(", 'tokenizer.padding_side = "right"\nbatch = tokenizer('
    )
    assert on_the_right != blocks[0]
    for block in (*blocks, on_the_right):
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


def test_only_names_that_a_hub_may_have_are_a_card_s_base_model():
    names = ("a/b", "allenai/specter2_base", "b", "a/b/c", "./b", "a/", "a/b c", None)
    assert [hub_name(name) for name in names] == ["a/b", "allenai/specter2_base", *[None] * 6]


def test_a_record_becomes_rows_of_a_table():
    record = {"version": 1, "seed": 1000, "training": {"a_b": 12345, "none": None, "x|y": "a\nb"}}
    assert list(training_rows(record)) == [
        ("seed", "1000"),
        ("training: a b", "12,345"),
        ("training: x|y", "a b"),
    ]


def test_a_value_that_a_template_misses_is_an_error():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="is undefined"):
        render_card("adapterhub.md.jinja", {"tags": ["a"]}, {"code": "[PRX]"})
