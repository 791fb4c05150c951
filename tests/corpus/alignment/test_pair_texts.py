import numpy as np
import pytest

from sciembed_train.corpus.alignment.alignments import AlignSettings
from sciembed_train.corpus.alignment.pair_texts import (
    choose_contexts,
    context_texts,
    paper_texts,
)
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.token_writing import split_abstracts
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from tests.helpers.cocitation_files import write_contexts, write_letter_papers


@pytest.fixture
def corpus(tmp_path):
    """The pair a, b has three contexts, a, c and b, c have one each."""
    papers = write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "ab", "ab", "abc"])
    lines = contexts.read_text().splitlines()
    words = ["first", "second", "third", "fourth"]
    texts = [line.replace("Some follow", f"Some {word} follow") for line, word in
             zip(lines, words, strict=True)]  # fmt: skip
    contexts.write_text("\n".join(texts))
    return prepare(
        PrepareSettings(papers, contexts=contexts, to=tmp_path / "c", dev_share=0, test_share=0)
    )


def test_a_pair_has_at_most_so_many_contexts_drawn_by_the_seed(corpus):
    chosen = choose_contexts(corpus, "train", AlignSettings(contexts=2))
    assert chosen.range_starts.tolist() == [0, 2, 3, 4]
    assert chosen.pairs_with_any == 3
    again = choose_contexts(corpus, "train", AlignSettings(contexts=2))
    assert chosen.contexts.tolist() == again.contexts.tolist()
    draws = {
        tuple(choose_contexts(corpus, "train", AlignSettings(contexts=2, seed=s)).contexts[:2])
        for s in range(20)
    }
    assert len(draws) > 1
    everything = choose_contexts(corpus, "train", AlignSettings(contexts=9))
    assert everything.range_starts.tolist() == [0, 4, 5, 6]


def test_the_texts_of_contexts_are_read_by_number(corpus):
    texts = list(context_texts(corpus, np.arange(4)))
    assert len(texts) == 4
    assert list(context_texts(corpus, np.array([1, 3]))) == [texts[1], texts[3]]
    assert list(context_texts(corpus, np.empty(0, np.int64))) == []
    with pytest.raises(UserError, match="holds 1 of 2 contexts of the pairs"):
        list(context_texts(corpus, np.array([1, 9])))
    (corpus.folder / "contexts.parquet").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        list(context_texts(corpus, np.array([1])))


def test_a_paper_without_an_abstract_has_its_title(corpus):
    split_abstracts(corpus, Progress(quiet=True))
    assert list(paper_texts(corpus, np.array([0, 2]))) == [["title a"], ["title c"]]
