"""Models with a code file of their own: writing them, and running them in a separate process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers

READER = Path(__file__).with_name("custom_code_reader.py")
# Entries that other libraries read from a configuration, whatever the backbone is.
_COMMON_KEYS = ("hidden_size", "num_hidden_layers", "max_position_embeddings", "pad_token_id")
_UNUSED_KEYS = ("architectures", "transformers_version", "dtype")


def write_custom_model(
    encoder: Encoder,
    folder: Path,
    backbone_folder: Path,
    code: Path,
    names: tuple[str, str],
    tensors: Mapping[str, Tensor],
    entries: Mapping[str, Any],
    pooling: str,
    similarity: str,
) -> None:
    """Write a model with its code file, for transformers and sentence-transformers.

    Args:
        encoder: what is exported.
        folder: made here.
        backbone_folder: its tokenizer is copied.
        code: the file that defines the model.
        names: the prefix of its classes' names, and the model type.
        tensors: the weights by the names that the code gives them.
        entries: of its configuration, besides the backbone.
        pooling: one of `sentence_transformers_files.MODES`.
        similarity: ``euclidean`` or ``cosine``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    not_tokenizer = ("config.json", "sentence_bert_config.json")
    for path in sorted(backbone_folder.iterdir()):
        if path.name not in not_tokenizer and not path.name.startswith("model"):
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(code, folder / code.name)
    unused = {*_UNUSED_KEYS, *encoder.pooling.saved_config}  # the code sets what the pooling needs
    backbone = {k: v for k, v in encoder.backbone_config().items() if k not in unused}
    classes = {kind: f"{names[0]}{kind}" for kind in ("Config", "Model")}
    config = {
        "architectures": [classes["Model"]],
        "auto_map": {f"Auto{kind}": f"{code.stem}.{name}" for kind, name in classes.items()},
        "model_type": names[1],
        **{key: getattr(encoder.backbone.config, key, None) for key in _COMMON_KEYS},
        **entries,
        "backbone": backbone,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_sentence_transformers(folder, encoder, pooling, similarity)


def with_custom_codes(
    folders: Sequence[Path], texts: Sequence[str], pooling: str = "cls"
) -> list[tuple[list[list[int]], Float[Tensor, "N D"]]]:
    """Token ids and embeddings as a user of transformers gets them with the models' own code.

    Raises:
        RuntimeError: one could not be loaded so; the message says why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        texts_file, result = Path(temporary) / "texts.json", Path(temporary) / "result.pt"
        texts_file.write_text(json.dumps(list(texts)), encoding="utf-8")
        process = subprocess.run(
            # -P: a folder of files named like libraries must not come first in the path.
            [sys.executable, "-P", *map(str, (READER, texts_file, result, pooling, *folders))],
            env={**os.environ, "HF_MODULES_CACHE": f"{temporary}/modules", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"it ended with {process.returncode}"]
            raise RuntimeError(lines[-1])
        models = torch.load(result, weights_only=True)
    return [(model["ids"], model["vectors"]) for model in models]
