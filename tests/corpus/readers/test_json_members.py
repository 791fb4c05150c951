import json

import pytest

from sciembed_train.corpus.readers import json_members
from sciembed_train.corpus.readers.base import ReadOptions
from sciembed_train.corpus.readers.json_members import JsonMembers, iter_json
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.data_files import ROWS, encode, read_table


def test_a_json_object_of_records_gives_each_its_key(tmp_path):
    path = tmp_path / "m.json"
    path.write_text(
        '{"a": {"title": "x"}, "b": {"paper_id": "b"},\n "c": {"paper_id": "d"}, "e": 1}'
    )
    rows = [row for _, row in read_table(path)]
    assert rows[:2] == [{"paper_id": "a", "title": "x"}, {"paper_id": "b"}]
    assert rows[2].message == "the key is 'c' and `paper_id` in it is 'd'."
    assert len(rows) == 4


def test_json_lines_under_the_ending_json_are_read_as_what_they_are(tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(encode("jsonl"))
    assert read_table(path) == list(zip([1, 2, 3], ROWS, strict=True))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_json_is_read_the_same_in_chunks_of_any_size(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_members._JsonFile, "CHUNK", chunk)
    value = [{"a": 'é\n"]', "b": [1.5e-3, {"c": None}]}, {"d": 12345}, {"e": "x" * 300}]
    path = tmp_path / "x.json"
    for indent in (None, 2):
        path.write_text(json.dumps(value, indent=indent, ensure_ascii=False))
        assert [v for *_, v in iter_json(path)] == value
    keyed = {str(i): v for i, v in enumerate(value)}
    path.write_text(json.dumps(keyed))
    assert {k: v for _, k, v in iter_json(path)} == keyed


@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_damaged_json_is_reported_with_its_line(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_members._JsonFile, "CHUNK", chunk)
    path = tmp_path / "x.json"
    for text, line in (
        ('[{"a": 1},\n{"b": nonsense}]', 2),
        ('[{"a": 1},\n\n{"b": 2}', 3),
        ('[{"a": 1}\n{"b": 2}]', 2),
        ('"text"', 1),
        ('[{"a": 1}]\nmore', 2),
        ('{"a": {}\n,,}', 2),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"x\.json:{line}: this is not JSON"):
            list(iter_json(path))


def test_an_object_with_a_key_of_a_record_is_one_record(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"metadata": {"title": "t"}, "body": {}}')
    (row,) = JsonMembers().rows(path, ReadOptions(record_keys=("metadata",)))
    assert row == (1, {"metadata": {"title": "t"}, "body": {}})
    assert [key for _, key, _ in iter_json(path)] == ["metadata", "body"]


def test_records_of_one_line_are_named_by_their_place(tmp_path):
    path = tmp_path / "p.json"
    rows = [{"paper_id": i, "title": f"t{i}"} for i in range(4)]
    rows[2]["title"] = 7
    for value in (rows, {str(row["paper_id"]): row for row in rows}):
        path.write_text(json.dumps(value))
        table = Table(path, "papers")
        places = [table.where(place) for place, _ in table.rows()]
        assert places == [f"{path}, record {n}" for n in (1, 2, 3, 4)]
    with pytest.raises(UserError, match=r"p\.json, record 3: `title` is the number 7"):
        PaperFile(path)


def test_records_of_several_lines_are_named_by_line(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('[\n{"a": 1},\n{"a": 2}, {"a": 3},\n{"a":\n4}\n]')
    table = Table(path, "rows")
    assert [table.where(place) for place, _ in table.rows()] == [
        *(f"{path}:2", f"{path}:3", f"{path}, record 3", f"{path}:4")
    ]
    path.write_text('[{"a": 1}, {"a": 2}, {"a" 3}]')
    with pytest.raises(UserError, match=r"this is not JSON: .* in record 3"):
        list(Table(path, "rows").rows())
