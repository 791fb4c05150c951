import pytest

from tests.helpers.tokenizers import write_sentence_pieces


@pytest.fixture(scope="session")
def pieces_always(tmp_path_factory):
    return write_sentence_pieces(tmp_path_factory.mktemp("always"), "always")


@pytest.fixture(scope="session")
def pieces_first(tmp_path_factory):
    return write_sentence_pieces(tmp_path_factory.mktemp("first"), "first")
