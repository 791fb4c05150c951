import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.inference.paper_encoder import PaperEncoder

CPU = EmbedSettings(device="cpu")


def test_a_paper_may_be_a_mapping_a_pair_or_a_title(tiny_bert):
    encoder = PaperEncoder(tiny_bert, CPU)
    papers = [{"title": "word1", "abstract": ["a b", "c"]}, ("word1", ["a b", "c"]), "word2"]
    vectors = encoder.encode(papers)
    assert vectors.shape == (3, encoder.dim)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    np.testing.assert_allclose(vectors[2], encoder.encode([{"title": "word2"}])[0], atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_progress_is_shown_only_where_it_is_asked_for(tiny_bert, capsys):
    encoder = PaperEncoder(tiny_bert, CPU)
    encoder.encode(["a"])
    assert capsys.readouterr() == ("", "")
    encoder.encode(["a"], progress=True)
    assert "embedding: 1 papers" in capsys.readouterr().err


def test_a_multi_vector_model_gives_an_array_for_each_paper(tiny_bert, tmp_path):
    Encoder(EncoderSettings(str(tiny_bert), "sentences", 30)).save(
        tmp_path / "m", {"similarity": "best_match"}
    )
    encoder = PaperEncoder(tmp_path / "m", CPU)
    vectors = encoder.encode([("word1", ["a b", "c"]), ("word2", ["d"])])
    assert [rows.shape for rows in vectors] == [(2, encoder.dim), (1, encoder.dim)]
    assert encoder.encode([]) == []


@pytest.mark.parametrize("paper", [{"title": 3}, ("a", 4.0), {"title": "a", "abstract": [1]}])
def test_a_paper_that_is_no_text_is_refused_by_its_number(tiny_bert, paper):
    with pytest.raises(UserError, match="paper 1: `title` must be text"):
        PaperEncoder(tiny_bert, CPU).encode(["fine", paper])


def test_a_graph_gives_the_vectors_of_torch(with_onnx):
    papers = ["word1 word2", ("word3", ["word4", "word5 " * 30]), {"title": "word6"}]
    graph = st.load_encoder(with_onnx, backend="onnx")
    torchs = st.load_encoder(with_onnx, device="cpu").encode(papers)
    np.testing.assert_allclose(graph.encode(papers), torchs, atol=1e-4)
    assert repr(graph).endswith("32 wide, pooling mean, on cpu)")


def test_its_name_says_what_it_is(tiny_bert):
    assert "32 wide, pooling cls, on cpu" in repr(PaperEncoder(tiny_bert, CPU))
