"""An exported encoder as a repository of the Hugging Face hub.

Importing this module imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sciembed_train.errors import RunError, UserError
from sciembed_train.safety.find_model import model_place

_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_REPO = re.compile(rf"(?=.{{1,96}}$)(?:{_PART}/)?{_PART}", re.ASCII)
_BRANCH = re.compile(rf"(?=.{{1,96}}$){_PART}(?:/{_PART})*", re.ASCII)
# Files that an editor, git or this program leaves in a folder, and that are never published.
LEFT_OUT = [".*", "*/.*", "__pycache__/*", "*/__pycache__/*"]


@dataclass(frozen=True)
class PushSettings:
    """What is pushed, and where to.

    Args:
        folder: an exported encoder, or a run's folder, whose export is pushed.
        repo: the repository, such as my_name/my_encoder; it is made where there is none.
        private: make a new repository a private one.
        revision: the branch that is written, instead of main; it is made where there is none.

    Raises:
        UserError: the repository or the branch has no name that the hub takes.
    """

    folder: str | Path
    repo: str
    private: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        for name, value, form, example in (
            ("repo", self.repo, _REPO, "my_name/my_encoder"),
            ("revision", self.revision, _BRANCH, "second"),
        ):
            if value is not None and not form.fullmatch(value):
                raise UserError(
                    f"{name} is {value!r:.60}; expected a name of the hub, such as {example}: "
                    "letters, digits, dots, dashes and underscores, at most 96 of them."
                )


@dataclass(frozen=True)
class Pushed:
    """A folder that was pushed.

    Args:
        folder: where it is.
        repo: the repository's name.
        url: of the commit.
        commit: its hash.
        files: how many the folder has.
    """

    folder: Path
    repo: str
    url: str
    commit: str
    files: int

    def __str__(self) -> str:
        return (
            f"{self.folder} -> {self.repo}: {self.files} files in commit {self.commit}\n{self.url}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def push_folder(settings: PushSettings, quiet: bool = True) -> Pushed:
    """Upload a folder in one commit, and return where it is.

    The metadata of its card is read first, and validated by the hub before a file is uploaded.

    Raises:
        UserError: the folder is no export with a card, there is no token, the hub may not be asked,
            or it refuses the name, the card or the token.
        RunError: the hub cannot be reached, or fails.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    folder = Path(model_place(settings.folder)).expanduser()
    check_card(folder)
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            "HF_HUB_OFFLINE is set, so nothing is sent to the hub. Take it away to push."
        )
    if get_token() is None:
        raise UserError(
            f"There is no token of the hub, with which {settings.repo} could be written. Make one "
            "with the right to write, and put it into the environment variable HF_TOKEN, or log in "
            "with the program hf."
        )
    if quiet:
        disable_progress_bars()
    api, revision = HfApi(library_name="sciembed_train"), settings.revision
    try:
        repo = api.create_repo(settings.repo, private=settings.private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo.repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=f"Push {folder.resolve().name} by sciembed_train",
            ignore_patterns=LEFT_OUT,
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        message = f"The hub at {api.endpoint} does not take {settings.repo}: {_reason(error)}."
        if status is not None and 400 <= status < 500:
            raise UserError(
                f"{message} Check the name, and that the token may write there."
            ) from error
        raise RunError(message) from error
    except ValueError as error:  # the hub's answer to the card, or to a name
        raise UserError(f"{folder} as {settings.repo}: {_reason(error)}.") from error
    except Exception as error:
        if not _is_of_network(error):
            raise
        raise RunError(
            f"The hub at {api.endpoint} cannot be reached: {_reason(error)}. Nothing of {folder} "
            "was changed; run the same command again."
        ) from error
    files = sum(1 for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    return Pushed(folder, repo.repo_id, commit.commit_url, commit.oid, files)


def check_card(folder: Path) -> None:
    """Check that a folder is an export whose card the hub can read.

    Raises:
        UserError: it is not, or the metadata block of its card is missing or malformed.
    """
    from huggingface_hub import ModelCard

    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder. Give one that export has written.")
    card = folder / "README.md"
    # The second marks an adapter by itself.
    if not card.is_file() or not any(
        (folder / name).is_file() for name in ("sciembed.json", "adapter_config.json")
    ):
        raise UserError(
            f"{folder}: is no export with a model card: it has no README.md, or no sciembed.json. "
            "Write one by export, merge or import."
        )
    try:
        data = ModelCard(card.read_text(encoding="utf-8")).data.to_dict()
    except Exception as error:  # of YAML and of fields' values: they share no base class
        raise UserError(
            f"{card}: its metadata block cannot be read ({_reason(error)}). Correct it, or export "
            "again."
        ) from error
    if not isinstance(data.get("tags"), list) or "library_name" not in data:
        raise UserError(
            f"{card}: begins with no metadata block that names library_name and tags, between two "
            "lines of ---. Correct it, or export again."
        )


def _hidden(path: Path, folder: Path) -> bool:
    """Whether a file is not pushed (`LEFT_OUT`)."""
    parts = path.relative_to(folder).parts
    return any(part.startswith(".") or part == "__pycache__" for part in parts)


def _is_of_network(error: Exception) -> bool:
    """Whether a network library raised it: requests or, from huggingface_hub 1 on, httpx."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in (
        *("requests", "httpx", "httpcore", "urllib3"),
    )


def _reason(error: Exception) -> str:
    """The last line of an error's message, which names what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else repr(error))[:300].rstrip(".")
