"""Published models whose folders do not record how they are used, known by their names.

Importing this module imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Published:
    """How the models of a name are used as published.

    Args:
        model: what it is called.
        names: pattern of its names, in a hub name or a path in the hub's cache.
        method: its name for ``import``; None of a language model.
        pooling: how vectors are computed; None of a language model, which has none of its own.
        similarity: what they are compared by.
        texts: ``papers``, ``sentences``, or ``any`` text.
        separator: what joins title and abstract; a model that was trained on running text has
            never seen a separator inside one.
    """

    model: str
    names: str
    method: str | None = None
    pooling: str | None = None
    similarity: str | None = None
    texts: str = "papers"
    separator: Literal["sep", "space"] = "sep"


_START = r"(?<!\w)(?<!\w-)"  # no part of a longer name
# DeCLUTR: Giorgi et al. (2021), section 3.1. SPECTER: Cohan et al. (2020), section 2. SPECTER2's
# base: Singh et al. (2023). SciNCL: Ostendorff et al. (2022), its card. The next are of Aspire,
# Mysore et al. (2022): its sentence encoder, SPECTER-CoCite (section 3.2), tsAspire and otAspire.
# SciBERT: Beltagy et al. (2019).
PUBLISHED = (
    Published(
        "DeCLUTR",
        r"johngiorgi(/|--)declutr-[\w.-]+",
        *("declutr", "mean", "cosine", "any", "space"),
    ),
    Published(
        "SPECTER",
        rf"{_START}allenai(/|--)specter(?![\w-])",
        *("specter", "cls", "euclidean"),
    ),
    Published(
        "SPECTER2",
        rf"{_START}allenai(/|--)specter2(_aug2023refresh)?_base(?![\w-])",
        *("specter", "cls", "euclidean"),
    ),
    Published(
        "SciNCL",
        rf"{_START}malteos(/|--)scincl(?![\w-])",
        *("scincl", "cls", "euclidean"),
    ),
    Published(
        "SPECTER-CoCite",  # without its mix of layers, which these folders lack
        rf"{_START}aspire-biencoder-(biomed|compsci)-(scib|spec)(?![\w-])",
        *("cocite", "cls", "euclidean"),
    ),
    Published(
        "Aspire's sentence encoder",
        rf"{_START}aspire-sentence-embedder(?![\w-])",
        *("cosentbert", "cls", "euclidean", "sentences"),
    ),
    Published(
        "tsAspire",
        rf"{_START}aspire-contextualsentence-singlem-(biomed|compsci)(?![\w-])",
        *("tsaspire", "sentences", "best_match"),
    ),
    Published(
        "otAspire",
        rf"{_START}aspire-contextualsentence-multim-(biomed|compsci)(?![\w-])",
        *("otaspire", "sentences", "transport"),
    ),
    Published("SciBERT", rf"{_START}allenai(/|--)scibert_scivocab_(un)?cased(?![\w-])"),
)
# By the names of `import`; models of one method are used the same way.
METHODS: dict[str, Published] = {
    model.method: model for model in PUBLISHED if model.method is not None
}


def published_model(*names: Any) -> Published | None:
    """The published model with one of these names; the first name that is known counts."""
    for name in names:
        for published in PUBLISHED:
            if re.search(published.names, str(name or "")):
                return published
    return None
