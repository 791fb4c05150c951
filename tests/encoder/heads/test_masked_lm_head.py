"""The masked-language-modelling head against ``AutoModelForMaskedLM`` of transformers."""

import copy
import io
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.heads.masked_lm_head import HEADS
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError
from tests.helpers.masked_models import TYPES, gradients_on_a_rank, write_masked_lm
from tests.helpers.processes import run_ranks
from tests.helpers.unpadded_rows import ragged

# Out of order and with ties, so that sorting moves them; several micro-batches at 60 tokens a
# micro-batch.
LENGTHS = [7, 40, 3, 40, 12, 25]
NONE = torch.zeros(0, dtype=torch.long)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: write_masked_lm(tmp_path_factory.mktemp(kind), kind) for kind in TYPES}


def settings_of(folder, **changes):
    values = {"pooling": "mean", "max_length": 64, "dropout": 0.0, "max_tokens_per_forward": 60}
    return EncoderSettings(str(folder), **{**values, **changes})


def reference(folder):
    from transformers import AutoModelForMaskedLM

    return AutoModelForMaskedLM.from_pretrained(folder).double().eval()


def some_positions(rows: TokenRows) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.nonzero(torch.rand(rows.tokens, generator=draw) < 0.15)[:, 0]


def is_tied(encoder) -> bool:
    shared = encoder.backbone.get_input_embeddings().weight
    return any(p is shared for p in encoder.head.parameters())


