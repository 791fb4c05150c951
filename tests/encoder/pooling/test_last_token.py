"""The last state of a text's last token, wherever a row is padded."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.pooling.last_token import last_of_rows
from tests.helpers.pooled_states import SIZES, ragged
from tests.helpers.unpadded_rows import assert_same, run
from tests.helpers.unpadded_rows import ragged as ragged_rows


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(side):
    hidden = ragged().detach()
    parts = hidden.split(list(SIZES))
    padded, mask = torch.full((3, 4, 5), 1e6, dtype=torch.float64), torch.zeros(3, 4).long()
    for row, part in enumerate(parts):
        at = slice(4 - len(part), 4) if side == "left" else slice(0, len(part))
        padded[row, at], mask[row, at] = part, 1
    assert torch.equal(last_of_rows(padded, mask), torch.stack([part[-1] for part in parts]))


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_modernbert"])
def test_of_an_encoder_it_is_the_state_of_the_separator(name, request):
    folder, found = request.getfixturevalue(name), []
    for forward in ("unpadded", "padded"):
        settings = EncoderSettings(str(folder), "last", 64, dropout=0.0, forward=forward)
        encoder = Encoder(settings).double()
        found.append(run(encoder, ragged_rows(200, [2, 30, 9, 9])))
    assert_same(*found, 1e-9)
    encoder.eval()
    rows = encoder.rows(["word1 word2 word3"])
    with torch.no_grad():
        states = encoder.backbone(input_ids=rows.ids[None]).last_hidden_state
    torch.testing.assert_close(encoder(rows), states[:, -1], rtol=0, atol=1e-9)


def test_tokens_that_are_wanted_beside_it_are_whole(tiny_qwen3):
    encoder = Encoder(EncoderSettings(str(tiny_qwen3), "last", 64)).double().eval()
    rows = ragged_rows(200, [6, 3])
    vectors, states = encoder.with_token_states(rows, torch.tensor([0, 5, 8]))
    torch.testing.assert_close(vectors, encoder(rows))
    torch.testing.assert_close(states[1:], vectors)  # the last tokens'
