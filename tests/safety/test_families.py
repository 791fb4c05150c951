"""The families are those of the installed ``transformers``, each with all of its own keys."""

import json
import logging

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES, TOKENIZERS, UNUSED, register
from sciembed_train.safety.model_config import clean_config
from sciembed_train.safety.values import whole
from tests.helpers.tiny_models import write_decoder_tokenizer

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 70,
    "type_vocab_size": 2,
}
# Where the sizes have other names, or more of them have to fit.
OWN = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "longformer": {"attention_window": [8, 8]},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "squeezebert": {"embedding_size": 32},
}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_configuration_as_its_own_library_writes_it_passes_whole(model_type, caplog):
    from transformers import AutoConfig

    own = AutoConfig.for_model(model_type)
    with caplog.at_level(logging.WARNING):
        kept = clean_config(json.loads(own.to_json_string(use_diff=False)), model_type)
    assert not caplog.records, caplog.text
    built = AutoConfig.for_model(**kept)
    ours, theirs = built.to_dict(), own.to_dict()
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # DeBERTa's own code
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_model_of_each_family_is_opened_and_embeds(model_type, tiny_bert, tmp_path):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_bert))
    causal = FAMILIES[model_type].causal
    if causal:
        write_decoder_tokenizer(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    values = {**SMALL, **OWN.get(model_type, {}), **({"num_key_value_heads": 1} if causal else {})}
    values |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if model_type == "modernbert":
        values |= dict.fromkeys(
            (f"{name}_token_id" for name in ("bos", "cls", "eos", "sep")), tokenizer.sep_token_id
        )
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(model_type, **values)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    pooling = "last" if causal else "cls"
    encoder = Encoder(EncoderSettings(str(tmp_path), pooling, 32)).eval()
    alone = encoder.encode_texts(["a b"])
    together = encoder.encode_texts(["a b", "a b c d e f g h i j"])
    assert together.shape == (2, 32)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model_type", "entry", "message"),
    [
        ("qwen3", {"num_key_value_heads": 3}, "expected a divisor of the 4 of"),
        ("qwen3", {"num_key_value_heads": 0}, "expected a whole number from 1 to 1,024, or null"),
        ("llama", {"intermediate_size": 10**12}, "expected a whole number from 1 to 1,000,000"),
        ("mistral", {"sliding_window": 0}, "expected a whole number from 1"),
        ("gemma3_text", {"use_bidirectional_attention": True}, r"EmbeddingGemma\) is not read"),
        ("gemma3_text", {"query_pre_attn_scalar": 0}, "expected a number from 1e-09"),
    ],
)
def test_a_decoder_that_cannot_be_is_refused(model_type, entry, message):
    content = {"model_type": model_type, "num_attention_heads": 4, "num_key_value_heads": 2}
    assert clean_config(content, "here.json") == content
    with pytest.raises(UserError, match=message):
        clean_config({**content, **entry}, "here.json")


def test_what_is_left_out_without_a_word_is_in_no_family():
    for family in FAMILIES.values():
        assert not UNUSED & set(family.keys), family.model_type


def test_a_family_that_is_added_brings_its_keys_and_its_tokenizer():
    with pytest.raises(UserError, match="`model_type` is 'wide-bert'"):
        clean_config({"model_type": "wide-bert", "width": 3}, "here.json")
    families, tokenizers = dict(FAMILIES), set(TOKENIZERS)
    try:
        register("wide-bert", {"width": whole(1, 9)}, "WideTokenizer")
        assert clean_config({"model_type": "wide-bert", "width": 3}, "here.json")["width"] == 3
        with pytest.raises(UserError, match="`width` is 10; expected a whole number from 1 to 9"):
            clean_config({"model_type": "wide-bert", "width": 10}, "here.json")
        assert {"WideTokenizer", "WideTokenizerFast"} <= TOKENIZERS
    finally:
        FAMILIES.clear()
        FAMILIES.update(families)
        TOKENIZERS.intersection_update(tokenizers)


def test_the_tokenizer_of_every_family_is_a_class_of_transformers():
    import transformers

    for family in FAMILIES.values():
        assert hasattr(transformers, family.tokenizer), family
