"""The verb `prepare`: papers and citations into a corpus folder."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.engine import Engine, read_size, running
from sciembed_train.corpus.explain import explain_mining, why_nothing
from sciembed_train.corpus.formats import Table, sha256
from sciembed_train.corpus.mining.margin import mine_margin
from sciembed_train.corpus.mining.triplets import TripletMining, Triplets, mine_triplets
from sciembed_train.corpus.papers import (
    Papers,
    assign_splits,
    read_citations,
    read_id_list,
    read_triplets,
    write_papers,
)
from sciembed_train.corpus.progress import Progress
from sciembed_train.corpus.recipe import recipe_settings
from sciembed_train.corpus.store import (
    CORPUS_VERSION,
    SPLITS,
    Corpus,
    Split,
    read_papers,
    save_info,
    save_queries,
    save_split,
    written_whole,
)
from sciembed_train.corpus.tokens import write_token_store
from sciembed_train.corpus.validate import EXAMPLES, Audit
from sciembed_train.errors import UserError
from sciembed_train.inputs import InputFormat, TextTokenizer

# What the interpreter and its libraries hold beside the database, and the part of the rest that
# the database gets: its limit does not count everything it holds.
BASE_MEMORY = 600 * 10**6
DATABASE_SHARE = 0.5
WORK = "work"  # a folder that is gone when the corpus is done

SPECTER_LISTS: dict[Split, str] = {"train": "train.txt", "dev": "val.txt", "test": "test.txt"}


@dataclass(frozen=True)
class PrepareSettings:
    """What `prepare` reads, mines and writes.

    Args:
        papers: a file, a folder, or a dataset of the ``datasets`` library.
        citations: likewise; None for papers alone.
        to: the corpus folder to make.
        pairs: triplets given ready (``query, positive, negative``), taken in place of mined ones.
        tokenizer: a folder or hub name; None leaves tokenising to a later run.
        form: how title and abstract become one text.
        format: ``specter`` for SPECTER's own files; ``auto`` sees them by their names.
        triplets: how triplets are mined.
        dev_share, test_share: share of the papers held out as queries.
        dev_ids, test_ids: files of paper ids that are held out instead of a share.
        seed: of the split and of every choice.
        memory: bytes of memory to stay under, as ``4GB``; the papers' ids are held whatever it is.
        threads: of the database; None for one per core.
        max_bad_rows: malformed rows per file that are skipped before the program refuses.
    """

    papers: str | Path
    citations: str | Path | None = None
    to: str | Path | None = None
    pairs: str | Path | None = None
    tokenizer: str | Path | None = None
    form: InputFormat = InputFormat()  # noqa: RUF009
    format: Literal["auto", "plain", "specter"] = "auto"
    triplets: TripletMining = TripletMining()  # noqa: RUF009
    dev_share: float = 0.05
    test_share: float = 0.05
    dev_ids: str | Path | None = None
    test_ids: str | Path | None = None
    seed: int = 0
    memory: str = "4GB"
    threads: int | None = None
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        for name in ("dev_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be 0 or more and below 1; got {getattr(self, name)}.")
        if self.dev_share + self.test_share >= 1:
            raise UserError("dev_share and test_share together leave no paper for training.")
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more; got {self.seed}.")
        if self.max_bad_rows < 0:
            raise UserError(f"max_bad_rows must be 0 or more; got {self.max_bad_rows}.")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be 1 or more; got {self.threads}.")
        if self.format not in ("auto", "plain", "specter"):
            raise UserError(f"format is {self.format!r}; it is auto, plain or specter.")
        read_size(self.memory)


@dataclass
class _Inputs:
    """The opened inputs, and what they and the settings are known by."""

    papers: Table
    citations: Table | None
    pairs: Table | None
    data: Path | None  # SPECTER's data.json
    lists: dict[Split, Path]  # files of query ids
    identity: dict[str, Any]


def prepare(settings: PrepareSettings, progress: Progress | None = None) -> Corpus:
    """Make a corpus folder, or add a tokenizer's tokens to the one that is there.

    A folder at ``to`` made from the same files with the same settings is kept, and only missing
    tokens are added; one made otherwise is replaced when the new one is complete.

    Args:
        settings: what to read and how.
        progress: is told how far it is; silence by default.

    Raises:
        UserError: the input is wrong, nothing can be mined, or ``to`` cannot be written.
    """
    progress = progress or Progress(quiet=True)
    if settings.to is None:
        raise UserError("prepare needs --to, the corpus folder to make.")
    to = Path(settings.to)
    inputs = _open_inputs(settings)
    tokenizer = TextTokenizer.load(settings.tokenizer) if settings.tokenizer is not None else None
    corpus = _existing(to, inputs.identity)
    if corpus is None:
        with written_whole(to) as folder:
            _build(folder, settings, inputs, progress)
            if tokenizer is not None:
                _add_tokens(folder, settings, tokenizer, progress)
        return Corpus.open(to)
    progress.say(f"{to} is already made from these files with these settings.")
    if tokenizer is not None and not corpus.has_tokens(tokenizer.key(settings.form)):
        _add_tokens(to, settings, tokenizer, progress)
    return Corpus.open(to)


def cached_corpus(
    settings: PrepareSettings, cache: str | Path, progress: Progress | None = None
) -> Corpus:
    """The corpus of these settings from a cache folder, prepared there unless it is there.

    Several processes may ask at once: one prepares, the others wait.

    Args:
        settings: what to read and how; ``to`` is not looked at.
        cache: a folder of corpora named by what they were made from.
        progress: is told how far it is.
    """
    from filelock import FileLock

    identity = _open_inputs(settings).identity
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(cache) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{name}.lock")
        with lock:
            return prepare(dataclasses.replace(settings, to=folder), progress)
    except PermissionError as error:
        raise UserError(f"{cache} cannot be written: {error.strerror}.") from error


def _existing(to: Path, identity: dict[str, Any]) -> Corpus | None:
    """The corpus at ``to`` if it was made from the same files with the same settings."""
    if not (to / "corpus.json").is_file():
        return None
    try:
        info = json.loads((to / "corpus.json").read_text(encoding="utf-8"))
    except ValueError:
        return None
    same = info.get("version") == CORPUS_VERSION and info.get("identity") == identity
    return Corpus.open(to) if same else None


def _open_inputs(settings: PrepareSettings) -> _Inputs:
    """Open every input, so that a mistyped name is told before anything is read."""
    lists: dict[Split, Path] = {}
    data = None
    source = Path(settings.papers)
    specter = settings.format == "specter" or (
        settings.format == "auto"
        and (source / "data.json").is_file()
        and (source / "metadata.json").is_file()
    )
    if specter:
        metadata = source / "metadata.json" if source.is_dir() else source
        data = Path(settings.citations or metadata.parent / "data.json")
        for path in (metadata, data):
            if not path.is_file():
                raise UserError(
                    f"{path}: there is no such file. SPECTER's format is data.json and "
                    "metadata.json, with train.txt, val.txt and test.txt beside them."
                )
        papers, citations = Table(metadata, "papers"), None
        beside: dict[Split, Path] = {
            split: metadata.parent / name for split, name in SPECTER_LISTS.items()
        }
        lists = {split: path for split, path in beside.items() if path.is_file()}
        if not lists:
            raise UserError(
                f"{metadata.parent} has no train.txt, val.txt or test.txt, which say which "
                "queries of data.json to train on. Write one query id a line."
            )
    else:
        papers = Table(settings.papers, "papers")
        citations = Table(settings.citations, "citations") if settings.citations else None
    given: dict[Split, str | Path | None] = {"dev": settings.dev_ids, "test": settings.test_ids}
    for split, path in given.items():
        if path is not None:
            lists[split] = Path(path)
            if not lists[split].is_file():
                raise UserError(f"{path}: there is no such file (ids of {split} queries).")
    pairs = Table(settings.pairs, "triplets") if settings.pairs else None
    sources = {"papers": papers.checksums()}
    for name, table in (("citations", citations), ("pairs", pairs)):
        if table is not None:
            sources[name] = table.checksums()
    files = {f"{split} ids": path for split, path in lists.items()}
    if data is not None:
        files["relations"] = data
    for name, path in files.items():
        sources[name] = [{"name": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}]
    identity = {
        "version": CORPUS_VERSION,
        "sources": sources,
        "format": "specter" if specter else "plain",
        "triplets": dataclasses.asdict(settings.triplets),
        "dev_share": settings.dev_share,
        "test_share": settings.test_share,
        "seed": settings.seed,
    }
    return _Inputs(papers, citations, pairs, data, lists, identity)


def _build(folder: Path, settings: PrepareSettings, inputs: _Inputs, progress: Progress) -> None:
    """Everything but the tokens, into an empty folder."""
    work = folder / WORK
    work.mkdir()
    memory = read_size(settings.memory)
    database = int(max(memory - BASE_MEMORY, memory * 0.25) * DATABASE_SHARE)
    report: dict[str, Any] = {}
    with running(work, database, settings.threads) as engine:
        audit = Audit("papers", settings.max_bad_rows)
        with progress.stage("papers") as stage:
            to = folder / "papers.parquet"
            table = inputs.papers
            papers = write_papers(table, table.rows(), to, work, engine, audit, stage)
        report["papers"] = audit.as_dict()
        lists: dict[Split, set[str]] = {
            split: read_id_list(path) for split, path in inputs.lists.items()
        }
        for split, ids in lists.items():
            if ids and inputs.data is None and ids.isdisjoint(papers.key):
                raise UserError(
                    f"{inputs.lists[split]}: not one of its {len(ids):,} ids is the id of a paper "
                    f"(the first is {min(ids)!r}). One `paper_id` a line is expected, no header."
                )
        if inputs.data is not None:
            counts = _build_specter(folder, settings, inputs.data, lists, papers, report, progress)
        else:
            counts = _build_plain(
                folder, settings, inputs, lists, papers, report, progress, engine, database
            )
    shutil.rmtree(work)
    totals = {"papers": len(papers.ids), "papers_with_text": int(papers.usable.sum())}
    info = {
        "version": CORPUS_VERSION,
        "made_by": f"sciembed_train {version('sciembed_train')}",
        "sources": [
            {"kind": kind, **file}
            for kind, files in inputs.identity["sources"].items()
            for file in files
        ],
        "counts": totals | counts,
        "settings": {
            name: inputs.identity[name]
            for name in ("format", "triplets", "dev_share", "test_share", "seed")
        },
        "identity": inputs.identity,
        "token_stores": {},
    }
    save_info(folder, report, "report.json")
    save_info(folder, info)


def _build_plain(
    folder: Path,
    settings: PrepareSettings,
    inputs: _Inputs,
    lists: Mapping[Split, set[str]],
    papers: Papers,
    report: dict[str, Any],
    progress: Progress,
    engine: Engine,
    memory: int,
) -> dict[str, Any]:
    """Citations and the triplets mined from them, or triplets given ready."""
    _refuse_shared(lists)
    shares = settings.dev_share, settings.test_share
    split = assign_splits(papers.ids, settings.seed, *shares, lists)
    citations = None
    if inputs.citations is not None:
        audit = Audit("citations", settings.max_bad_rows)
        with progress.stage("citations") as stage:
            citations = read_citations(inputs.citations, papers, audit, stage)
        report["citations"] = audit.as_dict()
        _save_citations(folder, citations)
    mined = None
    if inputs.pairs is not None:
        mined = _given(inputs.pairs, papers, citations, settings, report, progress)
    elif citations is not None:
        with progress.stage("triplets", unit="shards") as stage:
            mined = mine_triplets(
                engine,
                folder / WORK,
                citations,
                papers.usable,
                split,
                settings.triplets,
                settings.seed,
                memory,
                stage.reach,
            )
    counts: dict[str, Any] = {"citations": 0 if citations is None else len(citations)}
    if mined is None:
        return counts
    counts |= _save_mined(folder, mined, split)
    report["triplets"] = explain_mining(mined, split, counts, papers, citations)
    for name, ids in lists.items():
        unknown = sorted(ids - papers.key.keys())
        if unknown:
            report["triplets"][f"{name} ids that name no paper"] = {
                "count": len(unknown),
                "examples": unknown[:EXAMPLES],
            }
    if not counts["triplets"]["train"]:
        raise UserError(why_nothing(report, papers))
    return counts


def _refuse_shared(lists: Mapping[Split, set[str]]) -> None:
    """No query may be in two splits."""
    for a, b in combinations(lists, 2):
        shared = sorted(lists[a] & lists[b])
        if shared:
            raise UserError(
                f"{len(shared):,} ids are both {a} and {b} queries, the first is {shared[0]!r}. "
                "A query belongs to one split."
            )


def _build_specter(
    folder: Path,
    settings: PrepareSettings,
    data: Path,
    lists: Mapping[Split, set[str]],
    papers: Papers,
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Triplets of SPECTER's own files."""
    _refuse_shared(lists)
    audit = Audit("relations", settings.max_bad_rows)
    with progress.stage("triplets"):
        results, citations = mine_margin(
            data,
            lists,
            papers.key,
            papers.ids,
            papers.usable,
            settings.triplets,
            settings.seed,
            audit,
        )
    report["relations"] = audit.as_dict()
    report["triplets"] = {split: result.as_dict() for split, result in results.items()}
    train = results.get("train")
    if train is None or not train.rows:
        told = f"train.txt: {train.explain()}" if train else "there is no train.txt"
        raise UserError(
            f"{data}: no training triplet is left. {told}. metadata.json has "
            f"{len(papers.ids):,} papers, {int(papers.usable.sum()):,} with a text. Add the title "
            "and abstract of the papers that data.json names to metadata.json."
        )
    _save_citations(folder, citations)
    usable = papers.usable
    citing = np.unique(citations[usable[citations[:, 0]] & usable[citations[:, 1]], 0])
    counts: dict[str, Any] = {
        "citations": len(citations),
        "queries": {},
        "triplets": {},
        "hard": {},
    }
    for split in SPLITS:
        result = results.get(split)
        rows = np.array(result.rows if result else [], np.int32).reshape(-1, 3)
        hard = np.array(result.hard if result else [], np.bool_)
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
        wanted = [papers.key[i] for i in lists.get(split, ()) if i in papers.key]
        queries = np.intersect1d(np.array(wanted, np.int32), citing)
        _save(folder, split, rows[order], hard[order], queries, counts)
    return counts


