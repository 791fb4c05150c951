import numpy as np

from sciembed_train.corpus.corpus_truncation import truncation_lines
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import small_papers, write_small_corpus


def test_what_an_encoder_cuts_of_a_corpus_is_counted_from_its_whole_tokens(tmp_path, tiny_bert):
    corpus, form = write_small_corpus(tmp_path / "c", tiny_bert), InputFormat()
    tokenizer = TextTokenizer.load(tiny_bert)
    texts = [form.compose(p["title"], p["abstract"], "[SEP]") for p in small_papers(60)]
    lengths = np.array([len(ids) for ids in tokenizer.encode(texts)])
    beyond = np.maximum(lengths - 18, 0)
    (line,) = truncation_lines(corpus, tokenizer, form, 20)
    assert line == (
        f"{(beyond > 0).sum()} of 60 papers ({(beyond > 0).mean():.1%}) are cut at 20 tokens "
        f"(max_length): {beyond.sum() / lengths.sum():.1%} of all tokens are not read."
    )
    assert truncation_lines(corpus, tokenizer, form, 512) == [
        "None of the 60 papers is longer than 512 tokens."
    ]
    assert truncation_lines(corpus, tokenizer, InputFormat("space"), 20) == []
