import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.corpus.store.mined_negatives import read_negatives
from sciembed_train.errors import UserError
from sciembed_train.hard_negatives.block import Miner


def files(corpus, name="vectors"):
    folder = corpus.folder / "negatives" / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_mining_that_is_killed_at_any_block_continues_to_the_same_bits(
    corpus, vectors, monkeypatch
):
    settings = {"vectors": vectors[0], "count": 5, "ranks": "1:30", "queries_at_once": 10}
    st.mine(corpus.folder, **settings)
    expected = files(corpus)
    blocks = -(-len(read_negatives(corpus, "vectors").queries) // 10)
    assert blocks > 3
    mine = Miner.mine
    for killed_at in range(blocks):
        done = 0

        def until_killed(miner, start, stop, killed_at=killed_at):
            nonlocal done
            if done == killed_at:
                raise KeyboardInterrupt
            done += 1
            return mine(miner, start, stop)

        monkeypatch.setattr(Miner, "mine", until_killed)
        with pytest.raises(KeyboardInterrupt):
            st.mine(corpus.folder, **settings, name="again")
        done = -blocks
        result = st.mine(corpus.folder, **settings, name="again")
        assert done == -killed_at  # no block was mined twice
        assert result.continued_from == 10 * killed_at
        assert files(corpus, "again") == expected
        assert not list((corpus.folder / "negatives").glob(".again.*"))


def test_an_unfinished_mining_of_other_settings_is_not_mixed_in(corpus, vectors, monkeypatch):
    mine = Miner.mine

    def killed(miner, start, stop):
        if start:
            raise KeyboardInterrupt
        return mine(miner, start, stop)

    monkeypatch.setattr(Miner, "mine", killed)
    with pytest.raises(KeyboardInterrupt):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10)
    monkeypatch.undo()
    with pytest.raises(UserError, match="unfinished mining with other settings"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, margin=0.5)
    with pytest.raises(UserError, match="other settings"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, mask={"cites": False})
    array = np.load(vectors[0])
    np.save(vectors[0], array + 1)
    with pytest.raises(UserError, match="unfinished mining with other vectors"):
        st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10)
    np.save(vectors[0], array)
    again = st.mine(corpus.folder, vectors=vectors[0], queries_at_once=10, restart=True, margin=0.5)
    assert again.continued_from == 0
