"""An ONNX file of a foreign folder: numbers and known operators, never code or others' files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sciembed_train.errors import UserError

# What runtimes compute by themselves. Operators of another domain would need a library of code.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
SNAPSHOTS = "snapshots"  # folder of a hub's local copies


def check_onnx_file(path: Path) -> None:
    """Check that a graph reads files of its own folder alone, and needs no library of operators.

    Raises:
        UserError: it does not, or it is no ONNX file, or ``onnx`` is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise UserError(
            f"{path}: ONNX files are read by the libraries onnx and onnxruntime: "
            "pip install 'sciembed_train[onnx]'."
        ) from error
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise UserError(
            f"{path}: is no ONNX file that can be read ({str(error).splitlines()[0]}). Fetch or "
            "export the model again."
        ) from error
    defined_domains = {function.domain for function in model.functions}
    for message in _parts(model, (onnx.TensorProto, onnx.NodeProto)):
        if isinstance(message, onnx.NodeProto):
            if message.domain not in DOMAINS | defined_domains:
                raise UserError(
                    f"{path}: has the operator {message.op_type!r:.60} of the domain "
                    f"{message.domain!r:.60}, which no runtime knows by itself. Libraries of "
                    "operators are code, and none is loaded."
                )
        elif message.data_location == onnx.TensorProto.EXTERNAL:
            for entry in message.external_data:
                if entry.key == "location":
                    _check_location(path, entry.value)


def _parts(message: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """All messages of some kinds inside of one, at any depth."""
    from google.protobuf.message import Message

    for _, value in message.ListFields():
        items = (value,) if isinstance(value, Message) else value
        if isinstance(items, str | bytes | int | float):
            continue
        for item in items:
            if not isinstance(item, Message):
                break  # a field has values of one kind
            if isinstance(item, kinds):
                yield item
            yield from _parts(item, kinds)


def _check_location(path: Path, location: str) -> None:
    """Check that the numbers of a tensor lie in a file of the graph's folder.

    Raises:
        UserError: they lie elsewhere.
    """
    named = PurePosixPath(location)
    inside = not (
        named.is_absolute()
        or PureWindowsPath(location).is_absolute()
        or ".." in (*named.parts, *PureWindowsPath(location).parts)
    )
    folder = path.parent.resolve()
    # The local copy of a hub's repository links to files that lie beside it.
    places = [folder, *(part.parent / "blobs" for part in folder.parents if part.name == SNAPSHOTS)]
    target = (folder / location).resolve()
    if not inside or not any(target.is_relative_to(place) for place in places):
        raise UserError(
            f"{path}: reads numbers from {location!r:.80}, which lies outside of its folder. A "
            "model that does so is not opened."
        )
