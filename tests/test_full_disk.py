import errno
import os

import numpy as np
import pytest

from sciembed_train.errors import RunError, UserError
from sciembed_train.full_disk import NoRoomError, allocate, disk_error, new_array, told_full_disk
from tests.helpers.small_disk import largest_file, on_small_disk


def raised_over(error: Exception) -> Exception:
    try:
        try:
            raise error
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")
    except RuntimeError as other:
        return other


def test_a_full_disk_is_known_by_its_number_also_below_another_error():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert disk_error(full) == disk_error(raised_over(full)) == os.strerror(errno.ENOSPC)
    assert disk_error(OSError(errno.EDQUOT, "quota")) == os.strerror(errno.EDQUOT)


def test_a_full_disk_is_known_by_the_words_of_a_library_in_rust():
    error = ValueError("I/O error: No space left on device (os error 28)")
    assert disk_error(error) == os.strerror(errno.ENOSPC)


def test_other_errors_are_none():
    assert disk_error(PermissionError(errno.EACCES, "no")) is None
    assert disk_error(raised_over(ValueError("x"))) is None
    assert disk_error(ValueError("I/O error: denied (os error 13)")) is None


def test_a_full_disk_is_known_by_the_words_of_the_database_alone():
    import duckdb

    words = 'Could not write all bytes to file "x": No space left on device'
    assert disk_error(duckdb.IOException(words)) == os.strerror(errno.ENOSPC)
    assert disk_error(ValueError(words)) is None
    assert disk_error(duckdb.IOException("no such file")) is None


WAYS = pytest.mark.parametrize("reserves", [True, False])


@pytest.fixture
def way(reserves, monkeypatch):
    """With the system's way to reserve bytes, and by writing zeros."""
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate")


@WAYS
def test_an_array_has_all_its_bytes_on_the_disk_before_it_is_written(tmp_path, way):
    array = new_array(tmp_path / "a.npy", np.float32, (3000, 7))
    status = (tmp_path / "a.npy").stat()
    assert status.st_blocks * 512 >= status.st_size
    assert (array == 0).all()
    array[:] = np.arange(21000).reshape(3000, 7)
    array.flush()
    assert np.load(tmp_path / "a.npy")[2999, 6] == 20999
    assert new_array(tmp_path / "none.npy", np.int32, (0, 4)).shape == (0, 4)


@WAYS
def test_an_array_without_room_is_refused_and_leaves_no_file(tmp_path, way):
    with largest_file(10_000), pytest.raises(NoRoomError, match="File too large") as refused:
        new_array(tmp_path / "a.npy", np.float32, (3000, 7))
    assert refused.value.needed == 84_128
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_its_bytes_keeps_them(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    allocate(tmp_path / "file", 3)
    assert (tmp_path / "file").read_bytes() == b"12345"
    allocate(tmp_path / "file", 7)
    assert (tmp_path / "file").read_bytes() == b"12345\0\0"


ON_SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np
from sciembed_train.errors import RunError
from sciembed_train.full_disk import new_array, told_full_disk
path = Path(sys.argv[1]) / "a.npy"
try:
    with told_full_disk(path, "Nothing is lost."):
        new_array(path, np.float32, (300_000, 1))[:] = 1
except RunError as error:
    print(error)
"""


def test_on_a_real_full_disk_there_is_a_message_and_no_death_by_a_signal(tmp_path):
    done = on_small_disk(tmp_path, 10**6, "-c", ON_SMALL_DISK, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{tmp_path}/a.npy cannot be written: No space left on device. It takes 0.0012 GB; "
        "0.001 GB are free there. Nothing is lost.\n"
    )


def test_what_is_no_full_disk_stays_as_it_is(tmp_path):
    for error in (UserError("x"), RunError("y"), PermissionError(errno.EACCES, "no")):
        with pytest.raises(type(error)) as raised, told_full_disk(tmp_path, "z"):
            raise error
        assert raised.value is error


def test_the_place_may_not_be_there_yet(tmp_path):
    told = pytest.raises(RunError, match=r"a/b cannot be written: .* GB are free there\. z$")
    with told, told_full_disk(tmp_path / "a" / "b", "z"):
        raise OSError(errno.ENOSPC, "x")
