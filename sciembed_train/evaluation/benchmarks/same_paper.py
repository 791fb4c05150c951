"""Which abstract belongs to a title, and which second half of an abstract to its first?

No judgements are needed, so any papers will do: a corpus, a file of papers, or a folder with one.
Relevant is what is of the same paper. An encoder that was trained on relations between papers alone
loses this first, so that both guard against forgetting.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import (
    TIED,
    NoQueriesError,
    Result,
    counted,
    described,
    mean,
)
from sciembed_train.evaluation.benchmarks.retrieval import first_paper, papers_of
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import (
    TIE_RULES,
    TieRule,
    judged,
    rank_judged,
    tie_order,
)
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.embedding import Text
from sciembed_train.inference.paper_file import PaperFile
from sciembed_train.text.normalise import normalised

Task = Literal["title_abstract", "abstract_halves"]
# Id, title and abstract of a paper, as corpora and files of papers give them.
PaperText = tuple[str, str | None, str | Sequence[str] | None]
DRAWN = 5000  # papers, where the settings do not say
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Pair:
    """Two texts of a paper: one asks, the other is to be ranked first.

    Args:
        paper_id: of the paper.
        query: title and abstract of the text that asks.
        candidate: of the text that is ranked.
        title: of the paper.
    """

    paper_id: str
    query: Text
    candidate: Text
    title: str | None


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    papers, held_out = read_papers(settings)
    system = systems.system(settings)
    task = cast(Task, settings.benchmark)
    sample = DRAWN if settings.sample is None else settings.sample
    result = evaluate(papers, system, task, held_out, sample, settings.seed, settings.ties)
    if held_out is not None:
        result.settings["split"] = settings.split
    return described(system, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder has papers with an abstract, and no file that asks something of them."""
    asked = ("labels", "citations", "cocitation", "cocitations", "queries", "qrels", "corpus")
    if any(path.name.split(".")[0] in asked for path in folder.iterdir()):
        return False
    first = first_paper(folder)
    return first is not None and bool(first[1].title and first[1].abstract)


def evaluate(
    papers: Iterable[PaperText],
    system: System,
    task: Task,
    held_out: set[str] | None = None,
    sample: int = 0,
    seed: int = 0,
    ties: TieRule = "expected",
) -> Result:
    """Scores of a system: MAP (here MRR, one text being relevant), recall at 10, nDCG.

    Candidates whose text is that of another paper's are left out, with their queries.

    Args:
        papers: read once.
        system: model or baseline.
        task: which texts of a paper are paired.
        held_out: the papers that ask, all others being candidates alone; None for all of them.
        sample: most papers, held-out ones first, the rest by a hash of seed and id; 0 for all.
        seed: of the draw.
        ties: how texts at equal distances are ordered.

    Raises:
        NoQueriesError: no paper that asks has both texts.
    """
    pairs, left_out = _pairs(papers, task)
    drawn = _draw(pairs, held_out, sample, seed)
    asking = [i for i, p in enumerate(drawn) if held_out is None or p.paper_id in held_out]
    if not asking or len(drawn) < 2:
        raise NoQueriesError(
            f"{task}: {len(asking)} papers to ask with and {len(drawn)} candidates have both a "
            f"{' and an '.join(_NAMES[task])}; expected 1 or more and 2 or more."
        )
    texts = [drawn[i].query for i in asking] + [pair.candidate for pair in drawn]
    titles = [drawn[i].title for i in asking] + [pair.title for pair in drawn]
    queries, candidates = np.arange(len(asking)), np.arange(len(asking), len(texts))
    candidate_ids = [pair.paper_id for pair in drawn]
    search = Search(
        texts,
        len(texts),
        queries,
        candidates,
        titles=titles,
        query_ids=[candidate_ids[i] for i in asking],
        paper_ids=candidate_ids,
        judged=lambda at: (np.array([asking[at]]), np.ones(1, dtype=np.int64)),
    )
    order = tie_order(candidate_ids, ties)
    per_query, tied = {}, 0
    for i, row in zip(asking, system.distances(search), strict=True):
        ranked = rank_judged(row, np.array([i]), np.ones(1, dtype=np.int64), order)
        per_query[drawn[i].paper_id] = judged(ranked)
        tied += ranked.tied
    settings = {
        "queries": len(asking),
        "papers": len(drawn),
        "papers_not_drawn": len(pairs) - len(drawn),
        "seed": seed,
        **left_out,
        "ties": TIE_RULES[ties],
        "queries_tied": tied,
    }
    left = {
        "papers_without_both_texts": f"papers have no {' or no '.join(_NAMES[task])}: left out.",
        "papers_with_a_text_twice": "papers have a text that another paper has: left out.",
    }
    notes = counted({f"{{}} {text}": left_out[key] for key, text in left.items()} | {TIED: tied})
    metrics = {f"{task}/{name}": value for name, value in mean(per_query.values()).items()}
    titles = {drawn[i].paper_id: drawn[i].title or "" for i in asking}
    return Result(metrics, per_query, settings, notes, query_texts=titles)


