"""A trained encoder as a folder that other libraries load, verified by loading it back.

The folder is a Hugging Face model (``AutoModel``, ``AutoTokenizer``) and a sentence-transformers
model where these can give the vectors, and has the record of the training in ``sciembed.json`` and
``README.md``. The layouts differ by the encoder: see `layouts`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from sciembed_train.encoder.backends.graph_files import Backend
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.model_inputs import check_model_inputs
from sciembed_train.encoder.io.training_titles import NAME, Titles
from sciembed_train.export.export_layout import (
    Differences,
    ExportLayout,
    Record,
    public_name,
    write_export,
)
from sciembed_train.export.layouts.adapters_layout import AdaptersLayout
from sciembed_train.export.layouts.backbone_layout import BackboneLayout
from sciembed_train.export.layouts.control_codes_layout import ControlCodesLayout
from sciembed_train.export.layouts.layer_mix_layout import LayerMixLayout
from sciembed_train.export.layouts.plain_layout import PlainLayout
from sciembed_train.export.layouts.sentences_layout import SentencesLayout

# By the names that poolings and format readers give them (`export_layout`).
LAYOUTS: dict[str, type[ExportLayout]] = {
    "sentence_transformers": PlainLayout,
    "layer_mix": LayerMixLayout,
    "sentences": SentencesLayout,
    "backbone": BackboneLayout,
    "adapters": AdaptersLayout,
    "control_codes": ControlCodesLayout,
}
_PACKAGES = ("sciembed_train", "torch", "transformers", "tokenizers", "pytorch-lightning", "numpy")


def export_encoder(
    encoder: Encoder,
    folder: str | Path,
    card: Record,
    *,
    titles: Titles | None = None,
    overwrite: bool = False,
    graphs: Sequence[Backend] = (),
) -> Differences:
    """Write ``folder`` in the encoder's layout, and verify it by loading it back.

    Args:
        encoder: on any device, in any mode; it is not changed.
        folder: made here.
        card: what is known of the training: ``method``, ``recipe``, ``base_model``, ``training``
            (counts), ``seed`` and whatever else a checkpoint keeps; all of it goes into
            ``sciembed.json``. ``similarity`` is ``euclidean`` (where absent) or ``cosine``;
            ``texts`` is ``papers`` (where absent), ``sentences`` for an encoder of these, or
            ``any`` for one of any text. Of a multi-vector model ``similarity`` is ``best_match``,
            or ``transport`` with the settings of that name.
        titles: those that it was trained on, for a file of the folder; None if unknown.
        overwrite: replace a model that is already there.
        graphs: backends to write a graph for, besides the weights: ``onnx``, ``openvino``.

    Returns:
        The largest difference of an embedding's entry for each library, such as ``AutoModel``, and
        ``SentenceTransformer`` (None where sentence-transformers is not installed); where the
        encoder has a head, the largest one of a logit, for ``AutoModelForMaskedLM``; of graphs
        what `write_graphs` gives.

    Raises:
        UserError: the folder cannot be written, or holds something already; or the encoder cannot
            be written as a graph.
        ExportError: a library computes something else from the folder, or loads something as a
            plain model that is not one.
    """
    record = dict(card)
    if record.get("base_model"):
        record["base_model"] = public_name(str(record["base_model"]))
    encoder = encoder.merged()
    check_model_inputs(encoder.backbone, encoder.tokenizer.hf, encoder.settings.backbone)
    layout = layout_for(encoder)
    if not isinstance(layout, SentencesLayout):
        record["similarity"] = record.get("similarity") or "euclidean"
    record |= {"dim": encoder.dim, "versions": versions()}
    if titles is not None:
        record["training_titles"] = {"file": NAME, "titles": len(titles)}
    return write_export(
        layout, encoder, folder, record, titles=titles, overwrite=overwrite, graphs=graphs
    )


def layout_for(encoder: Encoder) -> ExportLayout:
    """The layout in which other libraries can load what an encoder computes."""
    return LAYOUTS[encoder.format_reader.export_layout or encoder.pooling.export_layout]()


def versions() -> dict[str, str]:
    """Versions of the packages that an embedding depends on, as far as installed."""
    installed = {}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
