"""The backbones that are read: their model types, and the keys that a configuration may carry.

Each family is one entry with its own keys and the values that they may have. A key that no entry
names never reaches ``transformers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sciembed_train.safety.values import (
    Check,
    flag,
    number,
    one_of,
    optional,
    several,
    table,
    whole,
    word,
)

# Above those of every published encoder of text, and far below what fills a machine's memory by
# itself; `load_backbone.check_size` compares the whole model with its weights.
VOCABULARY = whole(1, 5_000_000)
WIDTH = whole(1, 65_536)
INNER_WIDTH = whole(1, 1_000_000)
LAYERS = whole(0, 512)
HEADS = whole(1, 1024)
POSITIONS = whole(-1, 10_000_000)  # 0 and less: without a table of positions
COUNT = whole(0, 1_000_000)
SHARE = number(0, 1)
SCALE = number(-1e9, 1e9)
TOKEN = optional(several(whole(-1, 100_000_000)))
_TYPES = ("bfloat16", "float16", "float32", "float64")
ACTIVATION = one_of(
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python"),
    *("gelu_python_tanh", "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish"),
    *("quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh"),
)


def one_direction(value: Any) -> str | None:
    """False, or null."""
    if value in (None, False):
        return None
    return "false: a decoder whose tokens see those behind them too (EmbeddingGemma) is not read"


def positional_attention(value: Any) -> str | None:
    """Which of content and position attend to each other, as DeBERTa's files name it."""
    passes = isinstance(value, str) and set(value.split("|")) <= {"c2p", "p2c", "p2p"}
    return None if passes else "c2p, p2c or p2p"


def name_or_number(value: Any) -> str | None:
    """A name or a number."""
    return word(value) and SCALE(value)


