import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from sciembed_train.errors import RunError, UserError
from sciembed_train.evaluation import vector_cache
from sciembed_train.evaluation.vector_cache import VectorCache, key_of
from sciembed_train.inference.embedding import NotFiniteError, chunks

DIM = 3


class Source:
    """Gives each text ``counts`` vectors that are drawn anew whenever it is asked, and counts."""

    def __init__(self, size=4, counts=lambda text: 1, seed=0):
        self.size, self.counts, self.asked = size, counts, []
        self.rng = np.random.default_rng(seed)

    def __call__(self, texts):
        for chunk in chunks(texts, self.size):
            self.asked += chunk
            yield [
                self.rng.standard_normal((self.counts(text), DIM), dtype=np.float32)
                for text in chunk
            ]


def vectors(folder, texts, source):
    cache = VectorCache(folder, DIM)
    return cache.gather(cache.fill(iter(texts), key_of, source))


def parts(folder):
    return sorted(folder.glob("*.npy"))


def test_each_text_is_asked_for_once_and_later_not_at_all(tmp_path):
    texts = ["a", "", "a", "b", "c", "", "d", "e", "b", "f", "lone \ud800"]
    source = Source()
    first, starts = vectors(tmp_path, texts, source)
    assert source.asked == ["a", "", "b", "c", "d", "e", "f", "lone \ud800"]
    assert first.shape == (11, DIM)
    assert starts.tolist() == list(range(12))
    for left in range(11):
        for right in range(11):
            same = np.array_equal(first[left], first[right])
            assert same == (texts[left] == texts[right])
    again = Source(seed=1)
    second, _ = vectors(tmp_path, [*texts[::-1], "new"], again)
    assert again.asked == ["new"]
    np.testing.assert_array_equal(second[:11], first[::-1])
    assert len(parts(tmp_path)) == 3


def test_ten_thousand_texts_of_which_many_are_the_same(tmp_path):
    numbers = np.random.default_rng(3).integers(700, size=10_000)
    source, reported = Source(size=64), []
    cache = VectorCache(tmp_path, DIM)
    keys = cache.fill(map(str, numbers), key_of, source, done=reported.append)
    found, _ = cache.gather(keys)
    assert len(source.asked) == len(set(source.asked)) == len(np.unique(numbers))
    assert sum(reported) == 10_000 - len(source.asked)
    assert min(reported) >= 0
    _, one_of = np.unique(numbers, return_index=True)
    np.testing.assert_array_equal(found, found[one_of[np.searchsorted(numbers[one_of], numbers)]])
    assert len(np.unique(found, axis=0)) == len(source.asked)


def test_items_may_have_several_vectors_or_none(tmp_path):
    texts = ["", "abc", "ab", "abc", "", "x"]
    found, starts = vectors(tmp_path, texts, Source(size=2, counts=len))
    assert starts.tolist() == [0, 0, 3, 5, 8, 8, 9]
    np.testing.assert_array_equal(found[0:3], found[5:8])
    again = Source(counts=len)
    other, starts = vectors(tmp_path, ["x", "", "ab"], again)
    assert again.asked == []
    assert starts.tolist() == [0, 1, 1, 3]
    np.testing.assert_array_equal(other, found[[8, 3, 4]])


def test_a_folder_of_items_without_any_vector(tmp_path):
    for asked in (["", "none"], []):
        source = Source(counts=lambda text: 0)
        found, starts = vectors(tmp_path, ["", "none"], source)
        assert source.asked == asked
        assert found.shape == (0, DIM)
        assert starts.tolist() == [0, 0, 0]


def test_no_text_at_all(tmp_path):
    found, starts = vectors(tmp_path, [], Source())
    assert found.shape == (0, DIM)
    assert starts.tolist() == [0]


def test_many_copies_are_read_a_block_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_cache, "BLOCK", 3)
    texts = [*"abcabcabcabc", "d"]
    found, _ = vectors(tmp_path, texts, Source(size=2))
    np.testing.assert_array_equal(found[:3], found[9:12])
    assert len(np.unique(found, axis=0)) == 4


def test_an_error_in_the_middle_loses_the_chunk_in_the_making_alone(tmp_path):
    def stopping(texts):
        for number, chunk in enumerate(Source(size=4)(texts)):
            if number == 2:
                raise KeyboardInterrupt
            yield chunk

    cache = VectorCache(tmp_path, DIM)
    texts = [str(number) for number in range(20)]
    with pytest.raises(KeyboardInterrupt):
        cache.fill(texts, key_of, stopping)
    for again in (cache, VectorCache(tmp_path, DIM)):
        source = Source()
        again.fill(texts, key_of, source)
        assert source.asked == (texts[8:] if again is cache else [])
    assert len(parts(tmp_path)) == 5


