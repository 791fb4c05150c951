"""How much of a corpus's texts an encoder cuts off, counted in the uncut token stores."""

from __future__ import annotations

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import (
    CITING_SENTENCE_TOKENS,
    PAPER_TOKENS,
    TASK_TOKENS,
)
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.text.truncation import Truncation

# Without documents: an encoder reads spans of them, never a whole one.
KINDS = (
    (PAPER_TOKENS, "papers"),
    (CITING_SENTENCE_TOKENS, "citing sentences"),
    (TASK_TOKENS, "texts of tasks"),
)


def truncation_lines(
    corpus: Corpus, tokenizer: TextTokenizer, input_format: InputFormat, max_length: int
) -> list[str]:
    """A sentence on each kind of texts of a corpus that were tokenised for an encoder."""
    key = tokenizer.key(input_format)
    most = max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    lines = []
    for kind, what in KINDS:
        if corpus.has_tokens(key, kind):
            counted = Truncation()
            counted.add(corpus.tokens(key, kind).lengths, most)
            lines.append(counted.line(max_length, what))
    return lines