# Of every family.
_COMMON: Mapping[str, Check] = {
    "architectures": optional(several(word)),
    **{f"{name}_token_id": TOKEN for name in ("bos", "cls", "eos", "mask", "pad", "sep")},
    "chunk_size_feed_forward": COUNT,
    **dict.fromkeys(("add_cross_attention", "is_decoder", "is_encoder_decoder"), flag),
    "tie_word_embeddings": flag,
    # Only what an export says of its weights: models are read in fp32.
    **dict.fromkeys(("dtype", "torch_dtype"), optional(one_of(*_TYPES))),
}
_BERT: Mapping[str, Check] = {
    **_COMMON,
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER_WIDTH,
    "hidden_act": ACTIVATION,
    "hidden_dropout_prob": SHARE,
    "attention_probs_dropout_prob": SHARE,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": COUNT,
    "initializer_range": SCALE,
    "layer_norm_eps": SCALE,
    "classifier_dropout": optional(SHARE),
    "position_embedding_type": optional(one_of("absolute", "relative_key", "relative_key_query")),
    "use_cache": flag,
}
_ALBERT: Mapping[str, Check] = {
    "classifier_dropout_prob": SHARE,
    "embedding_size": WIDTH,
    "inner_group_num": COUNT,
    "num_hidden_groups": COUNT,
}
_DEBERTA: Mapping[str, Check] = {
    "conv_act": ACTIVATION,
    **dict.fromkeys(("conv_groups", "conv_kernel_size"), COUNT),
    **dict.fromkeys(("attention_head_size", "embedding_size", "pooler_hidden_size"), WIDTH),
    **dict.fromkeys(("max_relative_positions", "position_buckets"), POSITIONS),
    "norm_rel_ebd": word,
    "pooler_dropout": SHARE,
    "pooler_hidden_act": ACTIVATION,
    "pos_att_type": optional(several(positional_attention)),
    **dict.fromkeys(
        ("legacy", "position_biased_input", "relative_attention", "share_att_key", "talking_head"),
        flag,
    ),
}
_LAYER_TYPES = optional(several(one_of("full_attention", "sliding_attention")))
_DECODER: Mapping[str, Check] = {
    **_COMMON,
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": INNER_WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": optional(HEADS),
    "max_position_embeddings": POSITIONS,
    "hidden_act": ACTIVATION,
    "attention_dropout": SHARE,
    **dict.fromkeys(("initializer_range", "rms_norm_eps", "rope_theta"), SCALE),
    **dict.fromkeys(("rope_parameters", "rope_scaling"), optional(table(name_or_number))),
    "use_cache": flag,
}
_QWEN2: Mapping[str, Check] = {
    **_DECODER,
    "layer_types": _LAYER_TYPES,
    "max_window_layers": COUNT,
    "sliding_window": optional(whole(1, 10_000_000)),
    "use_sliding_window": flag,
}
_QWEN3: Mapping[str, Check] = {**_QWEN2, "attention_bias": flag, "head_dim": WIDTH}
_LLAMA: Mapping[str, Check] = {
    **_DECODER,
    **dict.fromkeys(("attention_bias", "mlp_bias"), flag),
    "head_dim": optional(WIDTH),
    "pretraining_tp": optional(COUNT),
}
_MISTRAL: Mapping[str, Check] = {
    **_DECODER,
    "head_dim": optional(WIDTH),
    "sliding_window": optional(whole(1, 10_000_000)),
}
_GEMMA: Mapping[str, Check] = {
    **{key: check for key, check in _DECODER.items() if key != "hidden_act"},
    "hidden_activation": ACTIVATION,
    "head_dim": WIDTH,
    "attention_bias": flag,
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), optional(SCALE)),
    "layer_types": _LAYER_TYPES,
    "query_pre_attn_scalar": number(1e-9, 1e9),
    "rope_local_base_freq": SCALE,
    "sliding_window": optional(whole(1, 10_000_000)),
    **dict.fromkeys(("_sliding_window_pattern", "sliding_window_pattern"), whole(1, 1000)),
    "use_bidirectional_attention": one_direction,
}
_DISTILBERT: Mapping[str, Check] = {
    **_COMMON,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "sinusoidal_pos_embds": flag,
    **dict.fromkeys(("n_layers", "num_hidden_layers"), LAYERS),
    **dict.fromkeys(("n_heads", "num_attention_heads"), HEADS),
    **dict.fromkeys(("dim", "hidden_size"), WIDTH),
    "hidden_dim": INNER_WIDTH,
    **dict.fromkeys(("attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout"), SHARE),
    "activation": ACTIVATION,
    "initializer_range": SCALE,
}
_ELECTRA: Mapping[str, Check] = {
    "embedding_size": WIDTH,
    **dict.fromkeys(("summary_activation", "summary_type"), word),
    "summary_last_dropout": SHARE,
    "summary_use_proj": flag,
}
_ERNIE: Mapping[str, Check] = {"task_type_vocab_size": COUNT, "use_task_id": flag}
_LONGFORMER: Mapping[str, Check] = {"attention_window": several(COUNT), "onnx_export": flag}
_MOBILEBERT: Mapping[str, Check] = {
    **dict.fromkeys(("embedding_size", "intra_bottleneck_size", "true_hidden_size"), WIDTH),
    "normalization_type": one_of("layer_norm", "no_norm"),
    "num_feedforward_networks": COUNT,
    **dict.fromkeys(("classifier_activation", "key_query_shared_bottleneck"), flag),
    **dict.fromkeys(("trigram_input", "use_bottleneck", "use_bottleneck_attention"), flag),
}
_MODERNBERT: Mapping[str, Check] = {
    **{
        key: check
        for key, check in _BERT.items()
        if key not in ("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob")
    },
    **dict.fromkeys(("classifier_activation", "hidden_activation"), ACTIVATION),
    **dict.fromkeys(("attention_dropout", "embedding_dropout", "mlp_dropout"), SHARE),
    **dict.fromkeys(("attention_bias", "classifier_bias", "decoder_bias", "mlp_bias"), flag),
    "classifier_pooling": one_of("cls", "mean"),
    # Its positions are rotary, whatever this says; mmBERT's files say that it has none.
    "position_embedding_type": optional(one_of("absolute", "sans_pos")),
    **dict.fromkeys(("deterministic_flash_attn", "norm_bias", "sparse_prediction"), flag),
    **dict.fromkeys(("global_attn_every_n_layers", "local_attention"), COUNT),
    **dict.fromkeys(("global_rope_theta", "local_rope_theta"), SCALE),
    **dict.fromkeys(("initializer_cutoff_factor", "norm_eps"), SCALE),
    "layer_types": optional(several(one_of("full_attention", "sliding_attention"))),
    "reference_compile": optional(flag),
    "repad_logits_with_grad": flag,
    "rope_parameters": optional(table(name_or_number)),
    "sparse_pred_ignore_index": whole(-1_000_000, 1_000_000),
}
_REMBERT: Mapping[str, Check] = {
    "classifier_dropout_prob": SHARE,
    **dict.fromkeys(("input_embedding_size", "output_embedding_size"), WIDTH),
}
_SQUEEZEBERT: Mapping[str, Check] = {
    "embedding_size": WIDTH,
    **dict.fromkeys(("intermediate_groups", "k_groups", "output_groups"), COUNT),
    **dict.fromkeys(("post_attention_groups", "q_groups", "v_groups"), COUNT),
}