def test_a_killed_process_leaves_whole_parts_and_the_next_one_goes_on(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from sciembed_train.evaluation import vector_cache
from tests.evaluation.test_vector_cache import Source, vectors

write, number = vector_cache.os.fsync, 0
def fsync(handle):  # a part is written, and has no name yet
    global number
    number += 1
    if number == 5:  # each part: one of the file, one of the folder
        os.kill(os.getpid(), signal.SIGKILL)
    write(handle)
vector_cache.os.fsync = fsync
vectors(Path(sys.argv[1]), map(str, range(20)), Source())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(parts(tmp_path)) == 2
    assert len(list(tmp_path.iterdir())) == 3
    source = Source()
    found, _ = vectors(tmp_path, map(str, range(20)), source)
    assert source.asked == [str(number) for number in range(8, 20)]
    assert len(list(tmp_path.iterdir())) == len(parts(tmp_path)) == 5
    again = Source()
    np.testing.assert_array_equal(vectors(tmp_path, map(str, range(20)), again)[0], found)
    assert again.asked == []


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    own = tmp_path / f".0f.partial-{socket.gethostname()}-{os.getpid()}"
    other = tmp_path / f".0f.partial-a-host-{os.getpid()}"
    for path in (own, other):
        path.write_bytes(b"half")
    vectors(tmp_path, ["a"], Source())
    assert own.exists()
    assert other.exists()


def test_two_caches_may_fill_a_folder_at_the_same_time(tmp_path):
    one, two = (VectorCache(tmp_path, DIM) for _ in range(2))
    texts = [str(number) for number in range(10)]
    keys = []

    def filling_the_other_meanwhile(items):
        for number, chunk in enumerate(Source(seed=1)(items)):
            if number == 1:
                two.fill(texts, key_of, Source(seed=2))
            yield chunk

    keys = one.fill(texts, key_of, filling_the_other_meanwhile)
    mine = one.gather(keys)[0]
    one.fill(texts, key_of, Source(seed=3))  # takes the other's parts in
    np.testing.assert_array_equal(one.gather(keys)[0], mine)
    theirs = two.gather(keys)[0]
    np.testing.assert_array_equal(theirs[:4], mine[:4])  # was there when the other began
    assert not np.array_equal(theirs[4:], mine[4:])
    source = Source()
    fresh, _ = vectors(tmp_path, texts, source)
    assert source.asked == []
    for row, left, right in zip(fresh, mine, theirs, strict=True):
        assert np.array_equal(row, left) or np.array_equal(row, right)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path, np.zeros(3)),
    ],
)
def test_a_damaged_part_is_named_and_the_rest_serves_once_it_is_deleted(tmp_path, damage):
    texts = [str(number) for number in range(8)]
    first, _ = vectors(tmp_path, texts, Source())
    bad = parts(tmp_path)[1]
    damage(bad)
    with pytest.raises(UserError, match=f"{bad}.*damaged.*Delete it"):
        vectors(tmp_path, texts, Source())
    bad.unlink()
    source = Source(seed=1)
    second, _ = vectors(tmp_path, texts, source)
    assert len(source.asked) == 4
    kept = [number for number, text in enumerate(texts) if text not in source.asked]
    np.testing.assert_array_equal(second[kept], first[kept])


def test_parts_of_another_width_are_refused(tmp_path):
    vectors(tmp_path, ["a"], Source())
    with pytest.raises(UserError, match=r"3 wide, and the model's 5"):
        VectorCache(tmp_path, 5).fill(["a"], key_of, Source())


def test_a_part_that_was_deleted_meanwhile_is_named(tmp_path):
    cache = VectorCache(tmp_path, DIM)
    keys = cache.fill(["a"], key_of, Source())
    (part,) = parts(tmp_path)
    part.unlink()
    with pytest.raises(UserError, match=str(part)):
        cache.gather(keys)


def test_a_vector_that_is_not_finite_is_named_by_its_place_among_all(tmp_path):
    vectors(tmp_path, ["a", "b"], Source())

    def failing(items):
        chunk = next(chunks(items, 4))
        raise NotFiniteError("text 1", chunk.index("bad"), "fp32")
        yield

    with pytest.raises(NotFiniteError, match=r"for text 5, in fp32") as raised:
        VectorCache(tmp_path, DIM).fill(["a", "c", "c", "b", "bad"], key_of, failing)
    assert raised.value.number == 4


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(vector_cache.os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot be written.*Make room"):
        vectors(tmp_path, ["a"], Source())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be a folder of vectors"):
        vectors(tmp_path / "file", ["a"], Source())
