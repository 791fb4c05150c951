from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.sql_engine import read_size, running, statements
from sciembed_train.errors import UserError
from tests.helpers.small_disk import on_small_disk


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2**31), ("1.5G", 15 * 10**8), ("9", 9)],
)
def test_sizes_are_read(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "4 apples", "-1GB", "4iB", "GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match="expected a size such as 4GB"):
        read_size(text)


def test_statements_have_names(tmp_path):
    path = tmp_path / "x.sql"
    path.write_text("-- about\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT $n\n")
    assert statements(path) == {"one": "SELECT 1", "two": "-- why\nSELECT $n"}


def test_sorted_batches_come_in_order(tmp_path):
    # DuckDB 2.0 loses ORDER BY in execute().to_arrow_reader() when rows need not be kept in order.
    numbers = (np.arange(600_000) * 7919) % 600_011
    pq.write_table(pa.table({"x": numbers}), tmp_path / "it's.parquet")
    with running(tmp_path, 10**9, threads=2) as engine:
        batches = engine.batches("SELECT x FROM source ORDER BY x", tmp_path / "it's.parquet", 5000)
        result = np.concatenate([batch.column("x").to_numpy() for batch in batches])
    assert np.array_equal(result, np.sort(numbers))


def test_too_little_memory_is_told_in_words(tmp_path):
    import duckdb

    with pytest.raises(UserError, match="Give more with --memory"), running(tmp_path, 1):
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate\nmore")


def test_the_sql_keeps_to_what_other_engines_run():
    mining = Path(__file__).parents[2] / "sciembed_train" / "corpus" / "mining"
    for path in mining.glob("*.sql"):
        text = "\n".join(
            line for line in path.read_text().upper().splitlines() if not line.startswith("--")
        )
        for word in ("HASH(", "RANDOM", "RAND(", "LIST(", "ARRAY_AGG", "QUALIFY", "EXCLUDE", "::"):
            assert word not in text, (path.name, word)


SPILL = """
import sys
from pathlib import Path
from sciembed_train.corpus.sql_engine import running
from sciembed_train.errors import RunError
from sciembed_train.full_disk import told_full_disk
try:
    with told_full_disk(Path(sys.argv[1]), "Nothing is lost."):
        with running(Path(sys.argv[1]), 64 * 10**6, threads=1) as engine:
            engine.create("a", "SELECT i, i % 1000 AS h FROM range(30000000) t(i)")
            engine.create("b", "SELECT i, h FROM a ORDER BY h, i")
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [10**6, 30 * 10**6])
def test_a_disk_that_is_too_small_for_what_is_spilled_is_told_as_a_full_disk(tmp_path, size):
    """At the smaller size the database speaks of memory that it cannot put on the disk."""
    done = on_small_disk(tmp_path, size, "-c", SPILL, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path} cannot be written: No space left on device. ")
    assert done.stdout.endswith("Nothing is lost.\n")
