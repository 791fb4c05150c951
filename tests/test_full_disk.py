import errno
import os

from sciembed_train.full_disk import disk_error


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
