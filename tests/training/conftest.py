from types import SimpleNamespace

import pytest

from tests.helpers.runs import arguments
from tests.helpers.small_corpus import write_small_corpus


@pytest.fixture(scope="session")
def toy(tiny_bert, tmp_path_factory):
    """A corpus of 100 triplets, and where its runs go."""
    folder = tmp_path_factory.mktemp("toy")
    write_small_corpus(folder / "corpus", tiny_bert)
    root = folder / "runs"

    def words(*more: str) -> list[str]:
        return arguments(root, folder / "corpus", tiny_bert, *more)

    return SimpleNamespace(root=root, corpus=folder / "corpus", backbone=tiny_bert, arguments=words)


@pytest.fixture(scope="session")
def whole(toy):
    """The run that is never interrupted."""
    from sciembed_train.commands import fit

    assert fit.main(toy.arguments("--run", "whole")) == 0
    return toy.root / "whole"
