"""Tiny backbones with adapters that do something, and forwards of them, for tests of adapters."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters
from sciembed_train.encoder.encoder import Encoder, EncoderSettings

CODES = ("[CLF]", "[RGN]", "[PRX]", "[QRY]")
# Wide enough that some of each adapter's units are on for some token of a tiny batch.
WIDE = "seq_bn[reduction_factor=4]"
# Six texts of three formats, as places in `inputs.FORMATS`, formats together; no query is there.
LENGTHS, FORMATS = [7, 12, 3, 12, 30, 5], [0, 0, 1, 2, 2, 2]


def library_is_there() -> bool:
    """Whether the library is installed; once imported, it has no spec that could be looked for."""
    try:
        import adapters
    except ImportError:
        return False
    return adapters.__name__ == "adapters"


def adapted(folder: Any, dtype: str = "float64", seed: int = 3, **given: Any) -> tuple[Any, Any]:
    """A backbone in evaluation mode and its adapters, with weights far from the identity."""
    pytest.importorskip("adapters")
    from transformers import AutoModel

    given.setdefault("config", WIDE)
    backbone: Any = AutoModel.from_pretrained(str(folder)).eval()
    adapters = FormatAdapters(backbone, AdapterSettings(**given), str(folder))
    stir(backbone, adapters, seed)
    return backbone.to(getattr(torch, dtype)).eval(), adapters


def adapted_encoder(
    folder: Any, dtype: str = "float64", adapters: AdapterSettings | None = None, **given: Any
) -> Encoder:
    """An encoder with such adapters, `WIDE` ones of every format unless others are named."""
    pytest.importorskip("adapters")
    wanted = AdapterSettings(config=WIDE) if adapters is None else adapters
    encoder = Encoder(EncoderSettings(str(folder), dropout=0.0, adapters=wanted, **given))
    stir(encoder.backbone, encoder.format_reader)
    return encoder.to(getattr(torch, dtype))


def stir(backbone: Any, adapters: Any, seed: int = 3, size: float = 0.3) -> None:
    """Give the adapters weights that change every vector."""
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(backbone.named_parameters()):
        if name in adapters.tensor_names:
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * size)


def ragged(lengths: list[int], seed: int = 0) -> TokenRows:
    """Random texts of these lengths, in the vocabulary of the tiny models."""
    draw = torch.Generator().manual_seed(seed)
    return TokenRows.from_lists(
        [torch.randint(5, 200, (n,), generator=draw).tolist() for n in lengths]
    )


def library_padded(
    backbone: Any, rows: TokenRows, around: AbstractContextManager[Any] | None = None
) -> list[Tensor]:
    """Each text's last states as the library itself computes them, padded."""
    sizes = rows.lengths.tolist()
    pad = backbone.config.pad_token_id
    ids = nn.utils.rnn.pad_sequence(
        list(rows.ids.split(sizes)), batch_first=True, padding_value=pad
    )
    mask = (torch.arange(ids.shape[1]) < rows.lengths.unsqueeze(1)).long()
    with around or nullcontext():
        states = backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    return [row[:size] for row, size in zip(states, sizes, strict=True)]


def gradients(backbone: Any, vectors: Tensor) -> dict[str, Tensor | None]:
    """Every parameter's gradient of one fixed random linear function of the vectors."""
    backbone.zero_grad()
    draw = torch.Generator().manual_seed(9)
    weights = torch.randn(vectors.shape, generator=draw, dtype=torch.float64).to(vectors)
    (vectors * weights).sum().backward()
    return {n: p.grad for n, p in backbone.named_parameters()}


def assert_close(got: dict[str, Tensor | None], want: dict[str, Tensor | None], part: float):
    """Gradients equal to a part of the largest entry of each tensor."""
    assert got.keys() == want.keys()
    for name, expected in want.items():
        found = got[name]
        assert (found is None) == (expected is None), name
        if found is not None and expected is not None:
            assert (found - expected).abs().max() <= part * expected.abs().max(), name
