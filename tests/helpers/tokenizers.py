"""Tokenizers of several kinds, and words that they treat differently."""

from functools import cache

from hypothesis import strategies as st

from sciembed_train.text.tokenizer import TextTokenizer

TOKENIZERS = ["tiny_bert", "tiny_roberta", "minilm", "pieces_always", "pieces_first"]
# Words of letters, digits, marks, accents, contractions, emoji, scripts without spaces.
WORDS = st.text(
    st.sampled_from("abcXYZ019.,-'()[]éΣςüß½表文😀\u0301\u200b"), min_size=1, max_size=12
) | st.sampled_from(["don't", "[MASK]", "</s>", "word1", "word2", "'s", "ii."])


@cache
def load_once(folder):
    return TextTokenizer.load(folder)


def write_sentence_pieces(folder, scheme):
    """A SentencePiece tokenizer of single letters and a number of words, built as XLM-R's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "▁word", "word", "▁a", "▁don", "12"]
    vocab = [(piece, -float(i)) for i, piece in enumerate([*pieces, *"abcdortwn0123456789'[].,"])]
    backend = Tokenizer(models.Unigram(vocab, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special_tokens = {
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
        "unk_token": "<unk>",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens).save_pretrained(folder)
    return folder
