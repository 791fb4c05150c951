"""An invented scholarly world of any size, where matching words is not enough.

Papers belong to topics, topics to fields. A topic is a handful of *concepts* of its field, and
every concept has one word in each of several *dialects*. A paper is written in one dialect, and
citations mostly go to papers of the same topic in another one: two papers that cite each other
share what they are about and few of the words that say it. Which words mean the same can be
learned from citations, and the words of a held-out paper are those of the others.

Only numpy is used; everything follows from the settings and their seed. Shapes: ``P`` papers,
``E`` citations, ``K`` concepts of a topic, ``W`` words. Papers are numbered by age, oldest first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ONSETS = [*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pl", "pr", "sk", "st", "tr"]
VOWELS = [*"aeiou", "ai", "ei", "ou"]
CODAS = ["", "", "", "n", "r", "s", "l", "m", "x"]
# Rows of text made at once: bounds memory at any number of papers.
BLOCK = 4096


@dataclass(frozen=True)
class SyntheticSettings:
    """The size and the laws of a world.

    Args:
        papers: number of papers, at least 20.
        seed: everything follows from it.
        papers_per_topic: mean size of a topic.
        topics_per_field: topics that share one pool of concepts.
        concepts_per_field, concepts_per_topic: sizes of that pool and of a topic's part of it.
        dialects: words for one concept; a paper uses those of one dialect.
        references: mean number of citations a paper makes (fewer when there is little to cite).
        same_topic, same_field: shares of citations to the own topic and to others of the field;
            the rest goes anywhere.
        same_dialect: share of citations to a paper in the same dialect.
        borrowed: share of concept words that a paper takes from another dialect.
        concept_share: share of concept words in running text (one and a half times that in titles).
        without_abstract: share of papers that have a title only.
        as_sentences: share of abstracts given as a list of sentences.
    """

    papers: int = 2000
    seed: int = 0
    papers_per_topic: int = 24
    topics_per_field: int = 6
    concepts_per_field: int = 10
    concepts_per_topic: int = 4
    dialects: int = 3
    references: float = 10.0
    same_topic: float = 0.8
    same_field: float = 0.15
    same_dialect: float = 0.1
    borrowed: float = 0.02
    concept_share: float = 0.4
    without_abstract: float = 0.08
    as_sentences: float = 0.15

    def __post_init__(self) -> None:
        if self.papers < 20:
            raise ValueError(f"a world needs 20 papers or more; got {self.papers}.")
        if self.dialects < 2:
            raise ValueError(f"a world needs 2 dialects or more; got {self.dialects}.")
        if self.concepts_per_topic > self.concepts_per_field:
            raise ValueError(
                f"concepts_per_topic={self.concepts_per_topic} is more than "
                f"concepts_per_field={self.concepts_per_field}."
            )
        if not 0 <= self.same_topic + self.same_field <= 1:
            raise ValueError("same_topic + same_field must lie between 0 and 1.")


@dataclass(frozen=True)
class SyntheticCollection:
    """A world: who exists and who cites whom; texts are made when asked for.

    Args:
        settings: what it was made from.
        paper_ids: names, unrelated to age.
        topic, dialect, year: of each paper.
        field: of each topic.
        concepts: the concepts of each topic.
        citations: rows (citing, cited), sorted, without doubles; the cited paper is the older.
        words: the lexicon: ``common`` words first, then ``dialects`` words of every concept.
        common: number of words that mean nothing.
        emphasis: how often each paper speaks of each of its topic's concepts; rows sum to 1.
    """

    settings: SyntheticSettings
    paper_ids: list[str]
    topic: Int[np.ndarray, " P"]
    dialect: Int[np.ndarray, " P"]
    year: Int[np.ndarray, " P"]
    field: Int[np.ndarray, " topics"]
    concepts: Int[np.ndarray, "topics K"]
    citations: Int[np.ndarray, "E 2"]
    words: np.ndarray
    common: int
    emphasis: Float[np.ndarray, "P K"]

    def word(self, concept: int, dialect: int) -> str:
        """The word of a concept in a dialect."""
        return str(self.words[self.common + concept * self.settings.dialects + dialect])

    def in_degree(self) -> Int[np.ndarray, " P"]:
        """How often each paper is cited."""
        return np.bincount(self.citations[:, 1], minlength=self.settings.papers)

    def rng(self, purpose: int, block: int = 0) -> np.random.Generator:
        """The generator of one kind of text; kinds and blocks do not disturb each other."""
        return np.random.default_rng([self.settings.seed, 1 + purpose, block])

    def papers(self) -> Iterator[dict[str, Any]]:
        """Every paper as a row of ``papers.jsonl``, oldest first."""
        s = self.settings
        for block, at in enumerate(_blocks(s.papers)):
            rng = self.rng(0, block)
            titles = self._sentences(rng, at, rng.integers(5, 12, len(at)), 1.5 * s.concept_share)
            counts = np.clip(rng.lognormal(1.35, 0.45, len(at)), 1, 14).astype(np.int64)
            counts[rng.random(len(at)) < s.without_abstract] = 0
            owners = np.repeat(at, counts)
            body = self._sentences(rng, owners, rng.integers(6, 20, len(owners)), s.concept_share)
            as_list = rng.random(len(at)) < s.as_sentences
            empty = rng.random(len(at)) < 0.5  # both ways of saying "none" occur in real files
            ends = np.cumsum(counts)
            for row, paper in enumerate(at):
                own = [f"{t.capitalize()}." for t in body[ends[row] - counts[row] : ends[row]]]
                abstract = (own if as_list[row] else " ".join(own)) if own else None
                if not own and empty[row]:
                    abstract = ""
                topic = int(self.topic[paper])
                yield {
                    "paper_id": self.paper_ids[paper],
                    "title": titles[row].capitalize(),
                    "abstract": abstract,
                    "year": int(self.year[paper]),
                    "venue": f"Annals of {self.field_name(int(self.field[topic]))}",
                    "fields_of_study": [self.field_name(int(self.field[topic]))],
                }

    def field_name(self, field: int) -> str:
        """The name of a field: its first concept's word in the first dialect."""
        return self.word(field * self.settings.concepts_per_field, 0).capitalize()

    def fulltexts(self, share: float = 0.5) -> Iterator[dict[str, Any]]:
        """Running text of a share of the papers, as rows of ``fulltexts.jsonl``."""
        for block, at in enumerate(_blocks(self.settings.papers)):
            rng = self.rng(1, block)
            at = at[rng.random(len(at)) < share]
            counts = np.clip(rng.lognormal(3.4, 0.5, len(at)), 5, 120).astype(np.int64)
            owners = np.repeat(at, counts)
            text = self._sentences(
                rng, owners, rng.integers(6, 20, len(owners)), self.settings.concept_share
            )
            end = np.cumsum(counts)
            for row, paper in enumerate(at):
                own = [f"{t.capitalize()}." for t in text[end[row] - counts[row] : end[row]]]
                yield {"paper_id": self.paper_ids[paper], "text": " ".join(own)}

    def contexts(self, share: float = 0.3) -> Iterator[dict[str, Any]]:
        """Citing sentences, as rows of ``contexts.jsonl``: each cites 1 to 3 papers of one topic.

        The sentence speaks of the cited papers' topic in the words of the citing paper.
        """
        rng = self.rng(2)
        rows = self.citations[np.lexsort((self.topic[self.citations[:, 1]], self.citations[:, 0]))]
        key = rows[:, 0].astype(np.int64) * len(self.field) + self.topic[rows[:, 1]]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        groups = [g for g in np.split(rows, starts[1:]) if rng.random() < share]
        cited = [rng.permutation(g[:, 1])[: rng.integers(1, 4)] for g in groups]
        about = np.array([c[0] for c in cited], dtype=np.int64)
        speakers = np.array([g[0, 0] for g in groups], dtype=np.int64)
        lengths = rng.integers(8, 24, len(about))
        text = self._sentences(
            rng, about, lengths, 1.3 * self.settings.concept_share, self.dialect[speakers]
        )
        for sentence, ids, speaker in zip(text, cited, speakers, strict=True):
            yield {
                "text": f"{sentence.capitalize()}.",
                "cited_ids": [self.paper_ids[p] for p in ids],
                "citing_id": self.paper_ids[speaker],
            }

    def searches(self) -> tuple[list[dict[str, str]], list[tuple[str, str, int]]]:
        """One search per topic, and who answers it: (query_id, paper_id, grade).

        A search is two or three of the topic's concepts in one dialect. A paper of the topic has
        grade 2 when it is cited at least as often as the topic's median paper, else 1.
        """
        rng = self.rng(3)
        degree = self.in_degree()
        queries, qrels = [], []
        for topic, concepts in enumerate(self.concepts):
            papers = np.flatnonzero(self.topic == topic)
            if not len(papers):
                continue
            dialect = int(rng.integers(self.settings.dialects))
            chosen = rng.permutation(concepts)[: rng.integers(2, 4)]
            name = f"q{topic + 1}"
            text = " ".join(self.word(int(c), dialect) for c in chosen)
            queries.append({"query_id": name, "text": text})
            middle = np.median(degree[papers])
            qrels += [(name, self.paper_ids[p], 2 if degree[p] >= middle else 1) for p in papers]
        return queries, qrels

    def _sentences(
        self,
        rng: np.random.Generator,
        papers: Int[np.ndarray, " R"],
        lengths: Int[np.ndarray, " R"],
        share: float,
        dialect: Int[np.ndarray, " R"] | None = None,
    ) -> list[str]:
        """One string of ``lengths[i]`` words about paper ``papers[i]``, without a full stop.

        Every string has at least one concept word, in ``dialect`` (the paper's own by default).
        """
        row = np.repeat(np.arange(len(papers)), lengths)
        paper = papers[row]
        spoken = (self.dialect[papers] if dialect is None else dialect)[row]
        strange = rng.random(len(row)) < self.settings.borrowed
        spoken = np.where(strange, rng.integers(self.settings.dialects, size=len(row)), spoken)
        bounds = np.cumsum(self.emphasis[paper], axis=1)
        slot = (rng.random((len(row), 1)) > bounds[:, :-1]).sum(1)
        concept = self.concepts[self.topic[paper], slot]
        meant = rng.random(len(row)) < share
        starts = np.cumsum(lengths) - lengths
        if len(row):
            meant[starts + rng.integers(0, lengths)] = True
        # Zipf's law for the words that mean nothing.
        weights = np.cumsum(1 / (np.arange(self.common) + 3.0))
        filler = np.searchsorted(weights, rng.random(len(row)) * weights[-1])
        code = np.where(meant, self.common + concept * self.settings.dialects + spoken, filler)
        words = self.words[code].tolist()
        return [" ".join(words[a : a + n]) for a, n in zip(starts, lengths, strict=True)]


