import pytest

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import (
    CITING_SENTENCE_TOKENS,
    DOCUMENT_TOKENS,
    PAPER_TOKENS,
    SENTENCE_INDEXED_TOKENS,
    TASK_TOKENS,
)
from sciembed_train.errors import UserError

KINDS = [
    PAPER_TOKENS,
    SENTENCE_INDEXED_TOKENS,
    CITING_SENTENCE_TOKENS,
    DOCUMENT_TOKENS,
    TASK_TOKENS,
]
STORES = {
    "a": {"tokenizer": "bert", "form": {"separator": "sep", "prompt": ""}},
    "b": {"tokenizer": "roberta", "form": {"separator": "space"}},
}


def corpus(folder, **info):
    counts = {"papers": 1, "documents": 1, "citing_sentences": 1}
    return Corpus(folder, {"counts": counts, **info})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_a_store_lies_in_the_folder_of_its_kind(tmp_path, kind):
    assert not corpus(tmp_path).has_tokens("a", kind)
    (tmp_path / kind.folder / "a").mkdir(parents=True)
    (tmp_path / kind.folder / "a" / "store.json").write_text("{}")
    assert corpus(tmp_path).has_tokens("a", kind)
    assert not any(corpus(tmp_path).has_tokens("a", other) for other in KINDS if other is not kind)
    with pytest.raises(UserError, match="token store of version None"):
        corpus(tmp_path).tokens("a", kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_a_missing_store_names_those_of_its_kind(tmp_path, kind):
    with pytest.raises(UserError) as caught:
        corpus(tmp_path, **{kind.entry: STORES}).tokens("c", kind)
    message = str(caught.value)
    assert f"holds no tokens of its {kind.texts} by this tokenizer and input format (key c)" in (
        message
    )
    assert (
        "tokenised with bert (separator=sep), roberta (separator=space). Give the run one"
        in message
    )
    assert message.endswith("only the tokens are added.")
    assert ("--sentence-tokens" in message) == (kind is SENTENCE_INDEXED_TOKENS)
    with pytest.raises(UserError, match="tokenised with none"):
        corpus(tmp_path).tokens("c", kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (DOCUMENT_TOKENS, r"holds no documents .*prepare --fulltexts F_OR_FOLDER"),
        (CITING_SENTENCE_TOKENS, r"holds no pairs of citing sentences.*--contexts F"),
    ],
)
def test_a_corpus_without_such_texts_says_how_to_prepare_them(tmp_path, kind, message):
    bare = corpus(tmp_path, counts={"papers": 1})
    with pytest.raises(UserError, match=message):
        bare.tokens("a", kind)
