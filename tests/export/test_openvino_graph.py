import json
import subprocess
import sys

import numpy as np
import pytest

from sciembed_train.encoder.backends.runtimes import OpenVinoGraph
from sciembed_train.errors import UserError
from sciembed_train.export.onnx_graph import write_onnx
from sciembed_train.export.openvino_graph import check_installed, write_openvino
from tests.helpers.exports import encoder_of
from tests.helpers.graph_models import needs_openvino
from tests.helpers.tiny_models import write_tiny_bert


def test_weights_of_8_bits_give_nearly_the_same_vectors_in_a_third_of_the_bytes(tmp_path, capfd):
    needs_openvino()
    encoder = encoder_of(write_tiny_bert(tmp_path / "m"), pooling="mean", normalize=True)
    write_onnx(encoder, tmp_path / "g.onnx")
    write_openvino(tmp_path / "g.onnx", tmp_path / "ov" / "g.xml")
    assert capfd.readouterr() == ("", "")  # a command may print JSON
    texts = ["word1 word2", "a b c d e", "word7 word8 word9 " * 30]
    graph = OpenVinoGraph(tmp_path / "ov" / "g.xml")
    for text, expected in zip(texts, encoder.encode_texts(texts).numpy(), strict=True):
        ids = np.array(encoder.tokenizer.rows([text], 512))
        vector = graph.vectors(ids, np.ones_like(ids))[0]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert 0.999 < vector @ expected < 1 - 1e-7  # near, and not the same: they are rounded
    size = (tmp_path / "ov" / "g.bin").stat().st_size
    assert size < (tmp_path / "g.onnx").stat().st_size / 3
    for path in (tmp_path / "ov").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_nothing_is_reported_to_anyone():
    needs_openvino()
    code = (
        "import json, sys; from sciembed_train.export.openvino_graph import check_installed; "
        "check_installed(); from nncf.telemetry import telemetry; "
        "print(json.dumps([type(telemetry).__name__, 'torch_telemetry' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])[0] != "NNCFTelemetry"


@pytest.mark.parametrize("library", ["openvino", "nncf"])
def test_a_missing_library_says_what_to_install(monkeypatch, library):
    needs_openvino()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match="--openvino needs the libraries openvino and nncf: pip"):
        check_installed()
