"""Run in a process of its own: open crafted model folders and report what they made run.

An audit hook cannot be taken away again, and the network is blocked for good.

Usage: python -m tests.helpers.foreign_code FOLDER {walk,unguarded,commands}
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

CODE = """
from transformers import PretrainedConfig, PreTrainedModel


class Config(PretrainedConfig):
    model_type = "foreign"


class Model(PreTrainedModel):
    config_class = Config
"""
SOCKETS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
found: list[str] = []


def _watch(foreign: Path) -> None:
    """Note and forbid each read of Python in a folder, each run of it, and each use of a socket."""
    place = str(foreign)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in SOCKETS:
            found.append(f"{event} {arguments[:2]}")
            raise ConnectionError("there is no network here")
        name = ""
        if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".py"):
            name = arguments[0]
        elif event == "exec":
            name = getattr(arguments[0], "co_filename", "")
        elif event == "import" and isinstance(arguments[1], str):
            name = arguments[1]
        if name.startswith(place) or "transformers_modules" in name:
            found.append(f"{event} {name}")

    sys.addaudithook(hook)


def write_foreign(folder: Path) -> Path:
    """A folder whose Python is run by whoever loads it with trust."""
    folder.mkdir(parents=True)
    (folder / "foreign.py").write_text(CODE)
    names = ("AutoConfig", "AutoModel", "AutoBackbone", "AutoTokenizer", "AutoImageProcessor")
    auto_map = {name: f"foreign.{'Config' if name == 'AutoConfig' else 'Model'}" for name in names}
    auto_map["AutoTokenizer"] = ["foreign.Model", "foreign.Model"]  # type: ignore[assignment]
    content = {"model_type": "foreign", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    return folder


def crafted(foreign: Path) -> list[dict[str, Any]]:
    """Configurations that make ``transformers`` 4.57 run a folder's Python without being told."""
    nested = {"_name_or_path": str(foreign), "model_type": "foreign", "trust_remote_code": True}
    backbone = {
        "is_encoder_decoder": False,
        "use_timm_backbone": False,
        "backbone": str(foreign),
        "use_pretrained_backbone": True,
        "backbone_kwargs": {"trust_remote_code": True},
    }
    return [
        {"model_type": "detr", **backbone},
        {"model_type": "tvp", **backbone},
        {"model_type": "lightglue", "trust_remote_code": True, "keypoint_detector_config": nested},
        {"model_type": "detr", **backbone, "backbone": "someone/a-model-of-the-hub"},
        {"model_type": "bert", **backbone},
        {"model_type": "bert", "text_config": nested},
    ]


def _hostile_values(foreign: Path) -> list[Any]:
    nested = {"_name_or_path": str(foreign), "model_type": "foreign", "trust_remote_code": True}
    return [str(foreign), "someone/a-model-of-the-hub", nested, True]


def _configurations(foreign: Path) -> list[dict[str, Any]]:
    """Every model type of ``transformers`` with hostile values in every key that it has."""
    from transformers import CONFIG_MAPPING

    from sciembed_train.safety.families import FAMILIES
    from sciembed_train.safety.model_config import LOADING_KEYS

    made = crafted(foreign)
    for model_type in CONFIG_MAPPING:
        try:
            own = list(inspect.signature(CONFIG_MAPPING[model_type].__init__).parameters)
        except (ImportError, ValueError):  # of a library that is not installed; no signature
            own = []
        keys = [key for key in own if key not in ("self", "kwargs", "args")]
        for value in _hostile_values(foreign):
            made.append({"model_type": model_type, **dict.fromkeys(keys, value)})
            made.append({"model_type": model_type, **dict.fromkeys(LOADING_KEYS, value)})
        if model_type in FAMILIES:
            made += [
                {"model_type": model_type, key: value, "hidden_size": 32}
                for key in (*keys, *LOADING_KEYS, "_name_or_path", "anything")
                for value in _hostile_values(foreign)
            ]
    return made


def _walk(folder: Path, foreign: Path) -> dict[str, int]:
    """Open a folder with each configuration; count what was refused and what was opened."""
    from sciembed_train.encoder.io.load_backbone import checked_config, load_tokenizer
    from sciembed_train.errors import UserError

    counts = {"configurations": 0, "refused": 0, "tokenizers": 0}
    for content in _configurations(foreign):
        (folder / "config.json").write_text(json.dumps(content))
        counts["configurations"] += 1
        try:
            checked_config(folder)
        except UserError:
            counts["refused"] += 1
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        kept = (folder / name).read_text() if (folder / name).is_file() else None
        for content in (
            *crafted(foreign),
            json.loads((foreign / name).read_text()) if (foreign / name).is_file() else {},
        ):
            (folder / name).write_text(json.dumps(content))
            with contextlib.suppress(UserError):
                load_tokenizer(folder)
            counts["tokenizers"] += 1
        if kept is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(kept)
    return counts


def _unguarded(foreign: Path) -> dict[str, int]:
    """The same configurations given to ``transformers`` itself, to see that the hook sees."""
    from transformers import AutoConfig, AutoModel

    for content in crafted(foreign)[:3]:
        values = dict(content)
        with contextlib.suppress(Exception):
            config = AutoConfig.for_model(values.pop("model_type"), **values)
            AutoModel.from_config(config, trust_remote_code=False)
    return {}


def _commands(folder: Path, foreign: Path) -> dict[str, Any]:
    """Every command that opens a model, on each crafted folder: the exit codes by command."""
    from sciembed_train.cli import main

    papers = folder.parent / "papers.jsonl"
    row = {"paper_id": "1", "title": "One", "abstract": "Two."}
    papers.write_text(json.dumps(row) + "\n" + json.dumps({**row, "paper_id": "2"}) + "\n")
    out = str(folder.parent / "out")
    commands = {
        "embed": ["embed", "--model", str(folder), "--input", str(papers), "--to", f"{out}.npy"],
        "import": ["import", str(folder), "--to", out, "--method", "specter"],
        "compare": ["compare", "--model", str(folder), str(papers), "1", "2"],
        "merge": ["merge", str(folder), str(folder), "--weights", "0.5", "0.5", "--to", out],
        "evaluate": [
            *("evaluate", "--model", str(folder), "--benchmark", "title_abstract"),
            *("--data", str(papers)),
        ],
        "fit": [
            *("fit", "-c", "own_citations", "--data.papers", str(papers)),
            *("--model.encoder.backbone", str(folder), "--root", out),
        ],
    }
    codes: dict[str, Any] = {}
    for content in crafted(foreign):
        (folder / "config.json").write_text(json.dumps(content))
        for name, words in commands.items():
            with contextlib.redirect_stderr(io.StringIO()) as said:
                try:
                    code = main(words)
                except SystemExit as stop:
                    code = stop.code
            codes.setdefault(name, []).append([code, said.getvalue()[-500:]])
    return codes


def main_() -> None:
    """See the module."""
    root, mode = Path(sys.argv[1]), sys.argv[2]
    os.environ.pop("HF_HUB_OFFLINE", None)  # it would keep away what the check must
    foreign, folder = write_foreign(root / "foreign"), root / "model"
    _watch(foreign)
    calls = {
        "walk": lambda: _walk(folder, foreign),
        "unguarded": lambda: _unguarded(foreign),
        "commands": lambda: _commands(folder, foreign),
    }
    result = calls[mode]()
    print(json.dumps({"found": found, "result": result}))


if __name__ == "__main__":
    main_()
