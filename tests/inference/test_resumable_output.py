import json

import numpy as np
import pytest

from sciembed_train.inference.resumable_output import (
    PaperVectors,
    SentenceVectorLists,
    write_jsonl,
    write_parquet,
)

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
SENTENCES = [VECTORS[:2], VECTORS[2:2], VECTORS[2:]]


def test_vectors_are_kept_over_a_new_start(tmp_path):
    first = PaperVectors(tmp_path, 4, 3)
    first.open(None)
    first.add(VECTORS[:2])
    again = PaperVectors(tmp_path, 4, 3)
    again.open(2)
    again.add(VECTORS[2:])
    np.testing.assert_array_equal(np.stack(list(again.each())), VECTORS)


def test_sentences_behind_the_last_chunk_that_was_noted_are_dropped(tmp_path):
    first = SentenceVectorLists(tmp_path, 3, 3)
    first.open(None)
    first.add(SENTENCES[:1])
    first.add(SENTENCES[2:])  # on disk, but the note that it is done was never written
    again = SentenceVectorLists(tmp_path, 3, 3)
    again.open(1)
    again.add(SENTENCES[1:])
    assert again.counts().tolist() == [2, 0, 2]
    for vectors, expected in zip(again.each(), SENTENCES, strict=True):
        np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("by_sentence", [False, True])
def test_json_lines_and_parquet_give_every_float_back(tmp_path, by_sentence):
    import pyarrow.parquet as pq

    partial = (SentenceVectorLists if by_sentence else PaperVectors)(
        tmp_path, 3 if by_sentence else 4, 3
    )
    parts = SENTENCES if by_sentence else list(VECTORS)
    partial.open(None)
    partial.add(SENTENCES if by_sentence else VECTORS)
    ids = [f"p{i}" for i in range(len(parts))]
    write_jsonl(tmp_path / "e.jsonl", ids, partial)
    write_parquet(tmp_path / "e.parquet", ids, partial)
    name = "sentence_embeddings" if by_sentence else "embedding"
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    rows = pq.read_table(tmp_path / "e.parquet").to_pylist()
    for line, row, expected in zip(lines, rows, parts, strict=True):
        assert line["paper_id"] == row["paper_id"]
        for values in (line[name], row[name]):
            got = np.array(values, np.float32).reshape(expected.shape)
            np.testing.assert_array_equal(got, expected)
