"""What an export layout is, and how any of them is written.

A layout writes the encoder's files, verifies them by loading them back, and describes them in a
model card. `write_export` runs the three in a temporary folder, which gets its name only when the
verification has passed.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from sciembed_train.encoder.backends.graph_files import Backend
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.training_titles import Titles, write_titles
from sciembed_train.export.graphs import check_graphs, write_graphs
from sciembed_train.export.model_card import card_metadata, card_values, render_card
from sciembed_train.export.target_folder import check_target, write_errors
from sciembed_train.export.verification import refuse_not_finite
from sciembed_train.whole_folder import whole_folder

Record = dict[str, Any]  # what is known of the training (`export_folder.export_encoder`)
Differences = dict[str, float | None]  # by library; None where it is not installed


class ExportLayout(ABC):
    """One way to lay an encoder out as files.

    Every method gets the encoder on the host, in fp32, and the record of its training.

    Attributes:
        marker: a file that every export of this layout holds, and no other folder.
        template: of the model card, in ``templates/``; None where there is no card.
        card_library: what gives the vectors from the top of the folder.
    """

    marker: ClassVar[str] = "sciembed.json"
    template: ClassVar[str | None] = None
    card_library: ClassVar[str] = "sciembed_train"

    @abstractmethod
    def check(self, encoder: Encoder, record: Record) -> None:
        """Check before anything is written.

        Raises:
            UserError: the encoder cannot be written in this layout.
            ValueError: the record is wrong.
        """

    @abstractmethod
    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """Write the files into a folder that does not exist yet."""

    @abstractmethod
    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
        """The largest difference of an entry to what each library computes from the folder.

        Raises:
            ExportError: token ids or numbers differ, or a part of the folder loads as something
                that it is not.
        """

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, Any]:
        """What the template reads besides `model_card.card_values`."""
        return {}

    def describe(self, encoder: Encoder, record: Record, name: str) -> str | None:
        """The model card (``README.md``) with a title; None where the layout has none."""
        if self.template is None:
            return None
        values = card_values(encoder, record, name) | self.card_entries(encoder, record)
        return render_card(self.template, card_metadata(record, self.card_library), values)


def write_export(
    layout: ExportLayout,
    encoder: Encoder,
    folder: str | Path,
    record: Record,
    *,
    titles: Titles | None = None,
    overwrite: bool = False,
    graphs: Sequence[Backend] = (),
) -> Differences:
    """Write ``folder`` in a layout, and verify it by loading it back.

    The encoder may be on any device, in any mode; it is not changed. ``titles`` that it was trained
    on go into a file of their own. ``overwrite`` replaces an earlier export of this layout. A graph
    is written, too, for each backend in ``graphs``. Returns what `ExportLayout.verify` and
    `write_graphs` do.

    Raises:
        UserError: the encoder has no such layout or graph, its weights or vectors are not finite,
            or the folder cannot be written.
        ExportError: a library computes something else from the folder.
    """
    folder = Path(folder).expanduser().absolute()
    check_target(folder, overwrite, layout.marker)
    layout.check(encoder, record)
    check_graphs(encoder, graphs)
    encoder = on_host(encoder)
    refuse_not_finite(encoder)
    with whole_folder(folder) as partial:
        with write_errors(folder):
            layout.write(encoder, partial, record)
            if titles is not None:
                write_titles(partial, titles)
            compared = write_graphs(encoder, partial, graphs) if graphs else {}
            card_record = record | ({"graphs": compared} if compared else {})
            card = layout.describe(encoder, card_record, known_as(folder))
            if card is not None:
                (partial / "README.md").write_text(card, encoding="utf-8")
        return {**layout.verify(encoder, partial, record), **compared}


def known_as(folder: Path) -> str:
    """The name of a model's folder; a run's own export is known by the run's name."""
    return folder.parent.name if folder.name == "export" else folder.name


def public_name(model: str) -> str:
    """A base model's hub name, or the name of its folder without the folders above it.

    A folder's path is of no use to others, and reveals something about the machine.
    """
    folder = Path(model).expanduser()
    return known_as(folder) if folder.exists() else model


def on_host(encoder: Encoder) -> Encoder:
    """The encoder or a copy, on the host in fp32: other devices multiply less precisely."""
    if encoder.device.type != "cpu" or any(p.dtype != torch.float32 for p in encoder.parameters()):
        return copy.deepcopy(encoder).cpu().float()
    return encoder
