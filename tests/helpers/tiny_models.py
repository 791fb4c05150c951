"""Tiny random models and tokenizers, written as Hugging Face folders; no network, no data."""

from pathlib import Path

WORDS = [f"word{i}" for i in range(200)] + list("abcdefghijklmnopqrstuvwxyz0123456789.,-")
LETTERS = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]


def word_pieces():
    """A lower-casing tokenizer of a few words and all letters, with BERT's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
    vocab = {t: i for i, t in enumerate(names)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def write_tiny_bert(folder: Path, seed: int = 0, max_positions: int = 512) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    backend = word_pieces()
    BertTokenizerFast(tokenizer_object=backend, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_positions,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def modernbert_config(vocab_size: int, **changes):
    """Of two layers, the upper one with a window, and 4 tokens to either side in it."""
    from transformers import ModernBertConfig

    values = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "local_attention": 8,
        # As wide as trained ones: near zero, attention would hardly tell tokens apart.
        "initializer_range": 0.2,
        **{"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2},
        **{"eos_token_id": 3, "sep_token_id": 3},
    }
    return ModernBertConfig(vocab_size=vocab_size, **{**values, **changes})


def write_tiny_modernbert(folder: Path, seed: int = 0, **changes) -> Path:
    """With a tokenizer as published ones have: no token types, and 8192 tokens."""
    import torch
    from transformers import ModernBertModel, PreTrainedTokenizerFast

    backend = word_pieces()
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    model = ModernBertModel(modernbert_config(backend.get_vocab_size(), **changes))
    model.save_pretrained(folder)
    return folder


def write_tiny_roberta(folder: Path, seed: int = 0, width: int = 32) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=backend, model_max_length=512).save_pretrained(folder)
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    RobertaModel(config).save_pretrained(folder)
    return folder


def byte_letters(special):
    """A byte-level tokenizer of letters, whose texts end as Qwen3-Embedding's do."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate([*special, *letters])}, []))
    # As Qwen's, but for contractions: words with one blank before them, digits one by one.
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    end = special[0]
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"$A {end}", f"$A {end} $B {end}", [(end, 0)]),
        ]
    )
    return backend


def write_decoder_tokenizer(folder: Path, padding_side: str = "left") -> int:
    """Qwen3-Embedding's in small; the size of its vocabulary."""
    from transformers import Qwen2TokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    backend = byte_letters(special)
    Qwen2TokenizerFast(
        tokenizer_object=backend,
        model_max_length=131072,
        padding_side=padding_side,
        **{"pad_token": special[0], "eos_token": special[2], "unk_token": None},
        additional_special_tokens=special[1:],
    ).save_pretrained(folder)
    return backend.get_vocab_size()


DECODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 600,
    # As wide as trained ones: near zero, attention would hardly tell tokens apart.
    "initializer_range": 0.2,
    **{"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2},
}
# Of Gemma two layers with a window of 5 tokens and one without, with other angles and scores that
# are not scaled by the root of a head's width.
DECODERS = {
    "llama": {"rope_theta": 500.0, "attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 5, "head_dim": 16},
    "qwen2": {"num_key_value_heads": 1},
    "qwen3": {"head_dim": 16, "rope_theta": 1000.0},
    "gemma3_text": {
        "head_dim": 16,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 5,
        "query_pre_attn_scalar": 24,
        **{"rope_theta": 5000.0, "rope_local_base_freq": 10.0},
    },
}


def decoder_config(model_type: str, vocab_size: int, **changes):
    from transformers import AutoConfig

    values = {**DECODER, **DECODERS[model_type], "vocab_size": vocab_size, **changes}
    return AutoConfig.for_model(model_type, **values)


def write_tiny_decoder(folder: Path, model_type: str = "qwen3", seed: int = 0, **changes) -> Path:
    """A causal model without a head, and a tokenizer that pads on the left."""
    import torch
    from transformers import AutoModel

    config = decoder_config(model_type, write_decoder_tokenizer(folder), **changes)
    torch.manual_seed(seed)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # new ones are all equal, and would hide which one is where
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def write_embedder_files(folder: Path, dim: int = 32, prompts=None) -> Path:
    """Make a folder a model of sentence-transformers as Qwen3-Embedding is one."""
    import json

    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False}
    pooling = {"word_embedding_dimension": dim, **modes, "include_prompt": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    if prompts is None:
        task = "Given a web search query, retrieve relevant passages that answer the query"
        prompts = {"query": f"Instruct: {task}\nQuery:", "document": ""}
    about = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
    return folder


def write_tiny_deberta(folder: Path, seed: int = 0) -> Path:
    """A DeBERTa-v2 with relative positions, and a SentencePiece-like tokenizer as its own is."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import DebertaV2Config, DebertaV2Model, DebertaV2TokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    pieces = [("▁", -1.0), *((f"▁{word}", -5.0) for word in WORDS), *((w, -9.0) for w in WORDS)]
    backend = Tokenizer(models.Unigram([*((t, 0.0) for t in special), *pieces], unk_id=3))
    backend.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 1), ("[SEP]", 2)]
    )
    named = {f"{t[1:-1].lower()}_token": t for t in special}
    DebertaV2TokenizerFast(tokenizer_object=backend, model_max_length=512, **named).save_pretrained(
        folder
    )
    torch.manual_seed(seed)
    config = DebertaV2Config(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
        initializer_range=0.2,
    )
    DebertaV2Model(config).save_pretrained(folder)
    return folder
