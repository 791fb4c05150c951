"""A checkpoint or a run as a folder that other libraries load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import (
    FINAL,
    TRAINED,
    card_of,
    find_checkpoint,
    load_checkpoint,
    titles_of,
)

Layout = Literal["sentence-transformers", "lora", "adapterhub", "aspire-full"]


@dataclass(frozen=True)
class Export:
    """A folder that was written, and proved by loading it back.

    Args:
        folder: where it is.
        checkpoint: what it was made from.
        differences: by library that can load it, the largest difference of its vectors from
            the trained encoder's; None where the library is not installed.
    """

    folder: Path
    checkpoint: Path
    differences: dict[str, float | None]

    def __str__(self) -> str:
        return f"{self.checkpoint} -> {self.folder}\n{describe_differences(self.differences)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "checkpoint": str(self.checkpoint),
            "folder": str(self.folder),
            "differences": self.differences,
        }


@dataclass(frozen=True)
class ExportSettings:
    """What is exported.

    Args:
        source: a ``.ckpt`` file, or a run's folder (its final, best or last one).
        to: the folder to write.
        layout: ``sentence-transformers`` is a Hugging Face folder that sentence-transformers loads
            too; ``lora`` the low-rank updates alone, as peft loads them onto the start encoder, in
            a folder that sentence-transformers loads too; ``adapterhub`` one adapter without its
            backbone, as the library adapters loads it; ``aspire-full`` the two files of Aspire's
            own code, for a BERT that mixes its layers, gives vectors of the sentences of papers, or
            reads single sentences.
        adapter: of layout ``adapterhub``, the adapter's format or code, such as ``proximity`` or
            ``[PRX]``.
        base: the folder of the frozen backbone of adapters or low-rank updates, if it has moved
            since the training or is known by another name to those who get the export; of
            layout ``aspire-full``, the hub name or folder that run_info.json names as its base
            model, where the encoder was trained from a folder.
        pooling: the import path of the checkpoint's pooling, if that is a class of yours: no code
            is imported because a checkpoint names it.
        overwrite: replace an earlier export.
        onnx: write the whole encoder as an ONNX graph, too: pooling and normalisation are inside;
            embed and evaluate take it with --backend onnx.
        openvino: write it as a graph for OpenVINO with weights of 8 bits, too, for --backend
            openvino.

    Raises:
        UserError: an option does not go with the layout.
    """

    source: str | Path
    to: str | Path
    layout: Layout = "sentence-transformers"
    adapter: str | None = None
    base: str | Path | None = None
    pooling: str | None = None
    overwrite: bool = False
    onnx: bool = False
    openvino: bool = False

    def __post_init__(self) -> None:
        if (self.onnx or self.openvino) and self.layout != "sentence-transformers":
            raise UserError(
                "--onnx and --openvino go with --layout sentence-transformers, not "
                f"{self.layout}, which is for one library."
            )
        if self.adapter is not None and self.layout != "adapterhub":
            raise UserError(
                "--adapter goes with --layout adapterhub, which writes one adapter alone."
            )


def export_checkpoint(settings: ExportSettings) -> Export:
    """Write the encoder of a checkpoint as a folder, and compare the folder with it.

    Raises:
        UserError: no such checkpoint, the folder may not be replaced, or the encoder has no such
            layout.
    """
    layout, overwrite = settings.layout, settings.overwrite
    # The final checkpoint of a run has low-rank updates merged into its weights.
    names = TRAINED if layout == "lora" else (FINAL, *TRAINED)
    checkpoint = find_checkpoint(settings.source, names)
    content = load_checkpoint(checkpoint)
    from sciembed_train.encoder.backends.graph_files import wanted_graphs
    from sciembed_train.encoder.io.encoder_checkpoint import encoder_from_checkpoint
    from sciembed_train.export.export_folder import export_encoder
    from sciembed_train.export.export_layout import ExportLayout, write_export
    from sciembed_train.export.layouts.adapterhub_layout import AdapterHubLayout
    from sciembed_train.export.layouts.aspire_layout import AspireLayout
    from sciembed_train.export.layouts.lora_layout import LoraLayout
    from sciembed_train.export.target_folder import check_target

    folder = Path(settings.to)
    special_layout: ExportLayout | None = None
    if layout == "aspire-full":
        special_layout = AspireLayout(settings.base)
    elif layout == "adapterhub":
        special_layout = AdapterHubLayout(settings.adapter)
    elif layout == "lora":
        special_layout = LoraLayout(None if settings.base is None else str(settings.base))
    # Before the weights are loaded, which takes long.
    marker = (special_layout or ExportLayout).marker
    check_target(folder.expanduser().absolute(), overwrite, marker)
    encoder = encoder_from_checkpoint(
        content,
        str(checkpoint),
        None if settings.base is None or layout in ("aspire-full", "lora") else str(settings.base),
        settings.pooling,
        merged=layout != "lora",
    )
    record = card_of(content)
    if special_layout is None:
        titles = titles_of(content)
        differences = export_encoder(
            encoder,
            folder,
            record,
            titles=titles,
            overwrite=overwrite,
            graphs=wanted_graphs(settings.onnx, settings.openvino),
        )
    else:
        differences = write_export(special_layout, encoder, folder, record, overwrite=overwrite)
    return Export(folder, checkpoint, differences)


def describe_differences(differences: dict[str, float | None]) -> str:
    """One line on which libraries were compared, by how much they differ, and which are missing."""
    compared = [
        f"{library} differs by {value:.1e}"
        for library, value in differences.items()
        if value is not None
    ]
    missing = [library for library, value in differences.items() if value is None]
    line = f"loaded back and compared: {', '.join(compared)} at most"
    if missing:
        line += f"; not compared, since it is not installed: {', '.join(missing)}"
    return line
