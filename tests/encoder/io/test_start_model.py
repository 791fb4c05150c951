"""What a start's own files say, and who wins: the user, the start, or the recipe."""

import itertools
import json
import shutil

import pytest

from sciembed_train.encoder.io.start_model import (
    StartConventions,
    published_start,
    read_start,
    resolve,
)
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat

RECIPE = EncoderSettings("start", "cls", 300).as_dict()
START = StartConventions(
    "start",
    pooling="mean",
    normalize=True,
    max_length=256,
    similarity="cosine",
    input_format=InputFormat(separator="space"),
    sources=dict.fromkeys(("pooling", "normalize", "max_length", "input_format"), "a.json")
    | {"similarity": "b.json"},
)
KEYS = {
    "pooling": "mean",
    "normalize": True,
    "max_length": 256,
    "input_format": {
        "separator": "space",
        "sentences": "joined",
        "control_code": "",
        "cleaning": "markup",
        "prompt": "",
        "title_prompt": "",
    },
}


@pytest.fixture
def library_folder(tiny_bert, tmp_path):
    """Writes a folder of sentence-transformers."""

    def write(pooling="mean", kinds=("Normalize",), max_length=77, **about):
        number = len(list(tmp_path.iterdir()))
        folder = shutil.copytree(tiny_bert, tmp_path / f"start{number}")
        names = ["Transformer", "Pooling", *kinds]
        modules = [
            {"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(names)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        mode = json.dumps({"pooling_mode": pooling})
        (folder / "1_Pooling/config.json").write_text(mode)
        length = json.dumps({"max_seq_length": max_length})
        (folder / "sentence_bert_config.json").write_text(length)
        (folder / "config_sentence_transformers.json").write_text(json.dumps(about))
        return folder

    return write


@pytest.mark.parametrize(
    "own", [c for n in range(len(KEYS) + 1) for c in itertools.combinations(KEYS, n)]
)
def test_the_start_decides_what_the_user_did_not_set(own):
    found = resolve(RECIPE, own, START)
    assert found.settings == {key: value for key, value in KEYS.items() if key not in own}
    assert len(found.warnings) == len(own)
    for key, warning in zip(own, sorted(found.warnings, key=_place(own)), strict=True):
        assert f"encoder.{key}" in warning
        assert "your setting" in warning
    assert "compared by cosine (b.json)" in found.line
    assert ("pooling mean (a.json, instead of the recipe's cls)" in found.line) == (
        "pooling" not in own
    )


def _place(own):
    return lambda text: next(at for at, key in enumerate(own) if f"encoder.{key}" in text)


def test_one_entry_of_the_input_format_may_be_the_users():
    found = resolve(RECIPE, ["input_format.separator"], START)
    assert "input_format" not in found.settings
    assert any("input_format.separator is 'sep', by your setting" in w for w in found.warnings)


def test_a_value_that_agrees_with_the_start_gives_no_warning():
    agreeing = {**RECIPE, **KEYS}
    assert resolve(agreeing, list(KEYS), START).warnings == ()
    assert resolve(agreeing, [], START).settings == {}


def test_the_kind_of_vectors_is_the_methods():
    found = resolve({**RECIPE, "pooling": "sentences"}, [], START)
    assert found.settings == {"max_length": 256}
    assert any("encoder.pooling is sentences, by what the method" in w for w in found.warnings)
    assert any("encoder.normalize is false, by what the method" in w for w in found.warnings)


def test_adapters_keep_a_pooling_that_fits_them():
    mixed = StartConventions("start", pooling="mix", sources={"pooling": "sciembed.json"})
    found = resolve({**RECIPE, "adapters": {"formats": ["proximity"]}}, [], mixed)
    assert found.settings == {}
    assert "encoder.pooling is cls" in found.warnings[0]


def test_a_plain_folder_says_nothing(tiny_bert):
    start = read_start(tiny_bert)
    assert start.empty
    found = resolve(RECIPE, [], start)
    assert (found.settings, found.warnings) == ({}, ())
    assert "records no pooling and no length: pooling cls, at most 300 tokens" in found.line


def test_the_real_sentence_encoder(minilm):
    start = read_start(minilm)
    assert (start.pooling, start.normalize, start.max_length) == ("mean", True, 256)
    assert (start.similarity, start.input_format, start.prompts) == ("cosine", None, {})
    assert start.sources == {
        "pooling": "1_Pooling/config.json",
        "normalize": "modules.json",
        "max_length": "sentence_bert_config.json",
        "similarity": "modules.json",
    }


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kinds", [(), ("Normalize",)])
def test_a_folder_of_the_library(library_folder, pooling, kinds):
    start = read_start(library_folder(pooling, kinds, prompts={"query": "q: "}))
    assert (start.pooling, start.normalize, start.max_length) == (pooling, bool(kinds), 77)
    assert start.prompts == {"query": "q: "}
    found = resolve(RECIPE, [], start)
    assert found.settings["prompts"] == {"query": "q: "}
    assert "prompts query (config_sentence_transformers.json)" in found.line
    assert "input_format" not in found.settings  # papers have none
    assert "prompts" not in resolve(RECIPE, ["prompts"], start).settings


def test_a_decoder_is_started_from_as_it_is_published(tiny_qwen3):
    start = read_start(tiny_qwen3)
    assert (start.pooling, start.normalize, start.similarity) == ("last", True, "cosine")
    assert start.sources["pooling"] == "1_Pooling/config.json"
    found = resolve(RECIPE, [], start)
    assert (found.settings["pooling"], found.settings["max_length"]) == ("last", 512)
    assert found.settings["prompts"]["query"].startswith("Instruct: Given a web search query")
    assert "input_format" not in found.settings  # the prompt of documents is empty


def test_papers_are_trained_behind_the_prompt_of_documents(library_folder):
    start = read_start(library_folder(prompts={"query": "q: ", "passage": "p: "}))
    found = resolve(RECIPE, [], start)
    assert found.settings["input_format"] == {**RECIPE["input_format"], "prompt": "p: "}
    assert "prompt 'p: ' (config_sentence_transformers.json" in found.line
    left_out = resolve(RECIPE, ["input_format.prompt"], start)
    assert "input_format" not in left_out.settings
    assert any("encoder.input_format.prompt is ''" in warning for warning in left_out.warnings)
    # A method of sentences has an input format of its own.
    assert "input_format" not in resolve({**RECIPE, "pooling": "sentences"}, [], start).settings


def test_titles_may_have_the_prompt_of_queries_by_its_name(library_folder):
    start = read_start(library_folder(prompts={"query": "q: ", "passage": "p: "}))
    named = {**RECIPE, "input_format": {**RECIPE["input_format"], "title_prompt": "query"}}
    found = resolve(named, ["input_format.title_prompt"], start)
    assert found.settings["input_format"] == {
        **RECIPE["input_format"],
        **{"title_prompt": "q: ", "prompt": "p: "},
    }
    # Where nothing else of the format is the start's, and where the prompts are the user's.
    plain = read_start(library_folder(prompts={"query": "q: "}))
    found = resolve(named, ["input_format.title_prompt"], plain)
    assert found.settings["input_format"] == {**RECIPE["input_format"], "title_prompt": "q: "}
    own = {**named, "prompts": {"query": "search: "}}
    found = resolve(own, ["prompts"], plain)
    assert found.settings["input_format"]["title_prompt"] == "search: "
    text = {**RECIPE, "input_format": {**RECIPE["input_format"], "title_prompt": "search: "}}
    assert "input_format" not in resolve(text, [], plain).settings
    with pytest.raises(UserError, match=r"title_prompt is 'query', but .* has no prompts"):
        resolve(named, [], read_start(library_folder()))


def test_more_than_512_tokens_must_be_set(library_folder):
    start = read_start(library_folder(max_length=8192))
    assert start.max_length == 8192
    assert resolve(RECIPE, [], start).settings["max_length"] == 512
    assert (
        "max_length" not in resolve({**RECIPE, "max_length": 1024}, ["max_length"], start).settings
    )


@pytest.mark.parametrize("pooling", ["max", "weightedmean"])
def test_a_pooling_that_is_not_built_is_refused_unless_the_user_names_one(library_folder, pooling):
    folder = library_folder(pooling)
    with pytest.raises(UserError, match=rf"pools by {pooling}; this project has cls and mean"):
        read_start(folder)
    assert read_start(folder, "mean").pooling == "mean"


def test_a_dense_layer_is_not_lost_in_silence(library_folder):
    folder = library_folder(kinds=("Dense", "Normalize"))
    for pooling in (None, "mean"):
        with pytest.raises(UserError, match="is a layer with bias or activation"):
            read_start(folder, pooling)


@pytest.mark.parametrize(
    "file",
    [
        *("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"),
        *("config_sentence_transformers.json", "sciembed.json"),
    ],
)
def test_a_malformed_file_is_named(library_folder, file):
    folder = library_folder()
    (folder / file).write_text("{")
    with pytest.raises(UserError, match=f"{file}: is not valid JSON"):
        read_start(folder)


@pytest.mark.parametrize(
    ("name", "pooling", "separator"),
    [
        ("allenai/specter", "cls", "sep"),
        ("/cache/models--allenai--specter2_base/snapshots/1", "cls", "sep"),
        ("johngiorgi/declutr-sci-base", "mean", "space"),
        ("malteos/scincl", "cls", "sep"),
        ("allenai/aspire-sentence-embedder", "cls", "sep"),
        ("allenai/aspire-biencoder-biomed-spec", "cls", "sep"),
        ("allenai/specter2_aug2023refresh_base", "cls", "sep"),
    ],
)
def test_published_models_are_known_by_name(name, pooling, separator):
    start = published_start(name)
    assert start.by_name
    assert start.pooling == pooling
    assert start.input_format.separator == separator
    found = resolve({**RECIPE, "pooling": "mix"}, [], start)
    assert found.settings["pooling"] == pooling
    assert "known of" in found.line


def test_a_language_model_has_nothing_to_keep():
    start = published_start("allenai/scibert_scivocab_uncased")
    assert start.empty
    found = resolve(RECIPE, [], start)
    assert found.settings == {}
    assert "is SciBERT, a language model: pooling cls" in found.line
    assert published_start("me/my-specter-like") is None