def read_papers(settings: EvaluateSettings) -> tuple[Iterator[PaperText], set[str] | None]:
    """The papers, and the ids of those that ask; None for all.

    Of a corpus with citations the held-out query papers of a split ask.

    Raises:
        UserError: there is no corpus and no file of papers, or no paper is held out.
    """
    place = Path(settings.papers or settings.data)
    if (place / "corpus.json").is_file():
        corpus = Corpus.open(place)
        rows = ((row["paper_id"], row["title"], row["abstract"]) for row in corpus.papers())
        try:
            queries = corpus.queries(settings.split)
        except UserError:  # it has no citations, and so holds no query papers out
            return rows, None
        ids = corpus.paper_ids()
        return rows, {ids[i] for i in queries}
    papers = PaperFile(papers_of(place))
    return ((p.paper_id, p.title, p.abstract) for p in papers), None


def halves(abstract: str | Sequence[str]) -> tuple[str, str] | None:
    """An abstract in two halves of whole sentences, as equal in length as they can be.

    None where it has one sentence only. Sentences of one text end at ``.``, ``!`` or ``?`` before a
    space.
    """
    parts = _SENTENCE_END.split(abstract.strip()) if isinstance(abstract, str) else abstract
    sentences = [part.strip() for part in parts if part and part.strip()]
    if len(sentences) < 2:
        return None
    ends = np.cumsum([len(sentence) for sentence in sentences])
    cut = int(np.argmin(np.abs(ends[:-1] - ends[-1] / 2))) + 1
    return " ".join(sentences[:cut]), " ".join(sentences[cut:])


_NAMES: dict[Task, tuple[str, str]] = {
    "title_abstract": ("title", "abstract"),
    "abstract_halves": ("first half of an abstract", "second one"),
}


def _pairs(papers: Iterable[PaperText], task: Task) -> tuple[list[Pair], dict[str, int]]:
    """The papers that have both texts, once each, and how many were left out by reason."""
    pairs: dict[str, Pair] = {}
    twice = without = 0
    for paper_id, title, abstract in papers:
        pair = _pair(paper_id, title, abstract, task)
        if pair is None:
            without += 1
            continue
        key = normalised(str(pair.candidate[1])) or paper_id
        twice += key in pairs
        pairs.setdefault(key, pair)
    left_out = {"papers_without_both_texts": without, "papers_with_a_text_twice": twice}
    return list(pairs.values()), left_out


def _pair(
    paper_id: str, title: str | None, abstract: str | Sequence[str] | None, task: Task
) -> Pair | None:
    sentences = [abstract] if isinstance(abstract, str) else abstract or []
    text = " ".join(part.strip() for part in sentences if part and part.strip())
    if task == "title_abstract":
        name = (title or "").strip()
        return Pair(paper_id, (name, None), (None, text), title) if name and text else None
    parts = halves(abstract) if abstract else None
    return None if parts is None else Pair(paper_id, (None, parts[0]), (None, parts[1]), title)


def _draw(pairs: list[Pair], held_out: set[str] | None, sample: int, seed: int) -> list[Pair]:
    """At most ``sample`` of the pairs, held-out ones first, in the order of the papers."""
    if not sample or len(pairs) <= sample:
        return pairs

    def key(place: int) -> tuple[bool, bytes]:
        paper_id = pairs[place].paper_id
        digest = hashlib.sha256(f"{seed} {paper_id}".encode()).digest()
        return held_out is not None and paper_id not in held_out, digest

    return [pairs[i] for i in sorted(sorted(range(len(pairs)), key=key)[:sample])]
