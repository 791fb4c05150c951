import pytest

from sciembed_train.synthetic import generate_collection
from tests.helpers.synthetic_papers import SMALL


@pytest.fixture(scope="session")
def collection():
    return generate_collection(SMALL)


@pytest.fixture(scope="session")
def papers(collection):
    return list(collection.papers())