def generate_collection(settings: SyntheticSettings | None = None) -> SyntheticCollection:
    """The world of the settings; no text is made yet."""
    s = settings or SyntheticSettings()
    rng = np.random.default_rng([s.seed, 0])
    topics = max(2, round(s.papers / s.papers_per_topic))
    fields = max(1, round(topics / s.topics_per_field))
    field = np.arange(topics) % fields
    pool = rng.permuted(np.tile(np.arange(s.concepts_per_field), (topics, 1)), axis=1)
    concepts = field[:, None] * s.concepts_per_field + pool[:, : s.concepts_per_topic]
    common = 400
    words = _lexicon(rng, common, fields * s.concepts_per_field * s.dialects)
    topic = rng.choice(topics, s.papers, p=rng.dirichlet(np.full(topics, 8.0)))
    dialect = rng.integers(s.dialects, size=s.papers)
    # More is written every year: the share of papers up to a time grows faster than the time.
    year = 1980 + (40 * (np.arange(s.papers) / s.papers) ** 0.5).astype(np.int64)
    citations = _citations(rng, s, topic, dialect, field[topic])
    emphasis = rng.gamma(4.0, size=(s.papers, s.concepts_per_topic))
    names = rng.permutation(s.papers)
    width = max(5, len(str(s.papers)))
    return SyntheticCollection(
        settings=s,
        paper_ids=[f"w{n:0{width}d}" for n in names],
        topic=topic,
        dialect=dialect,
        year=year,
        field=field,
        concepts=concepts,
        citations=citations,
        words=words,
        common=common,
        emphasis=emphasis / emphasis.sum(1, keepdims=True),
    )


