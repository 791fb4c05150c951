"""The SQL of triplet mining on Spark beside DuckDB: the same rows, and how long each takes.

PySpark 4 and Java 17 are needed; neither belongs to the project.

    python -m benchmarks.speed.spark_mining [--papers 20000] [--citations 200000] [--rounds 2]
        [--graph citations.npy]

The graph is invented as in `benchmarks.speed.mining`, or the ``citations.npy`` of a corpus. Both
engines run on two cores, take turns, and mine all queries in one shard; starting the Java machine
(``start``) is not counted. The exit code is 1 where a row differs.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import command_line
from benchmarks.speed.mining import invent_citations
from sciembed_train.corpus.mining.triplet_mining import CitationGraph, TripletMining, mine_triplets
from sciembed_train.corpus.splits import assign_splits
from sciembed_train.corpus.sql_engine import running


class SparkEngine:
    """What `sql_engine.Engine` does for the miners, on Spark: each table is a Parquet file."""

    def __init__(self, session: Any, folder: Path) -> None:
        self.session, self.folder, self.numbers = session, folder, count()

    def _named(self, table: str, path: str) -> None:
        self.session.read.parquet(path).createOrReplaceTempView(table)

    def load_columns(self, table: str, columns: dict[str, Any]) -> None:
        """Columns as a table."""
        path = str(self.folder / f"{table}-{next(self.numbers)}.parquet")
        pq.write_table(pa.table({k: np.ascontiguousarray(v) for k, v in columns.items()}), path)
        self._named(table, path)

    def create(self, table: str, sql: str, **values: int) -> None:
        """A table of the rows of a query."""
        self._write(table, self.session.sql(Template(sql).substitute(values)))

    def _write(self, table: str, rows: Any) -> None:
        path = str(self.folder / f"{table}-{next(self.numbers)}.parquet")
        rows.write.parquet(path)
        self._named(table, path)

    def run(self, sql: str) -> None:
        """Add the rows of a query to a table."""
        inserted = re.fullmatch(r"INSERT INTO (\w+) (SELECT .*)", sql, re.DOTALL)
        assert inserted
        table = inserted[1]
        self._write(table, self.session.table(table).unionAll(self.session.sql(inserted[2])))

    def drop(self, table: str) -> None:
        """Remove a table."""
        self.session.catalog.dropTempView(table)

    def columns(self, sql: str, **values: int) -> dict[str, Any]:
        """The columns of a query."""
        found = self.session.sql(Template(sql).substitute(values)).toArrow()
        return {name: found.column(name).to_numpy() for name in found.column_names}

    def number(self, sql: str) -> int:
        """The one number that a query gives."""
        return int(self.session.sql(sql).first()[0] or 0)


def main() -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--papers", type=int, default=20_000)
    parser.add_argument("--citations", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--graph", type=Path)
    args = parser.parse_args()
    if args.graph:
        citations = np.unique(np.load(args.graph), axis=0).astype(np.int32)
    else:
        keys = np.sort(invent_citations(args.papers, args.citations))
        citations = np.stack(np.divmod(keys, args.papers), axis=1).astype(np.int32)
    papers = args.papers if args.graph is None else int(citations.max()) + 1
    split = assign_splits([str(i) for i in range(papers)], 0, 0.05, 0.05)
    graph = CitationGraph(citations, np.ones(papers, bool), split)

    from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]

    begun = time.monotonic()
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.driver.memory", "4g")
        .getOrCreate()
    )
    print(f"start of Spark {session.version}: {time.monotonic() - begun:.1f} s")
    print(f"{papers:,} papers, {len(citations):,} citations")
    print("\n| round | duckdb | spark | spark / duckdb |\n|---|--:|--:|--:|")
    triplets = 0
    for number in range(args.rounds):
        seconds, rows = {}, {}
        for name in ("duckdb", "spark") if number % 2 == 0 else ("spark", "duckdb"):
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                begun = time.monotonic()
                if name == "spark":
                    engine: Any = SparkEngine(session, work)
                    found = mine_triplets(engine, graph, TripletMining(), 0, 10**13, work / "units")
                else:
                    with running(work, 2 * 10**9, 2) as engine:
                        units = work / "units"
                        found = mine_triplets(engine, graph, TripletMining(), 0, 10**13, units)
                seconds[name] = time.monotonic() - begun
                rows[name] = found
        spark, duckdb = rows["spark"], rows["duckdb"]
        for field in ("rows", "hard", "queries", "without_hops"):
            if not np.array_equal(getattr(spark, field), getattr(duckdb, field)):
                print(f"{field} differ")
                return 1
        triplets = len(duckdb.rows)
        a, b = seconds["duckdb"], seconds["spark"]
        print(f"| {number} | {a:.1f} s | {b:.1f} s | {b / a:.1f} |", flush=True)
    print(f"\nthe same {triplets:,} triplets from both")
    return 0


if __name__ == "__main__":
    sys.exit(main())
