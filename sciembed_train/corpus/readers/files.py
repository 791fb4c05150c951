"""The bytes and lines of a user's file: decompression, encoding, messages on damage."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sciembed_train.corpus.audit import BadRow
from sciembed_train.errors import UserError, one_line

COMPRESSED = (".gz", ".zst")
MAX_LINE = 1 << 28  # bytes of a line or a record; documents of 66 MB on one are known
MAX_BLANK = 1 << 22  # blank lines one after another; a spreadsheet has a quarter of them
_PIECE = 1 << 20
_FRAME_PIECE = 512  # bytes of .zst at once: they may stand for 16 MB


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path, empty: bool = False) -> Iterator[tuple[int, str | BadRow]]:
    """The lines of a text file from number 1, without line ends; blank ones only if ``empty``.

    Raises:
        UserError: as `raw_lines`; or the file cannot be read, or is damaged.
    """
    with reading(path), open_bytes(path) as file:
        for number, raw in enumerate(raw_lines(file, path), 1):
            raw = raw.rstrip(b"\r\n")
            if not empty and (not raw or raw.isspace()):
                continue
            line = decoded(raw)
            del raw  # a line may be very long: the caller need not hold it twice
            yield number, line


def decoded(raw: bytes) -> str | BadRow:
    """The text of a line."""
    if b"\0" in raw:
        return BadRow(
            "a NUL byte",
            f"this has a NUL byte at position {raw.index(0) + 1}, as no text has. Take it out, or "
            "fetch the file again.",
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return not_utf8(error)


def raw_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of a file with their ends, without a byte-order mark; at most `MAX_LINE` is held.

    A line of nothing but blanks and NUL bytes is cut, so that it takes no memory.

    Raises:
        UserError: the file is UTF-16 or begins with NUL bytes; a line is longer; or more than
            `MAX_BLANK` lines one after another are blank.
    """
    number = blank = 0
    while raw := file.readline(_PIECE):
        number += 1
        if number == 1:
            raw = without_mark(raw, path)
            refuse_nul(raw[: 1 << 13], path)
        if len(raw) >= _PIECE and not raw.endswith(b"\n"):
            raw = _long_line(raw, file, f"{path}:{number}")
        blank = blank + 1 if raw.isspace() else 0
        if blank > MAX_BLANK:
            raise UserError(
                f"{path}:{number - MAX_BLANK}: more than {MAX_BLANK:,} blank lines begin here. "
                "Take them out, or fetch the file again."
            )
        yield raw


def _long_line(begun: bytes, file: BinaryIO, place: str) -> bytes:
    """The whole of a line of which a piece was read."""
    pieces, size = [begun], len(begun)
    while not pieces[-1].endswith(b"\n") and (piece := file.readline(_PIECE)):
        if len(pieces) == 1 and not pieces[0].strip(b"\0 \t\r"):
            pieces.pop()
            size = 0
        pieces.append(piece)
        size += len(piece)
        if size > MAX_LINE:
            raise too_long(place, "a line")
    return b"".join(pieces)


def too_long(place: str, what: str) -> UserError:
    """The error of a line or record above `MAX_LINE`."""
    return UserError(
        f"{place}: {what} of more than {MAX_LINE >> 20} MB begins here. Give one record a line, "
        "or correct the file: a quotation mark or a bracket may never close."
    )


def refuse_binary(path: Path) -> None:
    """Raise `UserError` for a binary file: one with a NUL byte near its beginning."""
    with reading(path), open_bytes(path) as file:
        head = file.read(1 << 13)
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        refuse_nul(head, path)


def refuse_nul(head: bytes, path: Path) -> None:
    """Raise `UserError` where the first bytes of a file have a NUL byte among them."""
    if b"\0" in head:
        raise UserError(
            f"{path} is not text: it has a NUL byte at position {head.index(0) + 1}. Give a file "
            "of UTF-8 text, or take this one out of the folder."
        )


def without_mark(raw: bytes, path: Path) -> bytes:
    """The first bytes of a file without a byte-order mark; UTF-16 is refused."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16; save it as UTF-8.")
    return raw.removeprefix(b"\xef\xbb\xbf")


def not_utf8(error: UnicodeDecodeError, position: int | None = None) -> BadRow:
    """What is wrong with bytes that could not be decoded; ``position`` is in the line, from 0."""
    byte = error.object[error.start]
    position = error.start if position is None else position
    return BadRow(
        "not UTF-8",
        f"this is not UTF-8: byte {byte:#04x} at position {position + 1}. Save the file as UTF-8.",
    )


def place_not_utf8(path: Path) -> tuple[int, BadRow]:
    """The first line of a file that is not UTF-8, and what is wrong; for a file that has one."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, line_start, end = 1, 0, 0  # the line's number and first byte; the bytes that were read
    with reading(path), open_bytes(path) as file:
        while True:
            piece = file.read(_PIECE)
            end += len(piece)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                start = end - len(error.object)
                before = error.object[: error.start]
                line += before.count(b"\n")
                line_start = max(line_start, start + before.rfind(b"\n") + 1)
                at = start + error.start - line_start
                return line, not_utf8(error, at)
            line += piece.count(b"\n")
            if b"\n" in piece:
                line_start = end - len(piece) + piece.rfind(b"\n") + 1
            assert piece


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a `UserError`."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # from a library about what it read, not from the system
            raise damaged(path, error) from error
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        # zstandard's error has no common base and the library may be absent.
        if type(error).__name__ == "ZstdError":
            raise damaged(path, error) from error
        raise


def damaged(path: Path, error: Exception) -> UserError:
    """The error of a file whose bytes are not those of its format."""
    problem = one_line(error).rstrip(".")
    return UserError(
        f"{path} is damaged or not of the format of its ending: {problem}. Fetch it again."
    )


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed by its ending."""
    ending = path.suffix.lower()
    if ending == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise missing_package("zstandard", ".zst files") from error
        with path.open("rb") as raw, io.BufferedReader(_Zstd(raw, zstandard), 1 << 18) as file:
            yield file  # pyright: ignore[reportReturnType]
    elif ending == ".gz":
        with gzip.open(path, "rb") as file:
            yield file  # pyright: ignore[reportReturnType]
    else:
        with path.open("rb", buffering=1 << 18) as file:
            yield file


def missing_package(package: str, purpose: str) -> UserError:
    """The error where an optional library is not installed."""
    return UserError(
        f"{purpose} need the package {package}, which is not installed: "
        "pip install 'sciembed_train[prepare,datasets]'."
    )


class _Zstd(io.RawIOBase):
    """Decompressed bytes. The library's own reader takes a file cut short for its end.

    Few bytes are given to the library at once, for it returns all that they stand for.
    """

    def __init__(self, raw: BinaryIO, library: Any) -> None:
        self.raw, self.library = raw, library
        self.frame: Any = None
        self.given, self.pending = memoryview(b""), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self.pending:
            data = self.frame.unused_data if self.frame is not None and self.frame.eof else b""
            data = data or self._piece()
            if not data:
                if self.frame is not None and not self.frame.eof:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            if self.frame is None or self.frame.eof:
                self.frame = self.library.ZstdDecompressor().decompressobj()
            self.pending = memoryview(self.frame.decompress(data))
        part, self.pending = self.pending[: len(target)], self.pending[len(target) :]
        target[: len(part)] = part
        return len(part)

    def _piece(self) -> memoryview:
        if not self.given:
            self.given = memoryview(self.raw.read(1 << 17))
        piece, self.given = self.given[:_FRAME_PIECE], self.given[_FRAME_PIECE:]
        return piece
