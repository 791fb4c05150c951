"""JSON of a foreign folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}). Fetch the model again.") from error
