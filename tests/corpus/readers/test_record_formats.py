from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.record_formats import PaperRecord, RecordFormat
from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS
from sciembed_train.corpus.readers.tables import Table


class MyRecords(RecordFormat):
    name = "my records"

    def recognises(self, row):
        return "my_id" in row

    def paper(self, row):
        return PaperRecord(row["my_id"], row["heading"])


def test_a_format_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(RECORD_FORMATS, "mine", MyRecords())
    (tmp_path / "p.jsonl").write_text('{"my_id": 1, "heading": "One"}\n')
    rows = PaperRows(Table(tmp_path / "p.jsonl", "papers"))
    assert [(p.paper_id, p.title) for _, p in rows] == [("1", "One")]
    assert rows.said() == ["p.jsonl: my records"]
