import json

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import RunError, UserError
from sciembed_train.search import build_index as module
from tests.helpers.small_index import write_index
from tests.helpers.tiny_models import write_tiny_bert


@pytest.fixture(scope="module")
def small(tiny_bert, tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("index"), tiny_bert)


def test_the_record_says_model_kind_counts_and_recall(small):
    record = json.loads((small.index / "index.json").read_text())
    manifest = json.loads((small.vectors / "manifest.json").read_text())
    assert record["model"] == manifest["model"]
    assert record["how"] == manifest["how"]
    assert (record["papers"], record["dim"], record["titled"]) == (60, 32, 60)
    assert (record["kind"], record["similarity"], record["recall"]) == ("flat", "euclidean", 1.0)
    assert "60 papers of width 32" in str(small.built)
    assert "Recall@10 against an exact search: 1.000 (of 60 papers)" in str(small.built)
    assert "no title" not in str(small.built)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_other_kinds_say_their_parameters(small, tmp_path, kind):
    built = st.build_index(small.vectors, tmp_path / "i", kind, similarity="cosine")
    assert built.recall >= 0.95
    assert built.similarity == "cosine"
    assert ("cluster" if kind == "ivf" else "links") in str(built)
    assert "60 papers have no title here" in str(built)


def test_vectors_of_a_file_take_their_model_from_the_option(small, tiny_bert, tmp_path):
    st.embed(tiny_bert, small.papers, tmp_path / "v.npy", device="cpu")
    built = st.build_index(tmp_path / "v.npy", tmp_path / "i")
    assert built.model is None
    assert "cannot be searched by text" in str(built)
    named = st.build_index(tmp_path / "v.npy", tmp_path / "j", model=tiny_bert)
    assert named.model["hash"] == small.built.model["hash"]


def test_another_model_than_the_manifests_is_refused(small, tmp_path):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="are of another model than --model"):
        st.build_index(small.vectors, tmp_path / "i", model=other)
    np.save(tmp_path / "w.npy", np.ones((2, 5), np.float32))
    (tmp_path / "w.ids.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"of width 32, and those .* have 5"):
        st.build_index(tmp_path / "w.npy", tmp_path / "i", model=other)
    assert not (tmp_path / "i").exists()


def test_an_index_is_replaced_on_request_alone_and_nothing_else_ever(small, tmp_path):
    st.build_index(small.vectors, tmp_path / "i")
    with pytest.raises(UserError, match="holds an index already"):
        st.build_index(small.vectors, tmp_path / "i")
    st.build_index(small.vectors, tmp_path / "i", "hnsw", overwrite=True)
    assert json.loads((tmp_path / "i" / "index.json").read_text())["kind"] == "hnsw"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no index"):
        st.build_index(small.vectors, tmp_path / "mine", overwrite=True)


def test_an_index_that_cannot_be_finished_leaves_nothing(small, tmp_path, monkeypatch):
    st.build_index(small.vectors, tmp_path / "i")
    before = (tmp_path / "i" / "index.json").read_bytes()

    def full(index, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.FaissIndex, "save", full)
    with pytest.raises(RunError, match="An earlier index is as it was"):
        st.build_index(small.vectors, tmp_path / "i", overwrite=True)
    assert (tmp_path / "i" / "index.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_vectors_that_cannot_be_compared_are_refused(tmp_path):
    (tmp_path / "v.ids.txt").write_text("a\nb\n")
    np.save(tmp_path / "v.npy", np.full((2, 3), np.nan, np.float32))
    with pytest.raises(UserError, match="not finite"):
        st.build_index(tmp_path / "v.npy", tmp_path / "i")
    np.save(tmp_path / "v.npy", np.zeros((0, 3), np.float32))
    (tmp_path / "v.ids.txt").write_text("")
    with pytest.raises(UserError, match="holds no vector"):
        st.build_index(tmp_path / "v.npy", tmp_path / "i")


def test_one_vector_is_an_index(tmp_path):
    (tmp_path / "v.ids.txt").write_text("a\n")
    np.save(tmp_path / "v.npy", np.ones((1, 3), np.float32))
    for kind in ("flat", "ivf", "hnsw"):
        built = st.build_index(tmp_path / "v.npy", tmp_path / kind, kind)
        assert (built.papers, built.recall) == (1, None)
