"""Rows of papers in every format of file, plain and compressed."""

import csv
import gzip
import io
import json

from sciembed_train.corpus.readers.tables import Table

ROWS = [
    {"paper_id": "a", "title": 'Zwölf "quoted", titles', "abstract": "one\ttwo"},
    {"paper_id": "b", "title": "second", "abstract": "line one\nline two"},
    {"paper_id": "ü", "title": "third", "abstract": ""},
]


def encode(kind, rows=ROWS):
    if kind == "jsonl":
        return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False).encode()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    out = io.StringIO()
    delimiter = "\t" if kind == "tsv" else ","
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def compress(data, ending):
    import zstandard

    if ending == ".gz":
        return gzip.compress(data)
    return zstandard.compress(data) if ending == ".zst" else data


def read_table(path, kind="papers"):
    return list(Table(path, kind).rows())


def rows_by_place(path):
    table = Table(path, "papers")
    return [(table.where(place), row) for place, row in table.rows()]
