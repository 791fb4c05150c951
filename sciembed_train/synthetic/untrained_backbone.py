"""A tokenizer trained on given texts, and an untrained BERT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of at most ``vocab`` pieces, BERT's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = list(texts)
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers word-inner letters in the order of a hash table that differs from run to
    # run, and breaks ties by those numbers. Given beforehand, the letters have fixed numbers.
    letters = sorted({c for text in texts for c in normalizer.normalize_str(text)} - {" "})
    scratch = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    scratch.normalizer = normalizer
    scratch.pre_tokenizer = splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab,
        special_tokens=[*special, *letters, *(f"##{c}" for c in letters)],
        show_progress=False,
    )
    scratch.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(scratch.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def write_bert(
    folder: str | Path,
    tokenizer: Tokenizer,
    *,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    max_positions: int = 512,
    seed: int = 0,
) -> Path:
    """Write an untrained BERT and its tokenizer as a Hugging Face folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()  # transformers 5 has one for writing a model
    folder = Path(folder)
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_positions).save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max_positions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder
