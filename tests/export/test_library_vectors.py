from sciembed_train.export import library_vectors
from sciembed_train.export.export_folder import export_encoder
from tests.helpers.exports import CARD, encoder_of


def test_without_sentence_transformers_the_comparison_is_reported_missing(
    tiny_bert, tmp_path, monkeypatch
):
    find_spec = library_vectors.importlib.util.find_spec
    monkeypatch.setattr(
        library_vectors.importlib.util,
        "find_spec",
        lambda name, *args: None if name == "sentence_transformers" else find_spec(name, *args),
    )
    differences = export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    assert differences["SentenceTransformer"] is None
    assert differences["AutoModel"] is not None
    assert (tmp_path / "m" / "modules.json").is_file()
