"""The folder of an encoder that mixes its layers, in which no library finds a plain model.

Its backbone alone would give other vectors without a warning. So there are two folders for other
libraries: ``st/`` for sentence-transformers, whose own modules compute the mix, with the backbone
in a sub-folder; and ``hf/`` for transformers, with a model type and a code file of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import (
    custom_code_vectors,
    sentence_transformers_vectors,
)
from sciembed_train.export.model_card import card_metadata, card_values, render_card
from sciembed_train.export.sentence_transformers_files import (
    write_layer_mix,
    write_sentence_transformers,
)
from sciembed_train.export.verification import (
    check_refused,
    compare,
    compare_where_installed,
    masked_lm_difference,
    probe_texts,
)

CODE = Path(__file__).parents[1] / "layer_mix.py"
# What other libraries ask of a configuration, whatever the backbone is.
COMMON_KEYS = ("hidden_size", "num_hidden_layers", "max_position_embeddings", "pad_token_id")


class LayerMixLayout(PlainLayout):
    """``st/`` and ``hf/``, each computing the mix in its own library."""

    def write(self, encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_parts(encoder, folder, record["similarity"])

    def verify(
        self, encoder: Encoder, folder: Path, record: dict[str, Any]
    ) -> dict[str, float | None]:
        """See `ExportLayout`."""
        check_refused(folder, ("", "st", "hf"), "the code that mixes its layers")
        texts = probe_texts(encoder)
        expected = encoder.encode_texts(texts)
        (vectors,) = custom_code_vectors(encoder, [folder / "hf"], texts)
        custom, st = "AutoModel with trust_remote_code", "SentenceTransformer"
        differences: dict[str, float | None] = {
            custom: compare(custom, "embeddings", vectors, expected),
            st: compare_where_installed(
                st, sentence_transformers_vectors(folder / "st", texts), expected
            ),
        }
        if encoder.head is not None:
            differences["AutoModelForMaskedLM"] = masked_lm_difference(
                encoder, folder / LayerMix.backbone_place, texts
            )
        return differences

    def describe(self, encoder: Encoder, record: dict[str, Any], name: str) -> str:
        """See `ExportLayout`."""
        assert isinstance(encoder.pooling, LayerMix)
        shares = encoder.pooling.shares().tolist()
        values = {
            **card_values(encoder, record, name),
            "transformers_folder": "PATH_OF_THIS_MODEL/hf",
            "sentence_transformers_folder": "PATH_OF_THIS_MODEL/st",
            "head_folder": f"PATH_OF_THIS_MODEL/{LayerMix.backbone_place}",
            "trust": ", trust_remote_code=True",
            "download_hint": "  # from a hub: huggingface_hub.snapshot_download(NAME)",
            "shares": " ".join(f"{share:.3f}" for share in shares),
        }
        return render_card(
            "layer_mix.md.jinja", card_metadata(record, sentence_transformers=False), values
        )


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Complete ``st/`` and write ``hf/`` of a folder that `Encoder.save` wrote."""
    pooling = encoder.pooling
    assert isinstance(pooling, LayerMix)
    length = encoder.settings.max_length
    write_layer_mix(
        folder / "st",
        dim=encoder.dim,
        shares=pooling.shares(),
        max_length=length,
        similarity=similarity,
    )
    hf = folder / "hf"
    hf.mkdir()
    for path in sorted((folder / pooling.backbone_place).iterdir()):
        if path.name not in ("config.json", "sentence_bert_config.json") and not (
            path.name.startswith("model")
        ):  # what is left is the tokenizer
            shutil.copyfile(path, hf / path.name)
    shutil.copyfile(CODE, hf / CODE.name)
    backbone = encoder.backbone_config()
    for key in ("architectures", "transformers_version", "output_hidden_states", "dtype"):
        backbone.pop(key, None)
    config: dict[str, Any] = {
        "architectures": ["LayerMixModel"],
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.LayerMixConfig",
            "AutoModel": f"{CODE.stem}.LayerMixModel",
        },
        "model_type": "sciembed_layer_mix",
        **{key: getattr(encoder.backbone.config, key, None) for key in COMMON_KEYS},
        "backbone": backbone,
    }
    (hf / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {
        f"backbone.{name}": tensor.detach().clone().contiguous()
        for name, tensor in encoder.backbone.state_dict().items()
        if not name.startswith("pooler.")
    }
    tensors["mix"] = pooling.mix.detach().clone()
    save_file(tensors, hf / "model.safetensors", metadata={"format": "pt"})
    # Mixed token by token, so its first token's state is the vector, to sentence-transformers too.
    write_sentence_transformers(
        hf, dim=encoder.dim, pooling="cls", max_length=length, similarity=similarity
    )
