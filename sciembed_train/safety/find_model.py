"""Find the folder of a model: on this machine, or on the hub where the network is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]


def find_folder(
    name_or_folder: str | Path,
    pickled: str = "*pytorch_model*.bin",
    fetch: bool = True,
    weights: bool = True,
    others: Sequence[str] = (),
) -> Path:
    """The folder itself, or the local copy of a hub model, fetched where the network is allowed.

    Args:
        name_or_folder: what is wanted.
        pickled: the weights' files where the hub has no safetensors.
        fetch: ask the hub where the network is allowed. False for a name that a foreign file
            gives, which is looked for on this machine alone.
        weights: fetch them too; False where the tokenizer is all that is wanted.
        others: patterns of other files that are fetched.

    Raises:
        UserError: neither a folder nor a hub model that can be loaded.
    """
    text = str(name_or_folder)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{text}: is a file; expected the folder of a model, or a hub name.")
    if not _HUB_NAME.fullmatch(text):
        raise UserError(f"{text}: there is no such folder; expected a model's folder or hub name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    local: dict[str, Any] = {} if fetch else {"local_files_only": True}
    try:
        # The patterns' stars match slashes too: a backbone may lie in a sub-folder.
        wanted = [*_SMALL_FILES, *others, *(["*.safetensors"] if weights else [])]
        path = snapshot_download(text, allow_patterns=wanted, **local)
        if weights and not any(Path(path).rglob("*.safetensors")):
            path = snapshot_download(text, allow_patterns=[*_SMALL_FILES, pickled], **local)
    except HFValidationError as error:
        raise UserError(f"{text}: no such folder, and no hub name either ({error}).") from error
    except (OSError, HfHubHTTPError, ValueError) as error:
        if not fetch:
            raise UserError(
                f"{text}: there is no such folder, and the local hub cache has no whole copy of "
                "it. A name that a file gives is not fetched; name the model yourself to fetch it."
            ) from error
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = (
            "HF_HUB_OFFLINE is set, and the local hub cache has no whole copy of it"
            if offline
            else f"it could not be fetched: {(str(error).strip() or repr(error)).splitlines()[0]}"
        )
        raise UserError(
            f"{text}: there is no such folder, and it is no model of the hub that "
            f"can be had here: {why}. Check the name, "
            "allow the network once, or give the folder of a downloaded model."
        ) from error
    return Path(path)


def model_place(folder: str | Path) -> str | Path:
    """The folder itself or a hub name; of a run's folder its ``export``."""
    export = Path(folder) / "export"
    # An encoder that mixes layers has no config.json at its top.
    names = ("config.json", "sciembed.json")
    if not any((Path(folder) / name).is_file() for name in names) and any(
        (export / name).is_file() for name in names
    ):
        return export
    return folder
