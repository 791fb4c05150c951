"""Adapters on disk: AdapterHub's own layout, for its users and from them."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sciembed_train.encoder.adapters.adapter_files import (
    CONFIG,
    PICKLED,
    SAFE,
    find_adapter,
    load_adapter,
    save_adapter,
)
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings, configuration
from sciembed_train.encoder.adapters.format_adapters import FormatAdapters
from sciembed_train.errors import UserError
from tests.helpers.adapter_models import WIDE, adapted, library_padded, ragged

FINGERPRINT = "a hash of a base"

adapters_library = pytest.importorskip("adapters")


@pytest.fixture(scope="module")
def saved(tiny_bert, tmp_path_factory):
    """A folder with two saved adapters, and the model they come from."""
    backbone, _ = adapted(tiny_bert, "float32")
    folder = tmp_path_factory.mktemp("saved")
    for code in ("[PRX]", "[CLF]"):
        save_adapter(backbone, code, folder / code, "a/base", FINGERPRINT)
    return folder, backbone


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of one adapter, to be damaged."""
    return shutil.copytree(saved[0] / "[PRX]", tmp_path / "copied")


def plain(folder):
    """A base prepared by the library alone."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(folder)).eval()
    adapters_library.init(model)
    return model


def vectors(backbone, code):
    with torch.no_grad():
        setup = adapters_library.AdapterSetup(code)
        return torch.cat(library_padded(backbone, ragged([5, 9]), setup))


@pytest.mark.parametrize("safe", [False, True])
def test_the_library_loads_what_was_saved(saved, tiny_bert, safe):
    folder, backbone = saved
    model = plain(tiny_bert)
    name = model.load_adapter(str(folder / "[PRX]"), use_safetensors=safe, set_active=True)
    assert name == "[PRX]"
    assert torch.equal(vectors(model, "[PRX]"), vectors(backbone, "[PRX]"))


def test_the_library_s_model_with_heads_loads_it_too(saved, tiny_bert):
    folder, backbone = saved
    model = adapters_library.AutoAdapterModel.from_pretrained(str(tiny_bert)).eval()
    model.load_adapter(str(folder / "[CLF]"), load_as="mine", set_active=True)
    with torch.no_grad():
        rows = ragged([5])
        found = model(input_ids=rows.ids[None]).last_hidden_state[0]
        want = library_padded(backbone, rows, adapters_library.AdapterSetup("[CLF]"))[0]
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_a_folder_has_the_published_files_and_names(saved):
    folder = saved[0] / "[PRX]"
    assert sorted(p.name for p in folder.iterdir()) == sorted([CONFIG, SAFE, PICKLED])
    state = load_file(folder / SAFE)
    start = "encoder.layer.1.output.adapters.[PRX]."
    assert {k: tuple(v.shape) for k, v in state.items() if k.startswith(start)} == {
        f"{start}adapter_down.0.weight": (8, 32),
        f"{start}adapter_down.0.bias": (8,),
        f"{start}adapter_up.weight": (32, 8),
        f"{start}adapter_up.bias": (32,),
    }
    assert len(state) == 8
    pickled = torch.load(folder / PICKLED, weights_only=True)
    assert {k: v.tolist() for k, v in pickled.items()} == {k: v.tolist() for k, v in state.items()}
    config = json.loads((folder / CONFIG).read_text())
    assert config["name"] == "[PRX]"
    assert config["model_name"] == "a/base"
    assert config["model_type"] == "bert"
    assert config["hidden_size"] == 32
    assert config["config"]["reduction_factor"] == 4
    assert config["base_fingerprint"] == FINGERPRINT


@pytest.mark.parametrize("kept", [SAFE, PICKLED])
def test_a_saved_adapter_is_where_training_begins(saved, tiny_bert, copied, kept):
    _, backbone = saved
    (copied / ({SAFE, PICKLED} - {kept}).pop()).unlink()
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(tiny_bert)).eval()
    start = {"adhoc_query": str(copied)}
    change(copied, base_fingerprint=None)
    made = FormatAdapters(model, AdapterSettings(config=WIDE, start=start), str(tiny_bert))
    # Saved as [PRX], loaded as [QRY].
    assert torch.equal(vectors(model, "[QRY]"), vectors(backbone, "[PRX]"))
    assert not torch.equal(vectors(model, "[PRX]"), vectors(backbone, "[PRX]"))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == made.tensor_names
    assert len(made.tensor_names) == 4 * 8


def test_an_adapter_of_a_model_with_heads_is_read(saved, tiny_bert, tmp_path):
    folder, backbone = saved
    model = adapters_library.AutoAdapterModel.from_pretrained(str(tiny_bert)).eval()
    model.load_adapter(str(folder / "[CLF]"), load_as="mine")
    model.save_adapter(str(tmp_path / "mine"), "mine")
    assert all(k.startswith("bert.") for k in torch.load(tmp_path / "mine" / PICKLED))
    again = plain(tiny_bert)
    wanted = configuration(AdapterSettings(config=WIDE))
    load_adapter(again, "[RGN]", str(tmp_path / "mine"), wanted, "")
    assert torch.equal(vectors(again, "[RGN]"), vectors(backbone, "[CLF]"))


def load(folder, tiny_bert, config=WIDE):
    wanted = configuration(AdapterSettings(config=config))
    load_adapter(plain(tiny_bert), "[PRX]", str(folder), wanted, FINGERPRINT)


def change(folder, **entries):
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**content, **entries}))


def test_an_adapter_for_another_backbone_is_refused(copied, tiny_bert, tiny_roberta):
    with pytest.raises(UserError, match="model_type 'bert', and this one has 'roberta'"):
        load(copied, tiny_roberta)
    change(copied, hidden_size=768)
    with pytest.raises(UserError, match=r"hidden_size 768, and this one has 32"):
        load(copied, tiny_bert)


def test_an_adapter_of_another_base_s_weights_is_refused(copied, tiny_bert):
    change(copied, base_fingerprint="another")
    with pytest.raises(UserError, match="trained in a/base, whose weights are other ones"):
        load(copied, tiny_bert)
    change(copied, base_fingerprint=None)
    load(copied, tiny_bert)


def test_an_adapter_of_another_kind_is_refused(copied, tiny_bert):
    with pytest.raises(UserError, match=r"reduction_factor 4, expected 16"):
        load(copied, tiny_bert, "seq_bn")
    with pytest.raises(UserError, match=r"another kind .* mh_adapter False, expected True"):
        load(copied, tiny_bert, f"double_{WIDE}")
    change(copied, config={"architecture": "unheard of"})
    with pytest.raises(UserError, match="none that the library knows"):
        load(copied, tiny_bert)


class Code:
    """What a pickle of more than tensors may hold."""

    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("what", [Code(), [torch.zeros(2)], {"a": 1}])
def test_a_bin_file_of_more_than_tensors_is_refused(copied, tiny_bert, what, capsys):
    (copied / SAFE).unlink()
    torch.save(what, copied / PICKLED)
    with pytest.raises(UserError, match=r"pytorch_adapter\.bin: (is no file of|holds no) tensors"):
        load(copied, tiny_bert)
    assert "run" not in capsys.readouterr().out


def test_damaged_files_are_refused(copied, tiny_bert):
    whole = (copied / SAFE).read_bytes()
    (copied / SAFE).write_bytes(whole[:100])
    with pytest.raises(UserError, match="is damaged"):
        load(copied, tiny_bert)
    (copied / SAFE).unlink()
    (copied / PICKLED).write_bytes(pickle.dumps("text", 2)[:5])
    with pytest.raises(UserError, match="is damaged"):
        load(copied, tiny_bert)
    (copied / PICKLED).unlink()
    with pytest.raises(UserError, match="holds neither"):
        load(copied, tiny_bert)
    (copied / CONFIG).write_text('{"peft_type": "LORA"}')
    with pytest.raises(UserError, match="no adapter of the AdapterHub library"):
        load(copied, tiny_bert)
    (copied / CONFIG).unlink()
    with pytest.raises(UserError, match=r"holds no adapter_config\.json"):
        load(copied, tiny_bert)


def test_weights_that_are_not_all_or_not_only_the_adapter_s_are_refused(copied, tiny_bert):
    state = load_file(copied / SAFE)
    key = "encoder.layer.1.output.adapters.[PRX].adapter_up.bias"
    save_file({k: v for k, v in state.items() if k != key}, copied / SAFE)
    with pytest.raises(UserError, match="1 tensors of the adapter are not in its file, and 0"):
        load(copied, tiny_bert)
    more = key.replace("layer.1", "layer.2")
    save_file({**state, more: state[key].clone()}, copied / SAFE)
    with pytest.raises(UserError, match=r"0 tensors .* and 1 in the file"):
        load(copied, tiny_bert)
    save_file({**state, key: torch.zeros(33)}, copied / SAFE)
    with pytest.raises(UserError, match="do not fit its configuration"):
        load(copied, tiny_bert)


def test_a_place_that_is_nowhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such folder"):
        find_adapter("someone/no-such-adapter")


def test_an_adapter_that_is_nowhere_is_told_as_such_where_training_begins(tiny_bert, tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(tiny_bert))
    settings = AdapterSettings(config=WIDE, start={"proximity": f"{tmp_path}/gone/[PRX]"})
    with pytest.raises(UserError) as refused:
        FormatAdapters(model, settings, "a/base")
    assert str(refused.value).startswith(f"{tmp_path}/gone/[PRX]: there is no such folder")
