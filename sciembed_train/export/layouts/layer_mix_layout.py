"""The folder of an encoder that mixes its layers; no library finds a plain model in it.

Its backbone alone would silently give other vectors. So there are two folders for other
libraries: ``st/`` for sentence-transformers, whose own modules compute the mix, with the backbone
in a sub-folder; and ``hf/`` for transformers, with a model type and a code file of its own. Where a
norm stands above the last layer, ``hf/`` is for both and ``st/`` holds the backbone alone.
"""

from __future__ import annotations

from pathlib import Path

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.export.custom_model import write_custom_model
from sciembed_train.export.export_layout import Differences, Record
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import (
    custom_code_vectors,
    sentence_transformers_vectors,
)
from sciembed_train.export.sentence_transformers_files import write_layer_mix
from sciembed_train.export.verification import (
    check_refused,
    compare,
    compare_where_installed,
    masked_lm_differences,
    probe_texts,
)

CODE = Path(__file__).parents[1] / "layer_mix.py"


# Model types with a norm above their last layer. Their list of states ends before it in
# transformers 4 and after it in 5: sentence-transformers mixes what is in the list.
NORM_ABOVE = ("modernbert", "roberta-prelayernorm")


class LayerMixLayout(PlainLayout):
    """``st/`` and ``hf/``, each computing the mix in its own library."""

    template = "layer_mix.md.jinja"
    card_library = "sciembed_train"

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_parts(encoder, folder, record["similarity"])

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """See `ExportLayout`."""
        check_refused(folder, ("", "st", "hf"), "the code that mixes its layers")
        texts = probe_texts(encoder)
        prompt = encoder.settings.input_format.prompt
        expected = encoder.encode_texts(texts)
        (vectors,) = custom_code_vectors(encoder, [folder / "hf"], texts)
        custom, st = "AutoModel with trust_remote_code", "SentenceTransformer"
        differences: Differences = {custom: compare(custom, "embeddings", vectors, expected)}
        if not has_norm_above(encoder):
            st_vectors = sentence_transformers_vectors(folder / "st", texts, prompt)
            differences[st] = compare_where_installed(st, st_vectors, expected)
        place = folder / LayerMix.backbone_place
        return {**differences, **masked_lm_differences(encoder, place, texts)}

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, str]:
        """See `ExportLayout`."""
        assert isinstance(encoder.pooling, LayerMix)
        shares = encoder.pooling.shares().tolist()
        norm_above = has_norm_above(encoder)
        return {
            "transformers_folder": "PATH_OF_THIS_MODEL/hf",
            "sentence_transformers_folder": f"PATH_OF_THIS_MODEL/{'hf' if norm_above else 'st'}",
            "sentence_transformers_trust": ", trust_remote_code=True" if norm_above else "",
            "head_folder": f"PATH_OF_THIS_MODEL/{LayerMix.backbone_place}",
            "trust": ", trust_remote_code=True",
            "download_hint": "  # from a hub: huggingface_hub.snapshot_download(NAME)",
            "shares": " ".join(f"{share:.3f}" for share in shares),
        }


def has_norm_above(encoder: Encoder) -> bool:
    """Whether sentence-transformers' own modules would mix another last state."""
    return encoder.backbone.config.model_type in NORM_ABOVE


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Complete ``st/`` and write ``hf/`` of a folder that `Encoder.save` wrote."""
    pooling = encoder.pooling
    assert isinstance(pooling, LayerMix)
    if not has_norm_above(encoder):
        write_layer_mix(folder / "st", encoder, pooling.shares(), similarity)
    tensors = {
        f"backbone.{name}": tensor
        for name, tensor in encoder.backbone.state_dict().items()
        if not name.startswith("pooler.")
    }
    write_custom_model(
        encoder,
        folder / "hf",
        folder / pooling.backbone_place,
        CODE,
        ("LayerMix", "sciembed_layer_mix"),
        tensors | {"mix": pooling.mix},
        entries={},
        # Mixed token by token, so its first token's state is the vector.
        pooling="cls",
        similarity=similarity,
    )
