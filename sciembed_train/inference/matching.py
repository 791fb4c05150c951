"""How near two papers are, sentence by sentence: what a multi-vector model is made for.

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
from sciembed_train.encoder.io.find_model import find_folder
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.errors import UserError
from sciembed_train.inference.plan_picture import draw
from sciembed_train.losses import transport as ot
from sciembed_train.losses.similarity import unit
from sciembed_train.losses.transport import TransportSettings

log = logging.getLogger("sciembed_train")


@dataclass(frozen=True)
class SentenceVectors:
    """A paper's sentences and their vectors.

    Args:
        title: of the paper; read with its sentences, but none of them.
        sentences: those that have a vector; of a paper without an abstract, its title.
        vectors: one row for each of ``sentences``.
        left_out: sentences beyond the model's longest text, or of which the tokenizer leaves
            nothing.
    """

    title: str
    sentences: tuple[str, ...]
    vectors: Float[Tensor, "S D"]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """The two sentences of two papers that are nearest to each other.

    Args:
        distance: of their vectors; smaller is nearer.
        first: number of the first paper's sentence, from 0.
        second: of the second paper's.
    """

    distance: float
    first: int
    second: int


@dataclass(frozen=True)
class Link:
    """A sentence of one paper and one of another, and how much of a plan moves between them."""

    share: float
    distance: float
    first: int
    second: int


@dataclass(frozen=True)
class Plan:
    """How one paper's sentences are moved onto another's at the least cost.

    Args:
        first, second: the papers.
        cost: ``sum P C``, what papers are ranked by; smaller is nearer.
        value: the dual value that training uses, entropy included.
        plan: what share of all moves between two sentences; adds up to 1.
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
        """The ``count`` pairs of sentences that most is moved between, the strongest first."""
        order = self.plan.flatten().argsort(descending=True, stable=True)[:count]
        found = []
        for place in order.tolist():
            i, j = divmod(place, self.plan.shape[1])
            found.append(Link(float(self.plan[i, j]), float(self.distances[i, j]), i, j))
        return found


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

        Args:
            model: a multi-vector model, an encoder of sentences, or any other encoder.
            alone: as for `Matcher`; None takes what the model was trained for.
            device: such as ``cuda``.

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
        try:
            if recorded.transport is not None:
                given = {name: float(value) for name, value in recorded.transport.items()}
                settings = TransportSettings(**given)
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{model}: `transport` in its sciembed.json is {recorded.transport}; expected "
                "temperature, blur and scaling. Export the model again."
            ) from error
        cosine = alone and recorded.similarity == "cosine"
        return cls(encoder.to(device).eval(), alone, cosine, settings)

    def encode(self, papers: Sequence[Mapping[str, Any]]) -> list[SentenceVectors]:
        """The sentences of each paper with their vectors, fp32 on the host.

        Args:
            papers: each with ``title`` and ``abstract``; one of the two may be missing. The
                abstract is a list of its sentences, or a text, which is cut into them.

        Raises:
            UserError: a paper has neither, or one of another type.
        """
        given = [_read(paper, number) for number, paper in enumerate(papers)]
        found = self._each_alone(given) if self.alone else self._in_context(given)
        if not self.cosine:
            return found
        return [replace(paper, vectors=unit(paper.vectors)) for paper in found]

    def _each_alone(self, papers: list[tuple[str, list[str]]]) -> list[SentenceVectors]:
        told = [sentences or [title] for title, sentences in papers]
        vectors = self.encoder.encode_texts([text for texts in told for text in texts])
        parts = vectors.split([len(texts) for texts in told])
        return [
            SentenceVectors(title, tuple(texts), part)
            for (title, _), texts, part in zip(papers, told, parts, strict=True)
        ]

    def _in_context(self, papers: list[tuple[str, list[str]]]) -> list[SentenceVectors]:
        tokenizer, settings = self.encoder.tokenizer, self.encoder.settings
        composed = [
            settings.input_format.compose_sentences(title, sentences, tokenizer.sep_token)
            for title, sentences in papers
        ]
        bodies = tokenizer.encode_sentences([t for t, _ in composed], [s for _, s in composed])
        room = settings.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
        vectors = self.encoder.encode_sentences(papers)
        found = []
        for (title, sentences), body, rows in zip(papers, bodies, vectors, strict=True):
            read = [i for i in range(len(sentences)) if i not in body.left_out]
            read = [i for i, start in zip(read, body.starts, strict=True) if start < room]
            held = tuple(sentences[i] for i in read)
            gone = tuple(text for i, text in enumerate(sentences) if i not in read)
            # Of a title alone there is one vector, and where the title fills the whole text.
            found.append(SentenceVectors(title, held or (title,), rows, gone))
        return found

    def best_match(self, a: SentenceVectors, b: SentenceVectors) -> Match:
        """The smallest distance of a sentence of ``a`` to one of ``b``, and which they are."""
        distances = ot.sentence_distances(a.vectors[None], b.vectors[None])
        smallest, first, second = ot.best_match(distances, _there(a), _there(b))
        return Match(float(smallest), int(first), int(second))

    def transport(
        self, a: SentenceVectors, b: SentenceVectors, temperature: float | None = None
    ) -> Plan:
        """Optimal transport of the sentences of ``a`` onto those of ``b``.

        Args:
            a: of `encode`.
            b: the same.
            temperature: of the weights that sentences have by their nearest partners, instead of
                the recorded one.

        Raises:
            UserError: the model records no temperature, and none is given.
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
        # In fp64: an entropy of blur 0.05 beside distances of 20 leaves fp32 few digits.
        rows = a.vectors.double()[None], b.vectors.double()[None]
        found = ot.transport(*rows, _there(a), _there(b), settings)
        weights = found.marginals
        return Plan(
            a,
            b,
            float(found.cost[0]),
            float(found.value[0]),
            found.plan[0].float(),
            ot.sentence_distances(*rows)[0].float(),
            (weights[0][0].float(), weights[1][0].float()),
            settings,
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


def _there(paper: SentenceVectors) -> Tensor:
    return torch.ones(1, len(paper.vectors), dtype=torch.bool)


def _read(paper: Mapping[str, Any], number: int) -> tuple[str, list[str]]:
    """Title and sentences of a paper as a user gives it."""
    title, abstract = paper.get("title"), paper.get("abstract")
    listed = isinstance(abstract, list | tuple) and all(isinstance(s, str) for s in abstract)
    if not isinstance(title, str | None) or not (listed or isinstance(abstract, str | None)):
        raise UserError(
            f"Paper {number + 1}: `title` must be a text, and `abstract` a text or a list of "
            "sentences."
        )
    title, sentences = (title or "").strip(), abstract_sentences(abstract)
    if not title and not sentences:
        raise UserError(f"Paper {number + 1} has neither a title nor an abstract; give one.")
    return title, sentences
