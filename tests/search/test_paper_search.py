import json

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.search.index_settings import SearchSettings
from sciembed_train.search.paper_search import PaperSearch
from tests.helpers.prompted_models import write_prompted
from tests.helpers.small_index import TITLES, write_index
from tests.helpers.tiny_models import write_tiny_bert


@pytest.fixture(scope="module")
def small(tiny_bert, tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("index"), tiny_bert)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_title_finds_its_paper_and_a_paper_its_others(small, tmp_path, kind):
    st.build_index(small.vectors, tmp_path / "i", kind, papers=small.papers)
    search = st.open_index(tmp_path / "i", device="cpu")
    answer = search.by_text(TITLES[31], top=5)
    assert len(answer.hits) == 5
    assert (answer.hits[0].paper_id, answer.hits[0].title) == ("p31", TITLES[31])
    assert answer.hits[0].score == pytest.approx(0, abs=1e-3)
    others = search.by_paper("p31", top=5)
    assert [hit.paper_id for hit in others.hits[:4]] == [hit.paper_id for hit in answer.hits[1:]]
    assert [hit.score for hit in others.hits] == sorted(h.score for h in others.hits)[::-1]
    assert "Nearest to 'p31':" in str(others)


def test_order_and_scores_are_those_of_the_encoders_own_vectors(small, tiny_bert):
    search = st.open_index(small.index, device="cpu")
    encoder = st.load_encoder(tiny_bert, device="cpu")
    query, vectors = encoder.encode(["word7 word3"]), encoder.encode(TITLES)
    distances = np.linalg.norm(vectors - query, axis=1)
    answer = search.by_text("word7 word3", top=60)
    assert [hit.paper_id for hit in answer.hits] == [f"p{n}" for n in np.argsort(distances)]
    np.testing.assert_allclose([-h.score for h in answer.hits], np.sort(distances), atol=1e-4)


def test_vectors_of_a_graph_are_searched_by_the_same_graph(with_onnx, tmp_path):
    rows = ({"paper_id": f"p{n}", "title": t, "abstract": None} for n, t in enumerate(TITLES))
    papers = tmp_path / "papers.jsonl"
    papers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    st.embed(with_onnx, papers, tmp_path / "v", backend="onnx")
    st.build_index(tmp_path / "v", tmp_path / "i", papers=papers)
    search = st.open_index(tmp_path / "i")
    assert search.load_model().backend == "onnx"
    assert search.by_text(TITLES[31], top=1).hits[0].paper_id == "p31"


def test_a_file_of_papers_gives_an_answer_each_without_the_paper_itself(small, tmp_path):
    rows = [
        {"paper_id": "p4", "title": TITLES[4], "abstract": None},
        {"paper_id": "new", "title": TITLES[4], "abstract": None},
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    search = st.open_index(small.index, device="cpu")
    known, new = search.ask(SearchSettings(small.index, papers=path, top=3))
    assert [len(known.hits), len(new.hits)] == [3, 3]
    assert "p4" not in [hit.paper_id for hit in known.hits]
    assert new.hits[0].paper_id == "p4"
    assert new.as_dict()["nearest"][0] == {
        "rank": 1,
        **{"paper_id": "p4", "title": TITLES[4], "score": round(new.hits[0].score, 6)},
    }


def test_an_index_of_another_model_is_refused(small, tmp_path):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    search = PaperSearch(small.index, other, device="cpu")
    assert len(search.by_paper("p1").hits) == 10  # needs no model
    with pytest.raises(UserError, match=r"is an index of another model than .*other"):
        search.by_text("word1")


def test_what_is_not_there_is_named(small, tmp_path):
    with pytest.raises(UserError, match=r"is no index: it has no index\.json"):
        st.open_index(tmp_path)
    search = st.open_index(small.index, device="cpu")
    with pytest.raises(UserError, match=r"'p60' is not in the index .* such as 'p0'"):
        search.by_paper("p60")
    st.build_index(small.vectors, tmp_path / "i")
    record = json.loads((tmp_path / "i" / "index.json").read_text())
    for change, message in (
        ({"model": None}, "does not say which model"),
        ({"model": {"name": "nobody/nothing", "hash": "0"}}, "nobody/nothing, which is not found"),
    ):
        (tmp_path / "i" / "index.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(UserError, match=message):
            st.open_index(tmp_path / "i", device="cpu").by_text("word1")
    (tmp_path / "i" / "index.json").write_text(json.dumps({**record, "version": 0}))
    with pytest.raises(UserError, match="another version"):
        st.open_index(tmp_path / "i")


@pytest.mark.parametrize("prompt", [None, "none", "Clustering"])
def test_words_are_read_behind_the_prompt_of_queries_and_papers_behind_theirs(
    tiny_bert, small, tmp_path, prompt
):
    model = write_prompted(tiny_bert, tmp_path / "m")
    st.embed(model, small.papers, tmp_path / "v", device="cpu", prompt=prompt)
    st.build_index(tmp_path / "v", tmp_path / "i", papers=small.papers)
    search = st.open_index(tmp_path / "i", device="cpu")
    same = search.by_papers({"new": (TITLES[9], None)}, top=1)[0].hits[0]
    assert (same.paper_id, same.score) == ("p9", pytest.approx(1, abs=1e-5))
    asked = st.load_encoder(model, device="cpu", prompt="query").encode([TITLES[9]])
    unit = asked[0] / np.linalg.norm(asked[0])
    np.testing.assert_allclose(search.by_text(TITLES[9]).vector, unit, atol=1e-5)


def test_queries_are_embedded_as_the_vectors_were(tiny_bert, small, tmp_path):
    st.embed(tiny_bert, small.papers, tmp_path / "v", device="cpu", pooling="mean", max_length=4)
    st.build_index(tmp_path / "v", tmp_path / "i")
    answer = st.open_index(tmp_path / "i", device="cpu").by_text(TITLES[9], top=1)
    assert answer.hits[0].score == pytest.approx(0, abs=1e-3)


def test_queries_of_shorter_vectors_are_cut_alike(tiny_bert, small, tmp_path):
    st.embed(tiny_bert, small.papers, tmp_path / "v", device="cpu", dim=8)
    assert st.build_index(tmp_path / "v", tmp_path / "i").dim == 8
    answer = st.open_index(tmp_path / "i", device="cpu").by_text(TITLES[9], top=1)
    assert answer.hits[0].score == pytest.approx(0, abs=1e-3)
