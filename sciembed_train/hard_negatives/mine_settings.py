"""What is mined, and by which rules. Importing this module imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sciembed_train.errors import UserError

PositiveScore = Literal["mean", "lowest"]
_RANKS = re.compile(r"(\d+):(\d+)")
_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class MineSettings:
    """What is mined, and by which rules.

    Args:
        corpus: a folder made by prepare, with citations or co-cited papers.
        model: the encoder that ranks: a model folder, a run folder or a hub name. Its vectors are
            kept in the corpus, and a later call uses them again.
        vectors: in place of a model, vectors as embed writes them: an .npy file with the ids in
            .ids.txt, or a folder of such files.
        name: of the negatives in the corpus; that of the model or of the vectors where it is empty.
        count: negatives of a query, at most.
        margin: a negative's score is at most this share of the positives' score.
        ranks: which of the nearest unrelated papers may be negatives: 10:200 passes over the
            nearest 10 and looks no further than the 200th.
        positive: score of a query's positives: their mean, or that of the lowest one.
        two_hop_first: of those that may be negatives, take papers first that are cited by a paper
            which the query cites.
        queries_at_once: queries ranked in one block; a run that was killed loses one block.
        restart: discard what an unfinished run with other settings left.

    Raises:
        UserError: a value is out of its range, or there is not one of model and vectors.
    """

    corpus: str | Path
    model: str | Path | None = None
    vectors: str | Path | None = None
    name: str = ""
    count: int = 20
    margin: float = 0.95
    ranks: str = "10:200"
    positive: PositiveScore = "mean"
    two_hop_first: bool = False
    queries_at_once: int = 2048
    restart: bool = False

    def __post_init__(self) -> None:
        if (self.model is None) == (self.vectors is None):
            raise UserError("Give what ranks the papers: either --model or --vectors.")
        for key, value in (("count", self.count), ("queries-at-once", self.queries_at_once)):
            if value < 1:
                raise UserError(f"--{key} must be 1 or more; got {value}.")
        if not 0 < self.margin <= 1:
            raise UserError(f"--margin must be above 0 and at most 1; got {self.margin:g}.")
        if self.positive not in get_args(PositiveScore):
            raise UserError(f"--positive is {self.positive!r}; it is mean or lowest.")
        if self.name and not _NAME.fullmatch(self.name):
            raise UserError(
                f"--name {self.name!r}: a name of letters, digits and . _ + - is expected, no path."
            )
        _ = self.window

    @property
    def window(self) -> tuple[int, int]:
        """How many of the nearest are passed over, and how many are looked at in all."""
        match = _RANKS.fullmatch(self.ranks)
        first, last = (int(part) for part in match.groups()) if match else (0, 0)
        if first >= last:
            raise UserError(
                f"--ranks is {self.ranks!r}; expected FIRST:LAST such as 10:200, FIRST below LAST."
            )
        return first, last

    @property
    def negatives_name(self) -> str:
        """The name of the negatives: as given, or made of that of the model or the vectors."""
        if self.name:
            return self.name
        place = Path(str(self.model if self.vectors is None else self.vectors)).absolute()
        name = place.parent.name if place.name == "export" else place.name
        return re.sub(r"[^\w.+-]", "-", name.removesuffix(".npy")).lstrip(".-+") or "mined"
