"""JSON files that a test spoils."""

import json
from pathlib import Path
from typing import Any


def change(path: Path, **values: Any) -> None:
    """Put values into a file of a JSON object, which is made where it is missing."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}))
