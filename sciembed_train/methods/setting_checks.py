"""Ranges of settings that several methods have."""

from __future__ import annotations

from sciembed_train.errors import UserError


def check_margin(margin: float) -> None:
    """Raise UserError unless it is 0 or more."""
    if not margin >= 0:
        raise UserError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )


def check_temperature(temperature: float | None, negatives: str, compared: str) -> None:
    """Raise UserError unless it is None, or above 0 where many negatives are compared.

    Args:
        temperature: None for a margin.
        negatives: the setting; ``one`` has a margin.
        compared: the settings that may have a temperature, for the message.
    """
    if temperature is not None and negatives == "one":
        raise UserError(f"temperature belongs to negatives: {compared}; one negative has a margin.")
    if temperature is not None and not temperature > 0:
        raise UserError(f"temperature must be above 0, or null; got {temperature}.")
