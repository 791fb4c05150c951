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
