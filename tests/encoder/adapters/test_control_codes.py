import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

TEXTS = ["word1 word2[SEP]word3 word4 word5", "word9", "word7 " * 40]


@pytest.fixture
def encoder(request, tiny_bert):
    way = getattr(request, "param", "unpadded")
    settings = EncoderSettings(
        str(tiny_bert), max_length=12, control_codes=True, forward=way, dropout=0.0
    )
    return Encoder(settings).double().eval()


@pytest.mark.parametrize("encoder", ["unpadded", "padded"], indirect=True)
def test_the_vector_is_the_state_of_the_code_before_the_text(encoder):
    names = ["classification", "adhoc_query", "proximity"]
    formats = torch.tensor([list(FORMATS).index(name) for name in names])
    found = encoder(encoder.rows(TEXTS), formats)
    for text, name, vector in zip(TEXTS, names, found, strict=True):
        # As the published code does: the code and a space in front, cut by the tokenizer.
        given = encoder.tokenizer.hf(
            f"{FORMATS[name]} {text}", truncation=True, max_length=12, return_tensors="pt"
        )
        assert given["input_ids"][0, 1] == encoder.tokenizer.hf.convert_tokens_to_ids(FORMATS[name])
        states = encoder.backbone(
            given["input_ids"], attention_mask=given["attention_mask"]
        ).last_hidden_state
        torch.testing.assert_close(vector, states[0, 1], rtol=0, atol=1e-12)


def test_codes_are_new_tokens_with_vectors_of_their_own(encoder, tiny_bert):
    before = Encoder(EncoderSettings(str(tiny_bert)))
    table, old = (e.backbone.get_input_embeddings().weight for e in (encoder, before))
    assert len(table) == len(old) + 4
    assert torch.equal(table[: len(old)], old.double())
    assert table[len(old) :].std() > 1e-3
    places = encoder.tokenizer.hf.convert_tokens_to_ids(sorted(FORMATS.values()))
    assert places == list(range(len(old), len(old) + 4))


def test_the_formats_of_texts_matter_and_their_company_does_not(encoder):
    rows = encoder.rows(TEXTS)
    mixed = encoder(rows, torch.tensor([0, 2, 3]))
    for place in range(3):
        alone = encoder(rows.select(torch.tensor([place])), torch.tensor([[0, 2, 3][place]]))
        torch.testing.assert_close(mixed[place], alone[0], rtol=0, atol=1e-12)
    other = encoder(rows, torch.tensor([1, 2, 3]))
    assert (mixed[0] - other[0]).abs().max() > 1e-3


def test_a_checkpoint_keeps_the_codes(encoder):
    state = {f"encoder.{name}": value.float() for name, value in encoder.state_dict().items()}
    record = {"version": 1, **describe(encoder)}
    again = encoder_from_checkpoint({"sciembed": record, "state_dict": state}).double()
    rows, formats = encoder.rows(TEXTS), torch.tensor([0, 2, 3])
    torch.testing.assert_close(again(rows, formats), encoder(rows, formats), rtol=0, atol=1e-12)


def test_a_text_without_a_format_is_refused_and_a_format_where_there_is_none(encoder, tiny_bert):
    with pytest.raises(ValueError, match="which was not given"):
        encoder(encoder.rows(TEXTS))
    plain = Encoder(EncoderSettings(str(tiny_bert)))
    with pytest.raises(ValueError, match="takes no formats"):
        plain(plain.rows(TEXTS), torch.tensor([0, 0, 0]))


def test_codes_go_with_the_first_state_alone(tiny_bert):
    with pytest.raises(UserError, match=r"encoder\.control_codes is True"):
        EncoderSettings(str(tiny_bert), "mean", control_codes=True)
