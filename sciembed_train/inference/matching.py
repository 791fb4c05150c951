"""Distances of two papers by their sentences, as a multi-vector model compares them.

    matcher = Matcher.load("PATH_OR_NAME_OF_A_MODEL")
    a, b = matcher.encode([{"title": ..., "abstract": ...}, {"title": ..., "abstract": ...}])
    matcher.best_match(a, b)
    picture(matcher.transport(a, b), "plan.svg")

Shapes: ``S`` sentences of one paper, ``R`` of another, ``D`` width of a sentence's vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.corpus.store.sentence_store import abstract_sentences
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.errors import UserError
from sciembed_train.inference.embedding import NotFiniteError
from sciembed_train.inference.plan_picture import draw
from sciembed_train.losses import transport as ot
from sciembed_train.losses.similarity import unit
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.safety.find_model import find_folder

log = logging.getLogger("sciembed_train")


@dataclass(frozen=True)
class SentenceVectors:
    """A paper's sentences and their vectors.

    Args:
        title: of the paper; read with its sentences, but none of them.
        sentences: those that have a vector; of a paper without an abstract, its title.
        vectors: one row for each of ``sentences``.
        left_out: sentences beyond the longest text, or of which the tokenizer leaves nothing.
    """

    title: str
    sentences: tuple[str, ...]
    vectors: Float[Tensor, "S D"]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """The sentences of two papers, counted from 0, that are nearest, and their distance."""

    distance: float
    first: int
    second: int


@dataclass(frozen=True)
class Link:
    """A sentence of each of two papers, and the share of a plan that moves between them."""

    share: float
    distance: float
    first: int
    second: int


@dataclass(frozen=True)
class Plan:
    """The optimal transport of one paper's sentences onto another's.

    Args:
        first, second: the papers.
        cost: ``sum P C``, by which papers are ranked; smaller is nearer.
        value: the dual value that training uses, entropy included.
        plan: the share that moves between two sentences; adds up to 1.
        distances: of the sentences.
        marginals: the share of each sentence of both papers.
        settings: temperature, blur and scaling.
    """

    first: SentenceVectors
    second: SentenceVectors
    cost: float
    value: float
    plan: Float[Tensor, "S R"]
    distances: Float[Tensor, "S R"]
    marginals: tuple[Float[Tensor, " S"], Float[Tensor, " R"]]
    settings: TransportSettings

    def links(self, count: int) -> list[Link]:
        """The ``count`` pairs of sentences with the largest shares, the largest first."""
        order = self.plan.flatten().argsort(descending=True, stable=True)[:count]
        positions = (divmod(position, self.plan.shape[1]) for position in order.tolist())
        return [
            Link(float(self.plan[i, j]), float(self.distances[i, j]), i, j) for i, j in positions
        ]


class Matcher:
    """A model that compares papers by their sentences.

    Args:
        encoder: in evaluation mode.
        alone: encode each sentence by itself, as an encoder of sentences is trained; else in its
            paper, as the mean of its tokens' states.
        cosine: compare the directions of vectors, which are divided by their lengths.
        settings: of optimal transport, where the model records them.
    """

    def __init__(
        self,
        encoder: Encoder,
        alone: bool = False,
        cosine: bool = False,
        settings: TransportSettings | None = None,
    ) -> None:
        self.encoder, self.alone, self.cosine, self.settings = encoder, alone, cosine, settings
        if alone and encoder.pooling.per_sentence:
            raise UserError(
                f"{encoder.settings.backbone}: gives vectors of sentences in their paper, not of "
                "a sentence alone. Compare by best_match or transport."
            )

    @classmethod
    def load(cls, model: str | Path, *, alone: bool | None = None, device: str = "cpu") -> Matcher:
        """The matcher of a model's folder or hub name, as its ``sciembed.json`` says.

        ``alone`` is as for `Matcher`; None takes what the model was trained for.

        Raises:
            UserError: there is no such model, or it is used against its record.
        """
        recorded = read_metadata(find_folder(model))
        if alone is None:
            alone = recorded.texts == "sentences"
        encoder = Encoder.load(model)
        if not encoder.pooling.per_sentence and recorded.texts != "sentences":
            log.warning(
                f"{model}: was not trained to compare sentences; it gives one vector of a whole "
                "text."
            )
        settings = None
        if recorded.transport is not None:
            settings = TransportSettings.from_record(recorded.transport, model)
        cosine = alone and recorded.similarity == "cosine"
        return cls(encoder.to(device).eval(), alone, cosine, settings)

    def encode(self, papers: Sequence[Mapping[str, Any]]) -> list[SentenceVectors]:
        """The sentences of each paper with their vectors, fp32 on the host.

        Args:
            papers: each with ``title`` and ``abstract``; one of the two may be missing. The
                abstract is a list of its sentences, or a text, which is cut into them.

        Raises:
            UserError: a paper has neither, or one of another type; or a vector is not finite.
        """
        texts = [_read(paper, number) for number, paper in enumerate(papers)]
        encoded = self._each_alone(texts) if self.alone else self._in_context(texts)
        for number, paper in enumerate(encoded, start=1):
            if not bool(paper.vectors.isfinite().all()):
                raise NotFiniteError(f"a sentence of paper {number}", number - 1, "fp32")
        if not self.cosine:
            return encoded
        return [replace(paper, vectors=unit(paper.vectors)) for paper in encoded]

    def _each_alone(self, papers: list[tuple[str, list[str]]]) -> list[SentenceVectors]:
        sentences_of = [sentences or [title] for title, sentences in papers]
        vectors = self.encoder.encode_texts([text for texts in sentences_of for text in texts])
        parts = vectors.split([len(texts) for texts in sentences_of])
        return [
            SentenceVectors(title, tuple(texts), part)
            for (title, _), texts, part in zip(papers, sentences_of, parts, strict=True)
        ]

    def _in_context(self, papers: list[tuple[str, list[str]]]) -> list[SentenceVectors]:
        tokenizer, settings = self.encoder.tokenizer, self.encoder.settings
        composed = [
            settings.input_format.compose_sentences(title, sentences, tokenizer.sep_token)
            for title, sentences in papers
        ]
        bodies = tokenizer.encode_sentences([t for t, _ in composed], [s for _, s in composed])
        max_tokens = settings.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        vectors = self.encoder.encode_sentences(papers)
        encoded = []
        for (title, sentences), body, rows in zip(papers, bodies, vectors, strict=True):
            kept = [i for i in range(len(sentences)) if i not in body.left_out]
            kept = [i for i, start in zip(kept, body.starts, strict=True) if start < max_tokens]
            with_vector = tuple(sentences[i] for i in kept)
            left_out = tuple(text for i, text in enumerate(sentences) if i not in kept)
            # A title alone has one vector, as has a title that fills the whole text.
            encoded.append(SentenceVectors(title, with_vector or (title,), rows, left_out))
        return encoded

    def best_match(self, a: SentenceVectors, b: SentenceVectors) -> Match:
        """The smallest distance of a sentence of ``a`` to one of ``b``, and which they are."""
        distances = ot.sentence_distances(a.vectors[None], b.vectors[None])
        smallest, first, second = ot.best_match(distances, _mask(a), _mask(b))
        return Match(float(smallest), int(first), int(second))

    def transport(
        self, a: SentenceVectors, b: SentenceVectors, temperature: float | None = None
    ) -> Plan:
        """Optimal transport of the sentences of ``a`` onto those of ``b``.

        ``temperature`` takes the place of the recorded one.

        Raises:
            UserError: the model records no temperature, and there is none here.
        """
        settings = self.settings
        if temperature is not None:
            others = {} if settings is None else settings.as_dict()
            settings = TransportSettings(**{**others, "temperature": float(temperature)})
        if settings is None:
            raise UserError(
                "The model records no temperature for optimal transport, and results depend on "
                "it. Give one: otAspire was trained with 5000, which makes all sentences weigh "
                "the same; its published code ranks with 1."
            )
        # In fp64: next to distances of 20, an entropy of blur 0.05 has few digits in fp32.
        rows = a.vectors.double()[None], b.vectors.double()[None]
        moved = ot.transport(*rows, _mask(a), _mask(b), settings)
        return Plan(
            first=a,
            second=b,
            cost=float(moved.cost[0]),
            value=float(moved.value[0]),
            plan=moved.plan[0].float(),
            distances=ot.sentence_distances(*rows)[0].float(),
            marginals=(moved.marginals[0][0].float(), moved.marginals[1][0].float()),
            settings=settings,
        )


def picture(plan: Plan, path: str | Path) -> None:
    """Write a plan as an SVG heat map: the sentences, and what moves between any two of them."""
    text = draw(
        (plan.first.title, plan.second.title),
        (plan.first.sentences, plan.second.sentences),
        plan.plan.tolist(),
        plan.distances.tolist(),
        (plan.marginals[0].tolist(), plan.marginals[1].tolist()),
        f"cost {plan.cost:.4g}, temperature {plan.settings.temperature:g}, "
        f"blur {plan.settings.blur:g}, scaling {plan.settings.scaling:g}",
    )
    Path(path).write_text(text, encoding="utf-8")


def _mask(paper: SentenceVectors) -> Tensor:
    return torch.ones(1, len(paper.vectors), dtype=torch.bool)


def _read(paper: Mapping[str, Any], number: int) -> tuple[str, list[str]]:
    title, abstract = paper.get("title"), paper.get("abstract")
    listed = isinstance(abstract, list | tuple) and all(isinstance(s, str) for s in abstract)
    if not isinstance(title, str | None) or not (listed or isinstance(abstract, str | None)):
        raise UserError(
            f"Paper {number + 1}: `title` must be a text, and `abstract` a text or a list of "
            "sentences."
        )
    title, sentences = (title or "").strip(), abstract_sentences(abstract)
    if not title and not sentences:
        raise UserError(f"Paper {number + 1} has neither a title nor an abstract; add one.")
    return title, sentences
