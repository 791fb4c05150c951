"""What an export layout is, and how any of them is written.

A layout writes the encoder's files, verifies them by loading them back, and describes them in a
model card. `write_export` runs the three in a temporary folder, which gets its name only when the
verification has passed.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.target_folder import check_target, partial_folder, write_errors


class ExportLayout(ABC):
    """One way to lay an encoder out as files.

    Every method gets the encoder on the host, in fp32, and the record: what is known of the
    training (`export_folder.export_encoder`).

    Attributes:
        marker: a file that every export of this layout holds, and nothing else.
    """

    marker: ClassVar[str] = "sciembed.json"

    @abstractmethod
    def check(self, encoder: Encoder, record: dict[str, Any]) -> None:
        """Check before anything is written.

        Raises:
            UserError: the encoder cannot be written in this layout.
            ValueError: the record is wrong.
        """

    @abstractmethod
    def write(self, encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
        """Write the files into a folder that does not exist yet."""

    @abstractmethod
    def verify(
        self, encoder: Encoder, folder: Path, record: dict[str, Any]
    ) -> dict[str, float | None]:
        """The largest difference of an entry to what each library computes from the folder.

        None stands for a library that is not installed.

        Raises:
            ExportError: token ids or numbers differ, or a part of the folder loads as something
                that it is not.
        """

    @abstractmethod
    def describe(self, encoder: Encoder, record: dict[str, Any], name: str) -> str | None:
        """The model card (``README.md``) with a title; None where the layout has none."""


def write_export(
    layout: ExportLayout,
    encoder: Encoder,
    folder: str | Path,
    record: dict[str, Any],
    *,
    overwrite: bool = False,
) -> dict[str, float | None]:
    """Write ``folder`` in a layout, and verify it by loading it back.

    The encoder may be on any device, in any mode; it is not changed. ``overwrite`` replaces an
    earlier export of this layout. Returns what `ExportLayout.verify` does.

    Raises:
        UserError: the encoder has no such layout, or the folder cannot be written.
        ExportError: a library computes something else from the folder.
    """
    folder = Path(folder).expanduser().absolute()
    check_target(folder, overwrite, layout.marker)
    layout.check(encoder, record)
    encoder = on_host(encoder)
    with partial_folder(folder) as partial:
        with write_errors(folder):
            layout.write(encoder, partial, record)
            card = layout.describe(encoder, record, known_as(folder))
            if card is not None:
                (partial / "README.md").write_text(card, encoding="utf-8")
        return layout.verify(encoder, partial, record)


def known_as(folder: Path) -> str:
    """The name of a model's folder; a run's own export is known by the run's name."""
    return folder.parent.name if folder.name == "export" else folder.name


def public_name(model: str) -> str:
    """A base model's hub name, or the name of its folder without the folders above it.

    A folder's path is of no use to others, and shows something of the machine.
    """
    folder = Path(model).expanduser()
    return known_as(folder) if folder.exists() else model


def on_host(encoder: Encoder) -> Encoder:
    """The encoder itself or a copy: on the host in fp32, since others multiply less precisely."""
    if encoder.device.type != "cpu" or any(p.dtype != torch.float32 for p in encoder.parameters()):
        return copy.deepcopy(encoder).cpu().float()
    return encoder