def test_the_head_of_every_type_in_the_table_is_tested():
    assert set(TYPES) == set(HEADS)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    ("kind", "forward"),
    [(kind, "padded") for kind in sorted(TYPES)]
    + [(kind, "unpadded") for kind in sorted(set(TYPES) - {"distilbert", "mpnet"})],
)
def test_logits_vectors_and_gradients_are_those_of_transformers(folders, kind, forward, pooling):
    encoder = Encoder(settings_of(folders[kind], forward=forward, pooling=pooling), masked_lm=True)
    encoder.double()
    rows = ragged(250, LENGTHS)
    positions = some_positions(rows)
    assert 10 < len(positions) < rows.tokens
    vectors, states = encoder.with_token_states(rows, positions)
    logits = encoder.token_logits(states)

    model = reference(folders[kind])
    logits_of, vectors_of = [], []
    for ids in rows.ids.split(LENGTHS):  # one text at a time: no padding, no order
        logits_of.append(model(input_ids=ids[None]).logits[0])
        hidden = model.base_model(input_ids=ids[None]).last_hidden_state[0]
        vectors_of.append(hidden[0] if pooling == "cls" else hidden.mean(0))
    want = torch.cat(logits_of)[positions]
    want_vectors = torch.stack(vectors_of)
    torch.testing.assert_close(logits, want, rtol=0, atol=1e-9)
    torch.testing.assert_close(vectors, want_vectors, rtol=0, atol=1e-9)

    draw = torch.Generator().manual_seed(9)
    a = torch.randn(want.shape, generator=draw, dtype=torch.float64)
    b = torch.randn(want_vectors.shape, generator=draw, dtype=torch.float64)
    ((logits * a).sum() + (vectors * b).sum()).backward()
    ((want * a).sum() + (want_vectors * b).sum()).backward()
    prefix = model.base_model_prefix
    theirs = dict(model.named_parameters(remove_duplicate=False))
    compared = 0
    for name, parameter in encoder.named_parameters():
        where, _, rest = name.partition(".")
        other = theirs[f"{prefix}.{rest}" if where == "backbone" else rest]
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-9, atol=1e-9)
        compared += 1
    assert compared == len(list(model.parameters()))


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
def test_gradient_checkpointing_changes_no_logit_and_no_gradient(folders, forward):
    rows = ragged(250, LENGTHS)
    positions = some_positions(rows)
    found = []
    for checkpointing in (False, True):
        settings = settings_of(
            folders["bert"], forward=forward, gradient_checkpointing=checkpointing
        )
        encoder = Encoder(settings, masked_lm=True).double()
        vectors, states = encoder.with_token_states(rows, positions)
        logits = encoder.token_logits(states)
        (logits.square().sum() + vectors.square().sum()).backward()
        found.append((logits.detach(), [p.grad for p in encoder.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_the_head_sees_the_wanted_tokens_and_no_others(folders):
    encoder = Encoder(settings_of(folders["bert"]), masked_lm=True)
    assert encoder.head is not None
    seen = []
    for part in encoder.head.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda _, given, out: seen.append((len(given[0]), len(out))))
    rows = ragged(250, LENGTHS)
    positions = some_positions(rows)
    _, states = encoder.with_token_states(rows, positions)
    assert seen == []
    encoder.token_logits(states)
    assert set(seen) == {(len(positions), len(positions))}


@pytest.mark.parametrize("kind", sorted(TYPES))
@pytest.mark.parametrize("autocast", [False, True])
def test_without_a_masked_token_every_parameter_still_gets_a_gradient(folders, kind, autocast):
    encoder = Encoder(settings_of(folders[kind]), masked_lm=True)
    rows = ragged(250, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        vectors, states = encoder.with_token_states(rows, NONE)
        logits = encoder.token_logits(states)
    assert states.shape == (0, 32)
    assert logits.shape == (0, 280)
    # The head's part alone: the backbone is reached through the states as well.
    logits.float().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []
    assert all(not p.grad.any() for p in encoder.parameters() if p.grad is not None)
    assert torch.equal(vectors, encoder(rows)) or autocast


@pytest.mark.slow
def test_two_ranks_of_which_one_has_no_masked_token_make_the_gradients_of_one(folders):
    rows = ragged(250, LENGTHS)
    masked = [some_positions(rows).tolist(), []]
    arguments = (str(folders["bert"]), rows.ids.tolist(), LENGTHS, masked)
    alone = gradients_on_a_rank(*arguments)
    for found in run_ranks(2, "tests.helpers.masked_models", "gradients_on_a_rank", *arguments):
        assert found.keys() == alone.keys()
        for name, gradient in alone.items():
            assert gradient.any(), name
            scale = np.abs(gradient).max()
            assert np.abs(found[name] - gradient).max() <= 1e-9 * max(scale, 1.0), name


def test_positions_may_come_in_any_order_but_must_be_tokens(folders):
    encoder = Encoder(settings_of(folders["bert"]), masked_lm=True).double()
    rows = ragged(250, LENGTHS)
    positions = torch.tensor([126, 0, 7, 50, 7])
    states = encoder.with_token_states(rows, positions)[1]
    alone = [encoder.with_token_states(rows, p[None])[1] for p in positions]
    torch.testing.assert_close(states, torch.cat(alone), rtol=0, atol=1e-12)
    for wrong in (-1, rows.tokens):
        with pytest.raises(ValueError, match="not all among 127 tokens"):
            encoder.with_token_states(rows, torch.tensor([3, wrong]))


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta"])
def test_output_weights_of_their_own_stay_their_own(folders, kind, tmp_path):
    from shutil import copytree

    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = copytree(folders[kind], tmp_path / "a")
    config = AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings = False
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    encoder = Encoder(settings_of(folder), masked_lm=True)
    encoder.save(tmp_path / "b")
    rows = ragged(250, LENGTHS)
    positions = some_positions(rows)
    want = torch.cat(
        [reference(folder)(input_ids=t[None]).logits[0] for t in rows.ids.split(LENGTHS)]
    )
    for again in (
        encoder,
        through_a_checkpoint(encoder),
        Encoder.load(tmp_path / "b", masked_lm=True),
    ):
        assert not is_tied(again)
        logits = again.double().token_logits(again.with_token_states(rows, positions)[1])
        torch.testing.assert_close(logits, want[positions], rtol=0, atol=1e-9)


def test_a_bert_of_2018_is_read_by_its_old_names(folders, tmp_path):
    from shutil import copytree

    folder = copytree(folders["bert"], tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    renamed = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): v
        for k, v in tensors.items()
    }
    more = {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.seq_relationship.weight": torch.zeros(2, 32),
        "cls.seq_relationship.bias": torch.zeros(2),
        "bert.pooler.dense.weight": torch.zeros(32, 32),
        "bert.pooler.dense.bias": torch.zeros(32),
    }
    torch.save(
        {**renamed, **more}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    state = Encoder(settings_of(folder), masked_lm=True).state_dict()
    for name, value in tensors.items():
        ours = name.replace("bert.", "backbone.", 1) if name[:5] == "bert." else f"head.{name}"
        assert torch.equal(state[ours], value)


def test_half_precision_logits_are_near(folders):
    encoder = Encoder(settings_of(folders["roberta"]), masked_lm=True).eval()
    rows = ragged(250, LENGTHS)
    with torch.no_grad():
        exact = encoder.token_logits(encoder.with_token_states(rows, some_positions(rows))[1])
        with torch.autocast("cpu", torch.bfloat16):
            near = encoder.token_logits(encoder.with_token_states(rows, some_positions(rows))[1])
    assert near.dtype == torch.bfloat16
    assert 0 < (near - exact).abs().max() < 0.05


def through_a_checkpoint(encoder):
    stored = io.BytesIO()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, stored)
    stored.seek(0)
    return encoder_from_checkpoint(torch.load(stored, weights_only=True))


CHANGES = {
    "double": lambda e: e.double(),
    "to": lambda e: e.to("cpu", torch.bfloat16),
    "deepcopy": copy.deepcopy,
    "checkpoint": through_a_checkpoint,
    "state": lambda e: (e.load_state_dict({k: v + 1 for k, v in e.state_dict().items()}), e)[1],
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_the_output_weights_stay_those_of_the_embeddings(folders, kind, change):
    encoder = CHANGES[change](Encoder(settings_of(folders[kind]), masked_lm=True))
    assert is_tied(encoder)
    before = encoder.backbone.get_input_embeddings().weight
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    rows = ragged(250, LENGTHS)
    encoder.float().token_logits(
        encoder.with_token_states(rows, some_positions(rows))[1]
    ).sum().backward()
    optimizer.step()
    assert is_tied(encoder)
    assert before is encoder.backbone.get_input_embeddings().weight
    embeddings = [n for n, p in encoder.named_parameters() if p.shape[0] == 280 and p.dim() == 2]
    assert len(embeddings) == 1  # an optimiser sees the shared weight once


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_an_encoder_with_a_head_comes_back_from_its_checkpoint(folders, kind):
    encoder = Encoder(settings_of(folders[kind]), masked_lm=True).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    again = through_a_checkpoint(encoder)
    assert again.head is not None
    assert not again.training
    states = encoder.state_dict()
    assert again.state_dict().keys() == states.keys()
    assert all(torch.equal(value, states[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_saved_head_is_what_transformers_loads_whole(folders, kind, tmp_path):
    from transformers import AutoModelForMaskedLM

    encoder = Encoder(settings_of(folders[kind], dropout=0.3), masked_lm=True)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    encoder.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [f"{TYPES[kind][0]}ForMaskedLM"]
    assert 0.3 not in config.values()
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        for parameter in (original := reference(folders[kind]).float()).parameters():
            parameter.add_(0.01)
    theirs = original.state_dict()
    assert model.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_a_folder_without_a_head_gets_a_new_one_and_says_so(tiny_bert, caplog):
    torch.manual_seed(5)
    encoder = Encoder(settings_of(tiny_bert), masked_lm=True)
    said = [r.getMessage() for r in caplog.records if r.name == "sciembed_train"]
    assert len(said) == 1
    assert "has no masked-language-modelling head, so a new one is made" in said[0]
    assert is_tied(encoder)
    part = encoder.head["cls"].predictions  # type: ignore[index]
    weight = part.transform.dense.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)  # the config's initializer_range
    assert abs(weight.mean().item()) < 0.002
    assert not part.bias.any()
    assert part.decoder.bias is part.bias
    assert not part.transform.dense.bias.any()
    assert torch.equal(part.transform.LayerNorm.weight, torch.ones(32))
    plain = Encoder(settings_of(tiny_bert))
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, plain.backbone.state_dict()[name])
    torch.manual_seed(5)
    again = Encoder(settings_of(tiny_bert), masked_lm=True)
    assert torch.equal(again.head["cls"].predictions.transform.dense.weight, weight)  # type: ignore[index]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_whole_head_in_the_folder_is_used_without_a_word(folders, kind, caplog):
    Encoder(settings_of(folders[kind]), masked_lm=True)
    assert caplog.text == ""


def without(folder, to, *names):
    from shutil import copytree

    copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    gone = [key for key in tensors if any(name in key for name in names)]
    assert gone
    save_file(
        {k: v for k, v in tensors.items() if k not in gone},
        to / "model.safetensors",
        {"format": "pt"},
    )
    return to


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bert", "transform.dense.weight"),
        ("bert", "cls.predictions.bias"),
        ("roberta", "lm_head.bias"),
        ("electra", "generator_lm_head.bias"),
        ("distilbert", "vocab_layer_norm"),
    ],
)
def test_half_a_head_is_refused(folders, kind, name, tmp_path):
    folder = without(folders[kind], tmp_path / "m", name)
    with pytest.raises(UserError, match="of its masked-language-modelling head"):
        Encoder(settings_of(folder), masked_lm=True)
    Encoder(settings_of(folder))  # without a head nothing is missing


def test_a_backbone_that_lacks_a_tensor_is_refused_with_a_head_too(folders, tmp_path):
    folder = without(folders["bert"], tmp_path / "m", "layer.1.attention.self.key.weight")
    with pytest.raises(UserError, match=r"1 tensors .* not in its weights"):
        Encoder(settings_of(folder), masked_lm=True)


def test_a_type_without_a_known_head_is_refused_by_name(tiny_bert, tmp_path):
    from transformers import AutoTokenizer, ErnieConfig, ErnieModel

    config = ErnieConfig(
        vocab_size=280,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    ErnieModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"'ernie' is not known here.*without masked language"):
        Encoder(settings_of(tmp_path), masked_lm=True)


def test_a_tokenizer_without_a_mask_token_is_refused(folders, tmp_path):
    from shutil import copytree

    copytree(folders["bert"], tmp_path / "m")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = tmp_path / "m" / name
        if path.is_file():
            content = json.loads(path.read_text())
            content["mask_token"] = None
            path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"no mask token.*without masked language modelling"):
        Encoder(settings_of(tmp_path / "m"), masked_lm=True)
    Encoder(settings_of(tmp_path / "m"))


def test_an_encoder_without_a_head_gives_no_logits(tiny_bert):
    encoder = Encoder(settings_of(tiny_bert))
    assert encoder.head is None
    assert not any(key.startswith("head") for key in encoder.state_dict())
    with pytest.raises(ValueError, match="no masked-language-modelling head"):
        encoder.token_logits(torch.zeros(1, 32))


@pytest.mark.parametrize("masked_lm", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_saved_folder_is_a_backbone_for_more_training_with_the_same_weights(
    folders, kind, masked_lm, tmp_path, caplog
):
    encoder = Encoder(settings_of(folders[kind]), masked_lm=True)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    encoder.save(tmp_path)
    again = Encoder(settings_of(tmp_path), masked_lm=masked_lm)
    states = encoder.state_dict()
    kept = {k: v for k, v in states.items() if masked_lm or k.startswith("backbone.")}
    assert again.state_dict().keys() == kept.keys()
    assert all(torch.equal(value, kept[name]) for name, value in again.state_dict().items())
    assert caplog.text == ""
