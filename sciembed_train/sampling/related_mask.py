"""Which relations make two papers no negatives of one another. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class RelatedMask:
    """Which candidates are no negatives of a query, beside its own paper and its positive's.

    Args:
        cites: papers that the query's cites.
        cited_by: papers that cite the query's.
        cocited: papers cited together with the query's so often; 0 to leave this out.
        same_title: papers whose title has the same letters and digits.
        same_text: texts of the same tokens as the query's or its positive's.

    Raises:
        UserError: ``cocited`` is negative.
    """

    cites: bool = True
    cited_by: bool = True
    cocited: int = 2
    same_title: bool = True
    same_text: bool = True

    def __post_init__(self) -> None:
        if self.cocited < 0:
            raise UserError(f"mask.cocited must be 0 or more; got {self.cocited}.")
