"""Benchmarks that are scored while a run trains. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sciembed_train.errors import UserError

SAMPLE = 2000


@dataclass(frozen=True)
class ValidationSettings:
    """Benchmarks that every validation of a run scores, beside the held-out examples.

    Args:
        validation: each is ``citations``, ``title_abstract`` or ``abstract_halves``, for the dev
            papers of the corpus; or a folder with benchmarks that ``evaluate --suite`` recognises,
            a YAML file of them, or a file of papers. ``checkpoint.monitor`` and
            ``early_stopping.monitor`` can name their scores, such as ``val/citations/map``.
        validation_sample: most candidates, with at most half as many queries, of every benchmark
            that ``evaluate --sample`` shortens; 0 for all.
        validation_seed: of the sample.

    Raises:
        UserError: a value is out of its range.
    """

    validation: list[str] | str = ""
    validation_sample: int = SAMPLE
    validation_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation_sample", "validation_seed"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be 0 or more; got {getattr(self, name)}.")

    @property
    def places(self) -> list[str]:
        """What ``validation`` names, each once."""
        names = [self.validation] if isinstance(self.validation, str) else self.validation
        return [name for name in dict.fromkeys(names) if name]
