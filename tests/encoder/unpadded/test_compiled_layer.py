"""The compiled part of a unpadded layer against the plain one, and how often it is compiled."""

import dataclasses

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.encoder.profiling.memory import footprint
from sciembed_train.encoder.unpadded import compiled_layer, onednn_linear
from sciembed_train.encoder.unpadded.bert import Bert
from sciembed_train.errors import UserError
from tests.helpers.processes import run_ranks
from tests.helpers.tiny_models import write_tiny_decoder
from tests.helpers.unpadded_rows import LENGTHS, assert_same, ragged, run

# torch looks whether an input has a gradient, and hides the warning from all but an error's filter.
# Its compiler imports what it has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf",
    "ignore:`torch.jit:DeprecationWarning",
)


@pytest.fixture
def fresh():
    """Nothing compiled before, and nothing kept."""
    torch._dynamo.reset()
    counters.clear()
    compiled_layer.compiled_on.cache_clear()
    own = {name: getattr(torch._dynamo.config, name) for name in compiled_layer.SETTINGS}
    with torch._dynamo.config.patch(own):  # put back in the end
        yield
    torch._dynamo.reset()
    compiled_layer.compiled_on.cache_clear()


class Counted:
    """A backend that runs graphs as they were found, forward and backward, and counts."""

    def __init__(self):
        self.forwards = self.backwards = 0
        self.calls = 0
        self._aot = aot_autograd(fw_compiler=self._forward, bw_compiler=self._backward)

    def __call__(self, graph, given):
        inner = self._aot(graph, given)

        def called(*values):
            self.calls += 1
            return inner(*values)

        return called

    def _forward(self, graph, given):
        self.forwards += 1
        return make_boxed_func(graph)

    def _backward(self, graph, given):
        self.backwards += 1
        return make_boxed_func(graph)

    def start(self):
        self.forwards = self.backwards = self.calls = 0


@pytest.fixture
def counted(fresh, monkeypatch):
    backend = Counted()
    monkeypatch.setattr(compiled_layer, "BACKEND", backend)
    compiled_layer.compiled_on("cpu", Bert.after_attention)  # with its trial
    assert backend.calls == 1
    backend.start()
    return backend


def both(settings, rows, autocast=False, change=lambda encoder: None):
    """What `run` gives without and with compiling."""
    found = []
    for compile in (False, True):
        encoder = Encoder(dataclasses.replace(settings, compile=compile))
        change(encoder)
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append(run(encoder, rows))
    return found