def shuffle_cited(
    citations: Int[np.ndarray, "E 2"], papers: int, rng: np.random.Generator
) -> Int[np.ndarray, "E 2"]:
    """The same citations with the cited papers renamed at random: as many, meaning nothing.

    Papers are renamed, not edges shuffled, so that being often cited is not learned either.
    """
    renamed = np.stack([citations[:, 0], rng.permutation(papers)[citations[:, 1]]], 1)
    renamed = renamed[renamed[:, 0] != renamed[:, 1]]
    return np.unique(renamed, axis=0).astype(citations.dtype)


def write_collection(
    folder: str | Path, settings: SyntheticSettings | None = None
) -> SyntheticCollection:
    """Invent a world and write it in the formats that ``prepare`` and ``evaluate`` read.

    ``papers.jsonl``, ``citations.tsv``, ``contexts.jsonl``, ``fulltexts.jsonl``, ``labels.jsonl``
    (the field of a paper), ``citedness.jsonl`` (log of one plus its citations), ``queries.jsonl``
    and ``qrels.tsv``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    world = generate_collection(settings)
    ids = world.paper_ids
    _write_lines(folder / "papers.jsonl", sorted(map(_json, world.papers())))
    write_citations(folder / "citations.tsv", world)
    _write_lines(folder / "contexts.jsonl", map(_json, world.contexts()))
    _write_lines(folder / "fulltexts.jsonl", map(_json, world.fulltexts()))
    fields = [world.field_name(int(f)) for f in world.field[world.topic]]
    _write_lines(
        folder / "labels.jsonl",
        (_json({"paper_id": p, "label": f}) for p, f in zip(ids, fields, strict=True)),
    )
    degree = np.log1p(world.in_degree()).round(6).tolist()
    _write_lines(
        folder / "citedness.jsonl",
        (_json({"paper_id": p, "label": d}) for p, d in zip(ids, degree, strict=True)),
    )
    queries, qrels = world.searches()
    _write_lines(folder / "queries.jsonl", map(_json, queries))
    _write_lines(folder / "qrels.tsv", (f"{q}\t0\t{p}\t{grade}" for q, p, grade in qrels))
    return world


def write_citations(
    path: Path, world: SyntheticCollection, citations: Int[np.ndarray, "E 2"] | None = None
) -> None:
    """Write citations (the world's own by default) as ``citing``, ``cited`` with a header."""
    rows = (world.citations if citations is None else citations).tolist()
    ids = world.paper_ids
    _write_lines(path, ["citing\tcited", *(f"{ids[a]}\t{ids[b]}" for a, b in rows)])


def train_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer of at most ``vocab`` pieces, BERT's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = list(texts)
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers word-inner letters in the order of a hash table that differs from run to
    # run, and breaks ties by those numbers. Given beforehand, the letters have fixed numbers.
    letters = sorted({c for text in texts for c in normalizer.normalize_str(text)} - {" "})
    scratch = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    scratch.normalizer = normalizer
    scratch.pre_tokenizer = splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab,
        special_tokens=[*special, *letters, *(f"##{c}" for c in letters)],
        show_progress=False,
    )
    scratch.train_from_iterator(texts, trainer)
    tokenizer = Tokenizer(models.WordPiece(scratch.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def write_bert(
    folder: str | Path,
    tokenizer: Tokenizer,
    *,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    max_positions: int = 512,
    seed: int = 0,
) -> Path:
    """Write an untrained BERT and its tokenizer as a Hugging Face folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = Path(folder)
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_positions).save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max_positions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder


def _lexicon(rng: np.random.Generator, common: int, concepts: int) -> np.ndarray:
    """Distinct pronounceable words: short ones for ``common``, longer ones for concepts."""
    seen: set[str] = set()
    words: list[str] = []
    for count, syllables in ((common, (1, 2)), (concepts, (2, 3))):
        while count:
            parts = rng.choice(syllables)
            word = "".join(
                ONSETS[rng.integers(len(ONSETS))]
                + VOWELS[rng.integers(len(VOWELS))]
                + CODAS[rng.integers(len(CODAS))]
                for _ in range(parts)
            )
            if word not in seen:
                seen.add(word)
                words.append(word)
                count -= 1
    return np.array(words, dtype=object)


def _citations(
    rng: np.random.Generator,
    s: SyntheticSettings,
    topic: Int[np.ndarray, " P"],
    dialect: Int[np.ndarray, " P"],
    field: Int[np.ndarray, " P"],
) -> Int[np.ndarray, "E 2"]:
    """Citations to older papers, in proportion to their fitness.

    Fitness is Pareto, hence the heavy tail of the in-degree, and grows with the year, hence the
    preference for recent papers. The older papers of a group are one stretch of the cumulated
    fitness, so every draw is one binary search.
    """
    papers = s.papers
    wanted = rng.negative_binomial(4, 4 / (4 + s.references), papers) + 1
    citing = np.repeat(np.arange(papers), wanted)
    kind = rng.random(len(citing))
    # The group to cite in: the own topic, a topic of the own field, or any.
    topics_of_field: dict[int, np.ndarray] = {
        int(f): np.unique(topic[field == f]) for f in np.unique(field)
    }
    table = np.full((int(field.max()) + 1, max(map(len, topics_of_field.values()))), -1)
    sizes = np.ones(len(table), dtype=np.int64)
    for f, ts in topics_of_field.items():
        table[f, : len(ts)] = ts
        sizes[f] = len(ts)
    own_field = field[citing]
    near = table[own_field, rng.integers(0, sizes[own_field])]
    about = np.where(kind < s.same_topic, topic[citing], near)
    other = (dialect[citing] + rng.integers(1, s.dialects, len(citing))) % s.dialects
    same = rng.random(len(citing)) < s.same_dialect
    group = about * s.dialects + np.where(same, dialect[citing], other)

    own_group = topic * s.dialects + dialect
    fitness = (1 + rng.pareto(1.3, papers)) * np.exp(3.0 * np.arange(papers) / papers)
    hub = kind >= s.same_topic + s.same_field
    everyone = np.zeros(papers, dtype=np.int64)
    pairs = [
        _draw_older(rng, fitness, own_group, citing[~hub], group[~hub]),
        _draw_older(rng, fitness, everyone, citing[hub], everyone[citing[hub]]),
    ]
    return np.unique(np.concatenate(pairs), axis=0).astype(np.int32)


def _draw_older(
    rng: np.random.Generator,
    fitness: Float[np.ndarray, " P"],
    member: Int[np.ndarray, " P"],
    citing: Int[np.ndarray, " E"],
    group: Int[np.ndarray, " E"],
) -> Int[np.ndarray, "F 2"]:
    """One older paper of ``group[e]`` for each ``citing[e]``; pairs without any are left out."""
    papers = len(fitness)
    order = np.argsort(member, kind="stable")  # by group, then by age
    cumulated = np.concatenate([[0.0], np.cumsum(fitness[order])])
    place = member[order] * papers + order
    first = np.searchsorted(place, group * papers)
    stop = np.searchsorted(place, group * papers + citing)
    some = stop > first
    citing, first, stop = citing[some], first[some], stop[some]
    low, high = cumulated[first], cumulated[stop]
    drawn = np.searchsorted(cumulated, low + rng.random(len(citing)) * (high - low), "right") - 1
    return np.stack([citing, order[np.clip(drawn, first, stop - 1)]], 1)


def _blocks(papers: int) -> Iterator[Int[np.ndarray, " R"]]:
    for start in range(0, papers, BLOCK):
        yield np.arange(start, min(papers, start + BLOCK))


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str] | Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)
