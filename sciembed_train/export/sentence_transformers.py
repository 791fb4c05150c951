"""The files that make a Hugging Face folder a sentence-transformers model.

They are written by hand in the layout of sentence-transformers before 5.4, which every version
from 2.7 to 6.2 reads; what newer versions write themselves, older ones cannot load. The library
itself is not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
}
UNUSED_MODES = (
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
    "pooling_mode_lasttoken",
)


def write_layout(folder: Path, *, dim: int, pooling: str, max_length: int, similarity: str) -> None:
    """Add the sentence-transformers files to a folder that holds the backbone.

    Args:
        folder: the Hugging Face folder; the backbone stays at its top.
        dim: width of an embedding.
        pooling: ``cls`` or ``mean``.
        max_length: most tokens of a text, special tokens included.
        similarity: ``euclidean`` or ``cosine``; both are names of the library too.
    """
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling")])
    ]
    _write(folder / "modules.json", modules)
    # False: an uncased tokenizer lowers the case itself, and True would spoil a cased one.
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": max_length, "do_lower_case": False},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            # The oldest version that reads this layout: a newer one here would make older
            # installations warn for nothing.
            "__version__": {"sentence_transformers": "2.7.0"},
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": similarity,
        },
    )
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dim,
            **{key: name == pooling for name, key in MODES.items()},
            **dict.fromkeys(UNUSED_MODES, False),
            "include_prompt": True,
        },
    )


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