@pytest.mark.parametrize("pooling", ["cls", "mean", "mix"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_value_and_gradients_are_those_of_the_plain_layers(
    tiny_bert, counted, pooling, checkpointing
):
    settings = EncoderSettings(
        str(tiny_bert),
        pooling=pooling,
        dropout=0.0,
        max_tokens_per_forward=700,
        gradient_checkpointing=checkpointing,
    )
    plain, compiled = both(settings, ragged(250, LENGTHS))
    assert_same(compiled, plain, 1e-5)
    assert counted.calls > 0
    assert not counters["graph_break"]


def test_the_layers_of_modernbert_are_compiled_too(tiny_modernbert, counted):
    settings = EncoderSettings(str(tiny_modernbert), "cls", dropout=0.0, max_tokens_per_forward=300)
    plain, compiled = both(settings, ragged(230, [2, 150, 37, 37, 5, 150]))
    assert_same(compiled, plain, 1e-5)
    assert counted.calls > 0
    assert not counters["graph_break"]


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_the_layers_of_decoders_are_compiled_too(kind, counted, tmp_path):
    folder = write_tiny_decoder(tmp_path, kind)
    settings = EncoderSettings(str(folder), "last", dropout=0.0, max_tokens_per_forward=300)
    plain, compiled = both(settings, ragged(230, [2, 150, 37, 37, 5, 150]))
    assert_same(compiled, plain, 1e-5)
    assert counted.calls > 0
    assert not counters["graph_break"]


def test_as_often_as_there_are_layers_and_pieces_compiled_code_runs(tiny_bert, counted):
    settings = EncoderSettings(
        str(tiny_bert), pooling="mean", max_tokens_per_forward=700, compile=True
    )
    encoder = Encoder(settings)
    run(encoder, ragged(250, [300, 300, 300, 300]))
    assert counted.calls == 2 * 2  # layers, micro-batches
    encoder.eval()
    encoder.encode_rows(ragged(250, [300, 9]))
    assert counted.calls == 2 * 2  # what is not trained stays plain


@pytest.mark.parametrize("checkpointing", [False, True])
def test_pieces_of_any_size_are_compiled_once(tiny_bert, counted, checkpointing):
    settings = EncoderSettings(
        str(tiny_bert), dropout=0.1, gradient_checkpointing=checkpointing, compile=True
    )
    encoder = Encoder(settings)
    # The last layer has as many rows as there are texts: 32 is also the width, 64 the inner one.
    for sizes in ([7, 3], [1], [5], [2], [1, 1], *([n, 9, n] for n in range(2, 12)), [8] * 32,
                  [2] * 64, LENGTHS):  # fmt: skip
        run(encoder, ragged(250, sizes))
        with torch.no_grad():  # as gradient caching runs it first
            encoder(ragged(250, sizes))
    assert (counted.forwards, counted.backwards) == (2, 1)
    assert counters["stats"]["unique_graphs"] == 3  # the trial's, too
    assert not counters["graph_break"]


def test_autocast_is_compiled_once_more(tiny_bert, counted):
    settings = EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0, compile=True)
    encoder = Encoder(settings)
    for sizes in ([7, 3], [40, 9, 2], [5]):
        run(encoder, ragged(250, sizes))
        with torch.autocast("cpu", torch.bfloat16):
            run(encoder, ragged(250, sizes))
    assert (counted.forwards, counted.backwards) == (2, 2)


def test_bfloat16_is_as_near_to_fp32_as_without(tiny_bert, counted):
    settings = EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0)
    rows = ragged(250, LENGTHS)
    exact, _ = both(settings, rows)
    plain, compiled = both(settings, rows, autocast=True)
    away, allowed = ((found[0] - exact[0]).abs().max() for found in (compiled, plain))
    assert compiled[0].dtype == torch.float32
    assert 0 < away < 2 * allowed


def test_a_hook_on_a_submodule_still_changes_the_result(tiny_bert, counted):
    rows = ragged(250, [7, 30])

    def hook(encoder):
        dense = encoder.backbone.encoder.layer[0].output.dense
        dense.register_forward_hook(lambda module, given, out: out * 2)

    settings = EncoderSettings(str(tiny_bert), dropout=0.0)
    before = both(settings, rows)[0]
    plain, compiled = both(settings, rows, change=hook)
    assert_same(compiled, plain, 1e-5)
    assert not torch.allclose(compiled[0], before[0])


def test_onednn_is_left_outside_of_what_is_compiled(tiny_bert, counted, monkeypatch):
    seen = []
    own = onednn_linear._Linear.forward

    def watched(ctx, given, weight, bias):
        seen.append(tuple(weight.shape))
        return own(ctx, given, weight, bias)

    monkeypatch.setattr(onednn_linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(onednn_linear, "SMALLEST", 0)
    monkeypatch.setattr(onednn_linear._Linear, "forward", staticmethod(watched))
    settings = EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0)
    plain, compiled = both(settings, ragged(250, [7, 30]))
    assert_same(compiled, plain, 1e-5)
    # Two layers of six products each, and then of three: queries, keys and values.
    assert seen.count((32, 32)) == 2 * 4 + 2 * 3
    assert len(seen) == 2 * 6 + 2 * 3
    assert not counters["graph_break"]


def test_the_memory_of_a_pass_can_be_measured(tiny_bert, counted):
    settings = EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0, compile=True)
    encoder = Encoder(settings)
    before = footprint(Encoder(dataclasses.replace(settings, compile=False)), 64)
    for calls in (2, 4):
        assert footprint(encoder, 64) == before  # of the plain layers, on a CPU
        run(encoder, ragged(250, [7, 30]))
        assert counted.calls == calls


