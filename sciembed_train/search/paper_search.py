"""Nearest papers of a text, of an indexed paper, or of other papers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.search.build_index import INDEX, MAP, RECORD, VERSION
from sciembed_train.search.collection_map import CollectionMap
from sciembed_train.search.faiss_index import FaissIndex
from sciembed_train.search.paper_names import PaperNames
from sciembed_train.text.prompts import query_prompt

if TYPE_CHECKING:
    from sciembed_train.encoder.text_interface import TextInterface
    from sciembed_train.inference.embedding import Prompted, Text
    from sciembed_train.search.index_settings import SearchSettings


@dataclass(frozen=True)
class Hit:
    """A paper that is near.

    Args:
        paper_id: its id.
        title: its title; empty where it is not known.
        score: the cosine, or minus the Euclidean distance: larger where papers are nearer.
        row: in the index.
    """

    paper_id: str
    title: str
    score: float
    row: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"paper_id": self.paper_id, "title": self.title, "score": round(self.score, 6)}


@dataclass(frozen=True)
class Answer:
    """The nearest papers of a query.

    Args:
        query: the text, or the id of the paper.
        hits: nearest first.
        vector: of the query, as it is compared.
    """

    query: str
    hits: Sequence[Hit]
    vector: Float32[np.ndarray, " D"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        hits = ({"rank": rank, **hit.as_dict()} for rank, hit in enumerate(self.hits, 1))
        return {"query": self.query, "nearest": list(hits)}

    def __str__(self) -> str:
        width = max((len(hit.paper_id) for hit in self.hits), default=0)
        lines = (
            f"{rank:>4}  {hit.score:8.4f}  {hit.paper_id:<{width}}  {hit.title}".rstrip()
            for rank, hit in enumerate(self.hits, 1)
        )
        return "\n".join([f"Nearest to {self.query!r}:", *lines])


class PaperSearch:
    """An opened index. The model is loaded with the first text.

    Args:
        folder: what `build_index` wrote.
        model: the model of its vectors; by default the one that the index names.
        device: of the model.
        format_token: the format that queries are embedded for; by default that of the vectors.

    Raises:
        UserError: there is no index, or one of another version.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | Path | None = None,
        device: str = "auto",
        format_token: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.record = _read_record(self.folder)
        self.model, self.device, self.format_token = model, device, format_token
        self.index = FaissIndex.load(
            self.folder / INDEX,
            self.record["kind"],
            self.record["similarity"],
            self.record["effort"],
        )
        self.names = PaperNames(self.folder)
        self._encoder: TextInterface | None = None
        self._settings = EmbedSettings()

    def __len__(self) -> int:
        return len(self.names)

    def map(self) -> CollectionMap:
        """The map of the collection."""
        return CollectionMap.load(self.folder / MAP)

    def ask(self, settings: SearchSettings) -> list[Answer]:
        """The answers to a command's settings, except for the page.

        Raises:
            UserError: as `by_text`, `by_paper` and `by_papers`.
        """
        from sciembed_train.inference.paper_file import PaperFile

        if settings.papers is not None:
            papers = PaperFile(settings.papers, settings.max_bad_rows)
            texts = {paper.paper_id: (paper.title, paper.abstract) for paper in papers}
            return self.by_papers(texts, settings.top)
        if settings.paper is not None:
            return [self.by_paper(settings.paper, settings.top)]
        return [self.by_text(settings.query or "", settings.top)]

    def by_text(self, text: str, top: int = 10) -> Answer:
        """The nearest papers of a text.

        Raises:
            UserError: the index names no model, or another one than was given.
        """
        settings = self.load_model().settings
        before = query_prompt(settings.prompts, settings.input_format.prompt)
        return self._answers([text], self._vectors([(text, None, before)]), top)[0]

    def by_paper(self, paper_id: str, top: int = 10) -> Answer:
        """The nearest other papers of one that is indexed.

        Raises:
            UserError: it is not indexed.
        """
        row = self.names.row(paper_id)
        if row is None:
            raise UserError(
                f"The paper {paper_id!r} is not in the index {self.folder}, which has "
                f"{len(self):,}, such as {self.names.id(0)!r}."
            )
        return self._answers([paper_id], self.index.vector(row)[None], top, [row])[0]

    def by_papers(self, papers: Mapping[str, Text], top: int = 10) -> list[Answer]:
        """The nearest papers of others, by their id: title and abstract of each.

        A paper that is indexed under its id is not among its own nearest.

        Raises:
            UserError: as `by_text`.
        """
        vectors = self._vectors(list(papers.values()))
        return self._answers(list(papers), vectors, top, list(map(self.names.row, papers)))

    def load_model(self) -> TextInterface:
        """The model, loaded the first time.

        Raises:
            UserError: no model is known, or it is not the one of the vectors.
        """
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder

    def _load(self) -> TextInterface:
        from dataclasses import replace

        from sciembed_train.inference.embed_file import fingerprint
        from sciembed_train.inference.embedding import open_encoder, put_before

        recorded, how = self.record["model"], self.record["how"]
        if recorded is None:
            raise UserError(
                f"{self.folder} does not say which model its vectors are of, so that it cannot be "
                "searched by text. Search by --paper, or make the index with --model."
            )
        name = self._recorded_model() if self.model is None else self.model
        self._settings = EmbedSettings(
            max_length=how["max_length"],
            precision=how["precision"],
            device=self.device,
            format_token=self.format_token or how["format"],
            backend=how.get("backend"),
        )
        encoder = open_encoder(name, self._settings)
        if encoder.settings.pooling != how["pooling"]:
            self._settings = replace(self._settings, pooling=how["pooling"])
            encoder = open_encoder(name, self._settings)
        put_before(encoder, how["input_format"].get("prompt", ""))
        if fingerprint(encoder) != recorded["hash"]:
            raise UserError(
                f"{self.folder} is an index of another model than {name}: of {recorded['name']} "
                f"({recorded['hash']}). Name that one with --model, or index the vectors of this."
            )
        if how["dim"] < encoder.dim:
            encoder.truncate_dim = how["dim"]  # vectors of `embed --dim`
        return encoder

    def _recorded_model(self) -> Path:
        """The folder of the model that the index names; a file's name is never fetched."""
        from sciembed_train.safety.find_model import find_folder, model_place

        name = self.record["model"]["name"]
        try:
            return find_folder(model_place(name), fetch=False)
        except UserError as error:
            raise UserError(
                f"{self.folder} is an index of the model {name}, which is not found here. Name its "
                "folder with --model."
            ) from error

    def _vectors(self, texts: Sequence[Text | Prompted]) -> Float32[np.ndarray, "U D"]:
        from sciembed_train.inference.embedding import embed_texts

        encoder = self.load_model()
        return embed_texts(encoder, texts, len(texts), self._settings)

    def _answers(
        self,
        queries: Sequence[str],
        vectors: Float32[np.ndarray, "U D"],
        top: int,
        own: Sequence[int | None] | None = None,
    ) -> list[Answer]:
        """The nearest of each vector, without its own row."""
        scores, rows = self.index.nearest(vectors, min(top + (own is not None), len(self)))
        own = own or [None] * len(queries)
        answers = []
        for query, vector, each, near, itself in zip(
            queries, self.index.prepared(vectors), scores.tolist(), rows.tolist(), own, strict=True
        ):
            hits = [
                Hit(self.names.id(row), self.names.title(row), score, row)
                for score, row in zip(each, near, strict=True)
                if row >= 0 and row != itself
            ]
            answers.append(Answer(query, hits[:top], vector))
        return answers


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--index {folder} is no index: it has no {RECORD} that can be read. `train index` "
            "makes one."
        ) from error
    if record.get("version") != VERSION:
        raise UserError(
            f"--index {folder} was made by another version of this program. Make it again."
        )
    return record