@dataclass(frozen=True)
class Family:
    """One model type of ``transformers``.

    Args:
        model_type: as ``config.json`` names it.
        keys: that its configuration may carry, with what their values may be.
        tokenizer: its class, without ``Fast``.
        causal: whether it is a decoder: a token sees none that follow it.
    """

    model_type: str
    keys: Mapping[str, Check]
    tokenizer: str
    causal: bool = False


FAMILIES: dict[str, Family] = {}
# Classes that a tokenizer's files may name; the first ones belong to no family.
TOKENIZERS = {"PreTrainedTokenizerFast", "TokenizersBackend"}


def register(
    model_type: str, keys: Mapping[str, Check], tokenizer: str, causal: bool = False
) -> None:
    """Add a family, so that folders of its models and its tokenizer are read."""
    FAMILIES[model_type] = Family(model_type, keys, tokenizer, causal)
    TOKENIZERS.update((tokenizer, f"{tokenizer}Fast"))


# Left out: ConvBERT, whose convolution reads the padding beside a text; Nystromformer and BigBird,
# which approximate attention over the padded length; and those without a tokenizer in Rust.
register("albert", {**_BERT, **_ALBERT}, "AlbertTokenizer")
register("bert", _BERT, "BertTokenizer")
register("camembert", _BERT, "CamembertTokenizer")
register("data2vec-text", _BERT, "RobertaTokenizer")
register("deberta", {**_BERT, **_DEBERTA}, "DebertaTokenizer")
register("deberta-v2", {**_BERT, **_DEBERTA}, "DebertaV2Tokenizer")
register("distilbert", _DISTILBERT, "DistilBertTokenizer")
register("electra", {**_BERT, **_ELECTRA}, "ElectraTokenizer")
register("ernie", {**_BERT, **_ERNIE}, "BertTokenizer")
register("longformer", {**_BERT, **_LONGFORMER}, "LongformerTokenizer")
register("megatron-bert", _BERT, "BertTokenizer")
register("mobilebert", {**_BERT, **_MOBILEBERT}, "MobileBertTokenizer")
register("modernbert", _MODERNBERT, "PreTrainedTokenizer")
register("mpnet", {**_BERT, "relative_attention_num_buckets": COUNT}, "MPNetTokenizer")
register("rembert", {**_BERT, **_REMBERT}, "RemBertTokenizer")
register("roberta", _BERT, "RobertaTokenizer")
register("roberta-prelayernorm", _BERT, "RobertaTokenizer")
register("squeezebert", {**_BERT, **_SQUEEZEBERT}, "SqueezeBertTokenizer")
register("xlm-roberta", _BERT, "XLMRobertaTokenizer")
register("xlm-roberta-xl", _BERT, "XLMRobertaTokenizer")
register("gemma3_text", _GEMMA, "GemmaTokenizer", causal=True)
register("llama", _LLAMA, "LlamaTokenizer", causal=True)
register("mistral", _MISTRAL, "LlamaTokenizer", causal=True)
register("qwen2", _QWEN2, "Qwen2Tokenizer", causal=True)
register("qwen3", _QWEN3, "Qwen2Tokenizer", causal=True)

# Of any family: what other programs write into config.json that an encoder has no use for.
UNUSED = frozenset(
    {
        *("_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_num_labels"),
        *("adapter_fusion_models", "adapters", "custom_heads", "prediction_heads"),
        *("bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample"),
        *("early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty"),
        *("forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length"),
        *("min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams"),
        *("num_return_sequences", "output_scores", "remove_invalid_values", "repetition_penalty"),
        *("return_dict_in_generate", "suppress_tokens", "temperature", "top_k", "top_p"),
        *("typical_p", "cross_attention_hidden_size", "decoder_start_token_id"),
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_size_per_head"),
        *("pooler_num_fc_layers", "pooler_type", "down_scale_factor", "gap_size"),
        *("torchscript", "tf_legacy_loss", "use_bfloat16"),
        *("finetuning_task", "id2label", "label2id", "num_labels", "prefix", "problem_type"),
        *("gradient_checkpointing", "ignore_attention_mask", "net_structure_type"),
        *("layers_to_keep", "num_memory_blocks", "output_attentions", "output_hidden_states"),
        *("model_name", "output_past", "pruned_heads", "return_dict", "task_specific_params"),
        *("tie_encoder_decoder", "tokenizer_class", "transformers_version"),
        "use_return_dict",
    }
)