def in_ddp(folder):
    """Gradients of a compiled step in DDP, whose buckets end within layers; and how it was run."""
    backend = compiled_layer.BACKEND = Counted()
    compiled_layer.compiled_on("cpu", Bert.after_attention)
    backend.start()
    encoder = Encoder(EncoderSettings(folder, "mean", dropout=0.0, compile=True)).double()
    model = nn.parallel.DistributedDataParallel(encoder, bucket_cap_mb=0.01)
    # Every rank the same texts, so that the mean over the ranks is each one's own.
    model(ragged(250, LENGTHS)).sum().backward()
    gradients = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    return gradients, (backend.forwards, backend.backwards, backend.calls)


@pytest.mark.slow
def test_under_ddp_a_layer_stays_one_graph(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mean", dropout=0.0)).double()
    encoder(ragged(250, LENGTHS)).sum().backward()
    for gradients, counts in run_ranks(
        2, "tests.encoder.unpadded.test_compiled_layer", "in_ddp", str(tiny_bert)
    ):
        assert counts == (1, 1, 2)
        for name, found in gradients.items():
            wanted = encoder.get_parameter(name).grad
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_state_and_checkpoint_are_the_plain_ones(tiny_bert, counted):
    settings = EncoderSettings(str(tiny_bert), dropout=0.0)
    plain = Encoder(settings)
    encoder = Encoder(dataclasses.replace(settings, compile=True))
    run(encoder, ragged(250, [7, 30]))
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    ckpt = {"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}
    again = encoder_from_checkpoint(ckpt)
    assert not again.settings.compile  # what suits this machine
    rows = ragged(250, [7, 30])
    torch.testing.assert_close(again(rows), encoder.eval()(rows), rtol=0, atol=0)


def test_what_runs_padded_is_refused(tiny_bert, tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    with pytest.raises(UserError, match=r"encoder\.compile is True; expected false, since.*padded"):
        EncoderSettings(str(tiny_bert), forward="padded", compile=True)
    tokenizer = Encoder(EncoderSettings(str(tiny_bert))).tokenizer
    config = DistilBertConfig(vocab_size=280, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path)
    tokenizer.hf.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"encoder\.compile is true, but .* runs padded"):
        Encoder(EncoderSettings(str(tmp_path), compile=True))


def test_adapters_are_refused(tiny_bert):
    from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings

    with pytest.raises(UserError, match=r"encoder\.compile is True.*has adapters"):
        EncoderSettings(str(tiny_bert), adapters=AdapterSettings(), compile=True)


def test_a_machine_without_a_compiler_is_told_so(tiny_bert, fresh, monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    encoder = Encoder(EncoderSettings(str(tiny_bert), compile=True))
    said = r"cannot compile for cpu \(.*No working C\+\+ compiler found"
    with (
        config.patch({"cpp.cxx": (str(tmp_path / "none"),)}),
        pytest.raises(UserError, match=said),
    ):
        encoder(ragged(250, [7, 30]))
    encoder.eval()(ragged(250, [7, 30]))


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_torchs_own_compiler_gives_the_same(tiny_bert, fresh, tmp_path, monkeypatch, dropout):
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("there is no C++ compiler here")
    settings = EncoderSettings(
        str(tiny_bert), dropout=dropout, max_tokens_per_forward=700, compile=True
    )
    rows = ragged(250, LENGTHS)
    if not dropout:
        for checkpointing in (False, True):
            again = dataclasses.replace(settings, gradient_checkpointing=checkpointing)
            plain, compiled = both(again, rows)
            assert_same(compiled, plain, 1e-5)
        return
    # Gradient caching and checkpointing run a forward twice: the masks must be the same ones.
    encoder = Encoder(settings)
    vectors = []
    for context in (torch.no_grad(), torch.enable_grad()):
        torch.manual_seed(5)
        with context:
            vectors.append(encoder(rows).detach())
    torch.testing.assert_close(*vectors, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(vectors[0], encoder(rows), atol=1e-2)
    kept = []
    for checkpointing in (False, True):
        encoder = Encoder(dataclasses.replace(settings, gradient_checkpointing=checkpointing))
        torch.manual_seed(5)
        kept.append(run(encoder, rows))
    assert_same(kept[1], kept[0], 1e-5)
