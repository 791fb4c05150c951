import numpy as np
import pytest

from sciembed_train.corpus.store.token_store_writing import write_document_store, write_token_store
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import small_papers


def split_rows(ids, lengths):
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def test_a_text_of_400_tokens_is_kept_whole_though_the_tokenizer_file_cuts_at_128(minilm, tmp_path):
    from transformers import AutoTokenizer

    text = "citation " * 400
    hf = AutoTokenizer.from_pretrained(minilm)
    assert len(hf.backend_tokenizer.encode(text).ids) == 128  # the trap is there
    tokenizer = TextTokenizer.load(minilm)
    papers = [{"paper": 0, "title": text, "abstract": "citation " * 700}]
    store = write_token_store(tmp_path / "s", tokenizer, InputFormat(), papers)
    assert store.lengths.tolist() == [400 + 1 + 700]
    ids, lengths = store.rows(np.array([0]), 512)
    assert lengths.tolist() == [512]
    assert ids[0] == hf.cls_token_id
    assert ids[-1] == hf.sep_token_id
    assert ids[401] == hf.sep_token_id


def test_a_paper_without_text_has_an_empty_body_even_with_a_control_code(tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    papers = [
        {"paper": 0, "title": " ", "abstract": None},
        {"paper": 1, "title": "word1", "abstract": ["", " "]},
        {"paper": 2, "title": None, "abstract": []},
    ]
    input_format = InputFormat(control_code="word2")
    store = write_token_store(tmp_path / "s", tokenizer, input_format, papers)
    assert store.lengths.tolist() == [0, 2, 0]
    ids, lengths = store.rows(np.array([2, 0]), 8)
    assert ids.tolist() == [2, 3, 2, 3]
    assert lengths.tolist() == [2, 2]


def test_a_large_vocabulary_takes_four_bytes_a_token(tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    small = write_token_store(tmp_path / "s", tokenizer, InputFormat(), small_papers(20))
    tokenizer.vocab_size = 2**16
    large = write_token_store(tmp_path / "l", tokenizer, InputFormat(), small_papers(20))
    assert [s.info["dtype"] for s in (small, large)] == ["uint16", "uint32"]
    found = [s.rows(np.arange(20), 64)[0] for s in (small, large)]
    assert np.array_equal(*found)


@pytest.mark.parametrize("fixture", ["tiny_bert", "tiny_roberta"])
def test_a_store_of_documents_holds_what_the_tokenizer_gives(request, tmp_path, fixture):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    texts = ["word1 word2", "", "abc", "word3 " * 500]
    told = []
    store = write_document_store(
        tmp_path / "s", tokenizer, texts, shard_documents=3, name="n", on_batch=told.append
    )
    expected = [tokenizer.encode([f" {t}" if t else t])[0] for t in texts]
    assert store.lengths.tolist() == [len(ids) for ids in expected]
    ids, lengths = store.rows(np.arange(4), 10**6)
    special = len(store.prefix), len(store.suffix)
    rows = split_rows(ids, lengths)
    assert [row[special[0] : len(row) - special[1]] for row in rows] == expected
    assert sorted(p.name for p in store.folder.glob("*.bin")) == ["00000.bin", "00001.bin"]
    assert told == [1, 2, 3, 4]


def test_batches_report_the_texts_that_are_written(tiny_bert, tmp_path):
    written = []
    store = write_token_store(
        tmp_path / "s",
        TextTokenizer.load(tiny_bert),
        InputFormat(),
        small_papers(20),
        batch_papers=8,
        on_batch=written.append,
    )
    assert (written, len(store)) == ([8, 16, 20], 20)
