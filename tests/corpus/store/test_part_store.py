import json
import re

import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.part_store import (
    PartTokens,
    middle_token,
    write_part_store,
)
from sciembed_train.corpus.store.token_kinds import PART_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

ROWS = [
    {"paper": 0, "title": "word1 word2", "abstract": "word3 word4 word5. Word6 word7"},
    {
        "paper": 1,
        "title": "Word1, word2!",
        "abstract": ["word3 word4.", "word5 word6 word7.", "word8"],
    },
    {"paper": 2, "title": "word9", "abstract": None},
    {"paper": 3, "title": "", "abstract": "word1 word2"},
    {"paper": 4, "title": "word9", "abstract": "word1"},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert):
    return TextTokenizer.load(tiny_bert)


def test_title_and_abstract_are_tokenised_alone(tokenizer, tmp_path):
    store = write_part_store(tmp_path / "s", tokenizer, InputFormat(), ROWS, batch_papers=2)
    assert len(store) == 10
    ids, _ = store.rows(np.array([0, 1]), 64)
    expected = tokenizer.rows([ROWS[0]["title"], ROWS[0]["abstract"]], 64)
    assert ids.tolist() == [*expected[0], *expected[1]]
    assert (store.lengths.reshape(-1, 2) > 0).tolist() == [[True] * 2] * 2 + [[False] * 2] * 2 + [
        [True] * 2
    ]
    assert store.middles.tolist()[2:] == [0, 0, 0]
    # Four tokens of the first sentence, its full stop among them, before two of the second.
    assert store.middles[0] == 4
    assert store.titles[0] == store.titles[1] != 0
    assert store.titles[3] == 0
    assert store.titles[2] == store.titles[4] != store.titles[0]


def test_a_title_may_have_a_prompt_of_its_own(tokenizer, tmp_path):
    form = InputFormat(prompt="word9 ", title_prompt="word8: ")
    store = write_part_store(tmp_path / "s", tokenizer, form, ROWS)
    ids, _ = store.rows(np.array([0, 1]), 64)
    texts = [f"word8: {ROWS[0]['title']}", f"word9 {ROWS[0]['abstract']}"]
    title, abstract = tokenizer.rows(texts, 64)
    assert ids.tolist() == [*title, *abstract]
    both = write_part_store(tmp_path / "both", tokenizer, InputFormat(prompt="word9 "), ROWS)
    ids, _ = both.rows(np.array([0]), 64)
    assert ids.tolist() == tokenizer.rows([f"word9 {ROWS[0]['title']}"], 64)[0]
    assert tokenizer.key(form) != tokenizer.key(InputFormat(prompt="word9 "))


@pytest.mark.parametrize(
    ("text", "middle"),
    [
        ("Aa bb cc dd. Ee ff gg hh.", 5),
        ("Aa bb. Cc dd ee ff gg hh ii jj kk ll.", 7),  # no sentence ends near the middle
        ("aa bb e.g. cc dd", 2),  # no end of a sentence, and no border inside of a word
        ("aa", 0),
    ],
)
def test_the_middle_is_a_border_of_sentences_or_words(text, middle):
    ends = [match.end() for match in re.finditer(r"\w+|[^\w\s]", text)]
    assert middle_token(text, ends) == middle


def test_sentences_of_a_list_are_its_borders():
    assert middle_token("aa bb cc dd", [2, 5, 8, 11], [6]) == 2
    assert middle_token("aa bb cc dd", [2, 5, 8, 11], [3]) == 1
    assert middle_token("aa bb cc dd", [2, 5, 8, 11], []) == 2


def test_a_damaged_store_is_refused(tokenizer, tmp_path):
    store = write_part_store(tmp_path / "s", tokenizer, InputFormat(), ROWS)
    np.save(store.folder / "titles.npy", np.zeros(3, np.int64))
    with pytest.raises(UserError, match="damaged"):
        PartTokens.open(store.folder)


def test_prepare_writes_them_where_they_are_asked_for(tiny_bert, tmp_path):
    papers = tmp_path / "papers.jsonl"
    lines = [json.dumps({"paper_id": str(i), **row}) for i, row in enumerate(ROWS)]
    papers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {"to": tmp_path / "corpus", "tokenizer": str(tiny_bert)}
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    corpus = prepare(PrepareSettings(papers, **settings))
    assert not corpus.has_tokens(key, PART_TOKENS)
    with pytest.raises(UserError, match="--part-tokens"):
        corpus.tokens(key, PART_TOKENS)
    corpus = prepare(PrepareSettings(papers, **settings, part_tokens=True))
    assert len(Corpus.open(corpus.folder).tokens(key, PART_TOKENS)) == 10
    assert set(corpus.paper_splits().tolist()) <= {0, 1, 2}
    with pytest.raises(UserError, match="titles and abstracts"):
        PrepareSettings(papers, to=tmp_path / "c", part_tokens=True)
