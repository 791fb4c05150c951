"""The files that make a Hugging Face folder a sentence-transformers model.

They are written by hand in the layout of sentence-transformers before 5.4, which every version
from 2.7 to 6.2 reads; what newer versions write themselves, older ones cannot load. The library
itself is not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.heads.projection import save_projection
from sciembed_train.encoder.heads.projection_files import FOLDER

MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
# Instead of a pooling's name; older versions show it in lower case.
REFUSED = "none: this model has a vector for each sentence of a paper, see its README.md"
REFUSED_POOLING = "none: this model has a pooling of its own, see its README.md"


def write_sentence_transformers(
    folder: Path, encoder: Encoder, pooling: str, similarity: str
) -> None:
    """Add the sentence-transformers files to a folder that holds the backbone at its top.

    ``pooling`` is one of `MODES`; the names of similarities are the library's too.
    """
    modules = {"": "Transformer", "1_Pooling": "Pooling"}
    if encoder.projection is not None:
        modules[FOLDER] = "Dense"
        save_projection(encoder.projection, folder / FOLDER)
    if encoder.settings.normalize:
        modules[f"{len(modules)}_Normalize"] = "Normalize"
    _write_modules(folder, encoder, modules, similarity)
    _write_pooling(folder / "1_Pooling", encoder.backbone.config.hidden_size, pooling)


def write_layer_mix(
    folder: Path, encoder: Encoder, shares: Float[torch.Tensor, " M"], similarity: str
) -> None:
    """Make a folder with ``0_Transformer`` a sentence-transformers model that mixes layers.

    ``WeightedLayerPooling`` gives ``sum_l s_l h_l / sum_l s_l`` of every token's states, with
    ``shares`` after the softmax and the embeddings' first; the backbone's configuration makes it
    give all of them (``output_hidden_states``).
    """
    modules = {
        "0_Transformer": "Transformer",
        "1_WeightedLayerPooling": "WeightedLayerPooling",
        "2_Pooling": "Pooling",
    }
    _write_modules(folder, encoder, modules, similarity)
    mix = folder / "1_WeightedLayerPooling"
    mix.mkdir(exist_ok=True)
    layers = {"layer_start": 0, "num_hidden_layers": len(shares) - 1}
    _write(mix / "config.json", {"word_embedding_dimension": encoder.dim, **layers})
    save_file({"layer_weights": shares.float().clone()}, mix / "model.safetensors")
    _write_pooling(folder / "2_Pooling", encoder.dim, "cls")


def write_refusal(folder: Path, dim: int, reason: str = REFUSED) -> None:
    """Make sentence-transformers refuse a folder whose vectors its modules cannot make.

    Without ``modules.json`` it would take the mean over all tokens. A pooling that it does not know
    makes every version refuse (tried with 4.1, 5.7 and 6.2), with or without ``trust_remote_code``,
    with a message that is shown. With no pooling it takes the mean; with the transformer alone
    `encode` ends in a KeyError; with the backbone in a sub-folder ``AutoModel`` is lost; for a
    class of ours it asks for ``trust_remote_code``, which does not help.
    """
    _write_list(folder, {"": "Transformer", "1_Pooling": "Pooling"})
    pooling = folder / "1_Pooling"
    pooling.mkdir(exist_ok=True)
    _write(pooling / "config.json", {"word_embedding_dimension": dim, "pooling_mode": reason})


def _write_list(folder: Path, kinds: dict[str, str]) -> None:
    """The list of modules by their folders."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    _write(folder / "modules.json", modules)


def _write_modules(folder: Path, encoder: Encoder, kinds: dict[str, str], similarity: str) -> None:
    """The list of modules by their folders, the first one's length, and the similarity."""
    _write_list(folder, kinds)
    # False: an uncased tokenizer lower-cases by itself, and True would break a cased one.
    _write(
        folder / next(iter(kinds)) / "sentence_bert_config.json",
        {"max_seq_length": encoder.settings.max_length, "do_lower_case": False},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            # The oldest version that reads this layout: a newer one here would make older
            # installations warn for nothing.
            "__version__": {"sentence_transformers": "2.7.0"},
            **_prompts(encoder),
            "similarity_fn_name": similarity,
        },
    )


def _prompts(encoder: Encoder) -> dict[str, Any]:
    """The prompts by name, and the name of the one that the library puts before every text.

    If papers have a prompt, it is ``document``, the name that `encode_document` looks for first;
    queries get the same unless they have their own.
    """
    prompts, paper_prompt = encoder.settings.prompts, encoder.settings.input_format.prompt
    if not paper_prompt:
        return {"prompts": prompts, "default_prompt_name": None}
    prompts = {"query": paper_prompt, **prompts, "document": paper_prompt}
    return {"prompts": prompts, "default_prompt_name": "document"}


def _write_pooling(folder: Path, dim: int, pooling: str) -> None:
    folder.mkdir(exist_ok=True)
    modes = {key: name == pooling for name, key in MODES.items()}
    config = {"word_embedding_dimension": dim, **modes, "include_prompt": True}
    _write(folder / "config.json", config)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