def _given(
    table: Table,
    papers: Papers,
    citations: NDArray[np.int32] | None,
    settings: PrepareSettings,
    report: dict[str, Any],
    progress: Progress,
) -> Triplets:
    """Triplets given ready, in the shape of mined ones."""
    audit = Audit("pairs", settings.max_bad_rows)
    with progress.stage("triplets") as stage:
        rows = read_triplets(table, papers, audit, stage)
    report["pairs"] = audit.as_dict()
    queries = np.unique(rows[:, 0])
    if citations is not None:
        usable = papers.usable
        queries = np.unique(citations[usable[citations[:, 0]] & usable[citations[:, 1]], 0])
    none = np.empty(0, np.int32)
    return Triplets(rows, np.zeros(len(rows), np.bool_), queries.astype(np.int32), none, 0)


def _save_citations(folder: Path, citations: NDArray[np.int32]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(folder / "citations.npy", citations)
    columns = {
        "citing": np.ascontiguousarray(citations[:, 0]),
        "cited": np.ascontiguousarray(citations[:, 1]),
    }
    pq.write_table(pa.table(columns), folder / "citations.parquet", compression="zstd")


def _save_mined(folder: Path, mined: Triplets, split: NDArray[np.int8]) -> dict[str, Any]:
    counts: dict[str, Any] = {"queries": {}, "triplets": {}, "hard": {}}
    of_row = split[mined.rows[:, 0]]
    for number, name in enumerate(SPLITS):
        chosen = of_row == number
        queries = mined.queries[split[mined.queries] == number]
        _save(folder, name, mined.rows[chosen], mined.hard[chosen], queries, counts)
    return counts


def _save(
    folder: Path,
    split: Split,
    rows: NDArray[np.int32],
    hard: NDArray[np.bool_],
    queries: NDArray[np.int32],
    counts: dict[str, Any],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    save_split(folder, split, rows, hard)
    save_queries(folder, split, queries)
    columns = {
        name: np.ascontiguousarray(rows[:, i])
        for i, name in enumerate(("query", "positive", "negative"))
    }
    table = pa.table(columns | {"hard": hard})
    pq.write_table(table, folder / "triplets" / f"{split}.parquet", compression="zstd")
    counts["queries"][split] = len(queries)
    counts["triplets"][split] = len(rows)
    counts["hard"][split] = int(hard.sum())


def _add_tokens(
    folder: Path, settings: PrepareSettings, tokenizer: TextTokenizer, progress: Progress
) -> None:
    """A token store beside those that are there."""
    info = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    key = tokenizer.key(settings.form)
    papers = read_papers(folder / "papers.parquet")
    total = info["counts"]["papers"]
    store_folder = folder / "tokens" / key
    with (
        progress.stage("tokens", total, "papers") as stage,
        written_whole(store_folder, "store.json") as partial,
    ):
        store = write_token_store(
            partial,
            tokenizer,
            settings.form,
            papers,
            name=str(settings.tokenizer),
            on_batch=stage.reach,
        )
    info["token_stores"][key] = {
        name: store.info[name] for name in ("tokenizer", "form", "tokens", "vocab_size")
    }
    save_info(folder, info)


def export_csv(corpus: Corpus, folder: str | Path) -> None:
    """Write the triplets of each split as ``query_paper_id,positive_id,negative_id``."""
    import csv

    folder = Path(folder)
    ids = corpus.paper_ids()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            with (folder / f"{split}_triples.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("query_paper_id", "positive_id", "negative_id"))
                for row in corpus.triplets(split):
                    writer.writerow([ids[paper] for paper in row])
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error


def summary(corpus: Corpus) -> str:
    """A few lines on a corpus for a person."""
    counts = corpus.info["counts"]
    without = counts["papers"] - counts["papers_with_text"]
    lines = [
        f"{corpus.folder}: {counts['papers']:,} papers ({without:,} without a text), "
        f"{counts['citations']:,} citations"
    ]
    if "triplets" in counts:
        parts = [
            f"{split} {counts['triplets'][split]:,} ({counts['hard'][split]:,} hard)"
            for split in SPLITS
        ]
        lines.append(f"triplets: {', '.join(parts)}")
    stores = corpus.info["token_stores"].values()
    lines.extend(f"tokens: {s['tokens']:,} by {s['tokenizer']}" for s in stores)
    report = json.loads((corpus.folder / "report.json").read_text(encoding="utf-8"))
    for part in report.values():
        lines.extend(part.get("notes", ()))
    lines.append(f"what was left out and why: {corpus.folder / 'report.json'}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train prepare",
        description="Check papers and citations, mine triplets, tokenise, and write a corpus.",
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="RECIPE",
        help="a recipe: what to mine and how to tokenise; may be repeated",
    )
    add("--papers", help="file, folder or dataset of papers: paper_id, title, abstract")
    add("--citations", help="file, folder or dataset of citations: citing, cited")
    add("--pairs", help="triplets given ready: query, positive, negative")
    add("--to", required=True, metavar="CORPUS", help="the corpus folder to make")
    add(
        "--format",
        choices=("auto", "plain", "specter"),
        default="auto",
        help="specter: data.json, metadata.json, train.txt, val.txt, test.txt in one folder",
    )
    add(
        "--tokenizer",
        metavar="NAME_OR_FOLDER",
        help="tokenise the texts with this; may be added later",
    )
    add("--separator", choices=("sep", "space"), help="between title and abstract")
    add("--sentences", choices=("joined", "sep"), help="between the sentences of an abstract")
    add("--per-query", type=int, metavar="N", help="triplets of a query (5)")
    add("--hard", type=int, metavar="N", help="how many of them with a hard negative (2)")
    add(
        "--require-hard",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave out queries without a hard negative (yes)",
    )
    add(
        "--dev-share",
        type=float,
        metavar="X",
        help="share of papers held out as dev queries (0.05)",
    )
    add(
        "--test-share",
        type=float,
        metavar="X",
        help="share of papers held out as test queries (0.05)",
    )
    add("--dev-ids", metavar="F", help="ids of the dev queries, one a line, in place of a share")
    add("--test-ids", metavar="F", help="ids of the test queries, one a line, in place of a share")
    add("--seed", type=int, metavar="N", help="of the split and every choice (0)")
    add("--memory", metavar="SIZE", help="memory to stay under (4GB)")
    add("--threads", type=int, metavar="N", help="of the database (one per core)")
    add(
        "--max-bad-rows",
        type=int,
        metavar="N",
        help="malformed rows of a file that are skipped (0)",
    )
    add("--csv", metavar="FOLDER", help="also write the triplets as CSV with paper ids")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--json", action="store_true", help="print the summary as JSON")
    return parser


def main(argv: list[str]) -> int:
    """The command ``train prepare``."""
    args = _parser().parse_args(argv)
    values = recipe_settings(args.config)
    names = (
        "papers",
        "citations",
        "pairs",
        "tokenizer",
        "dev_share",
        "test_share",
        "dev_ids",
        "test_ids",
        "seed",
        "memory",
        "threads",
        "max_bad_rows",
    )
    for name in names:
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    mining = {n: getattr(args, n) for n in ("per_query", "hard", "require_hard")}
    mining = {name: value for name, value in mining.items() if value is not None}
    values["triplets"] = dataclasses.replace(values.get("triplets", TripletMining()), **mining)
    form = {n: getattr(args, n) for n in ("separator", "sentences") if getattr(args, n)}
    values["form"] = dataclasses.replace(values.get("form", InputFormat()), **form)
    if "papers" not in values:
        raise UserError("prepare needs --papers, a file of papers.")
    settings = PrepareSettings(to=args.to, format=cast(Any, args.format), **values)
    corpus = prepare(settings, Progress(quiet=args.quiet))
    if args.csv:
        export_csv(corpus, args.csv)
    if args.json:
        told = {"corpus": str(corpus.folder), **corpus.info["counts"]}
        print(json.dumps(told | {"token_stores": corpus.info["token_stores"]}))
    elif not args.quiet:
        print(summary(corpus))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
