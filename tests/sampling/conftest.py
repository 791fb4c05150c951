from types import SimpleNamespace

import pytest

from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.citation_corpus import write_citation_corpus


@pytest.fixture(scope="package")
def opened(tiny_bert, tmp_path_factory):
    """A corpus of papers and citations that no test changes, and how it is read."""
    corpus = write_citation_corpus(tmp_path_factory.mktemp("citations") / "corpus", tiny_bert)
    tokenizer = TextTokenizer.load(tiny_bert)
    return SimpleNamespace(
        corpus=corpus,
        tokenizer=tokenizer,
        reading=TokenizationSpec(tokenizer, InputFormat(), 32, seed=3),
    )
