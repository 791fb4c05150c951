import json
import logging
import shutil

import pytest

from sciembed_train.errors import UserError
from sciembed_train.safety.tokenizer_files import copy_clean
from sciembed_train.text.tokenizer import TextTokenizer


def copied(folder, tmp_path):
    target = tmp_path / "clean"
    target.mkdir()
    copy_clean(folder, target)
    return {
        path.name: json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()
        for path in target.iterdir()
    }


def changed(tiny, tmp_path, name, **entries):
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    path = folder / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **entries}))
    return folder


def test_a_tokenizer_as_its_library_writes_it_is_copied_whole(tiny_bert, tmp_path, caplog):
    files = copied(tiny_bert, tmp_path)
    assert not caplog.records
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tiny_bert / name).is_file():
            own = json.loads((tiny_bert / name).read_text())
            assert {k: own[k] for k in files[name]} == files[name]
    assert files["config.json"] == {"model_type": "bert"}
    assert "model.safetensors" not in files


def test_a_tokenizer_reads_from_where_it_lay(tiny_roberta):
    tokenizer = TextTokenizer.load(tiny_roberta)
    assert tokenizer.hf.name_or_path == str(tiny_roberta)


@pytest.mark.parametrize(
    "entries",
    [
        {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}},
        {"gguf_file": "x.gguf"},
        {"trust_remote_code": True},
        {"deep": [{"auto_map": {}}]},
    ],
    ids=lambda entries: next(iter(entries)),
)
@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "config.json"]
)
def test_what_asks_for_code_is_refused_in_every_file(name, entries, tiny_bert, tmp_path):
    folder = changed(tiny_bert, tmp_path, name, **entries)
    with pytest.raises(UserError, match=rf"{name}: the key `.*so the model is refused"):
        TextTokenizer.load(folder)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"tokenizer_class": "RagTokenizer"}, "one of AlbertTokenizer"),
        ({"tokenizer_class": "os.system"}, "one of AlbertTokenizer"),
        ({"cls_token": {"content": "[CLS]", "hook": "x"}}, "a token"),
        ({"cls_token": 7}, "a token"),
        ({"added_tokens_decoder": {"0": {"no": "content"}}}, "a token"),
        ({"model_max_length": "long"}, "a number"),
        ({"do_lower_case": "maybe"}, "true or false"),
        ({"padding_side": "both"}, "left, right"),
    ],
)
def test_an_entry_that_no_tokenizer_has_is_a_message(entries, expected, tiny_bert, tmp_path):
    folder = changed(tiny_bert, tmp_path, "tokenizer_config.json", **entries)
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: `.*; expected .*{expected}"):
        TextTokenizer.load(folder)


def test_unknown_entries_are_left_out_and_named(tiny_bert, tmp_path, caplog):
    folder = changed(tiny_bert, tmp_path, "tokenizer_config.json", mystery=1, chat_template="{{x}}")
    with caplog.at_level(logging.WARNING):
        files = copied(folder, tmp_path)
    assert not {"mystery", "chat_template"} & set(files["tokenizer_config.json"])
    assert "left out `mystery`: not among" in caplog.text


def test_added_tokens_are_ids_by_name(tiny_bert, tmp_path):
    folder = changed(tiny_bert, tmp_path, "added_tokens.json", **{"[NEW]": "x"})
    with pytest.raises(UserError, match="an object of tokens and their ids"):
        TextTokenizer.load(folder)
