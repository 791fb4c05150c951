import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.text import tokenizer as tokenizer_module
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.text.truncation import Truncation
from tests.helpers.tokenizers import TOKENIZERS, WORDS, load_once


def test_the_home_folder_may_be_written_short(tiny_bert, tmp_path, monkeypatch):
    shutil.copytree(tiny_bert, tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    short = TextTokenizer.load("~/model")
    assert short.fingerprint == TextTokenizer.load(tiny_bert).fingerprint


@pytest.mark.parametrize("fixture", TOKENIZERS)
def test_documents_of_any_length_have_the_tokenizers_own_ids(request, fixture, monkeypatch):
    tokenizer = load_once(request.getfixturevalue(fixture))
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"word{w}" for w in rng.integers(0, 300, n)) for n in (3, 0, 400, 1, 90, 0, 700)
    ]
    expected = tokenizer.encode([f" {text}" if text else "" for text in texts])
    for part, batch in ((50, 120), (7, 1), (10**6, 10**6), (50, 10**6)):
        monkeypatch.setattr(tokenizer_module, "PART", part)
        monkeypatch.setattr(tokenizer_module, "BATCH_CHARACTERS", batch)
        assert [ids.tolist() for ids in tokenizer.encode_documents(iter(texts))] == expected
    assert list(tokenizer.encode_documents([])) == []


def test_the_first_word_of_a_document_is_read_as_everywhere_else(tiny_roberta, tiny_bert):
    first = {}
    for name, folder in (("roberta", tiny_roberta), ("bert", tiny_bert)):
        tokenizer = load_once(folder)
        (ids,) = tokenizer.encode_documents(["word1 b word1"])
        first[name] = ids.tolist()
        (spaced,) = tokenizer.encode_documents([" word1 b word1"])
        assert spaced.tolist() == ids.tolist()
        n = len(tokenizer.encode([" word1"])[0])
        assert ids[:n].tolist() == ids[-n:].tolist()
    assert first["bert"] == load_once(tiny_bert).encode(["word1 b word1"])[0]
    assert first["roberta"] != load_once(tiny_roberta).encode(["word1 b word1"])[0]


def test_a_special_token_written_in_a_document_is_plain_text(tiny_bert, minilm):
    for folder in (tiny_bert, minilm):
        tokenizer = load_once(folder)
        (ids,) = tokenizer.encode_documents(["a [MASK] b [SEP] c"])
        assert not set(ids.tolist()) & {tokenizer.mask_id, *tokenizer.prefix, *tokenizer.suffix}
        # A paper's text still takes the separator from its composed text.
        assert tokenizer.encode(["a [SEP] c"])[0][1] == tokenizer.suffix[0]


def test_the_key_of_documents_is_the_tokenizers_alone(tiny_bert, tiny_roberta):
    keys = {load_once(f).document_key for f in (tiny_bert, tiny_roberta)}
    assert len(keys) == 2
    assert load_once(tiny_bert).document_key == TextTokenizer.load(tiny_bert).document_key
    assert load_once(tiny_bert).key(InputFormat()) not in keys


@pytest.mark.parametrize(
    "input_format", [InputFormat(cleaning="none"), InputFormat("space", "sep", "[PRX]", "none")]
)
@pytest.mark.parametrize("fixture", TOKENIZERS[:2])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(title=WORDS | st.just(""), sentences=st.lists(st.lists(WORDS, max_size=4), max_size=5))
def test_the_tokens_of_a_sentence_are_those_that_spell_it(
    fixture, input_format, title, sentences, request
):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    abstract = [" ".join(words) for words in sentences]
    text, spans = input_format.compose_sentences(title, abstract, tokenizer.sep_token)
    assert text == input_format.compose(title, abstract, tokenizer.sep_token)
    assert [text[a:b] for a, b in spans] == [s.strip() for s in abstract if s.strip()]
    (body,) = tokenizer.encode_sentences([text], [spans])
    assert body.ids == tokenizer.encode([text])[0]
    offsets = tokenizer.backend.encode(text, add_special_tokens=False).offsets
    expected = []
    for first, last in spans:
        inside = [t for t, (_, end) in enumerate(offsets) if first < end <= last]
        if inside:
            assert inside == list(range(inside[0], inside[-1] + 1))
            expected.append((inside[0], len(inside)))
    assert list(zip(body.starts, body.lengths, strict=True)) == expected


def test_a_tokenizer_that_reads_across_spaces_gets_a_document_whole(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    contents = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(contents | {"pre_tokenizer": None}))
    # transformers 5 makes the parts of a BertTokenizer itself.
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = TextTokenizer.load(folder)
    assert not tokenizer._splits_at_spaces
    (ids,) = tokenizer.encode_documents(["word1 " * 30000])
    assert len(ids)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no tokenizer; expected one of tokenizer\.json"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="No tokenizer could be loaded from"):
        TextTokenizer.load(tmp_path)


def test_rows_are_truncated_within_their_special_tokens(tiny_bert):
    tokenizer = load_once(tiny_bert)
    (ids,) = tokenizer.encode(["word1 word2 word1"])
    assert tokenizer.rows(["word1 word2 word1"], 4) == [
        [*tokenizer.prefix, *ids[:2], *tokenizer.suffix]
    ]


def test_a_decoders_tokenizer_ends_each_text_as_it_does_itself(tiny_qwen3):
    from transformers import AutoTokenizer

    tokenizer, own = load_once(tiny_qwen3), AutoTokenizer.from_pretrained(tiny_qwen3)
    (end,) = tokenizer.suffix
    assert (own.decode([end]), tokenizer.prefix) == ("<|endoftext|>", ())
    texts = ["word1 word2 word3", "a"]
    # One that is cut ends so as well, and nothing is padded on the left, as it would itself.
    own.padding_side = "right"
    assert tokenizer.rows(texts, 6) == own(texts, truncation=True, max_length=6)["input_ids"]
    assert [ids[-1] for ids in tokenizer.rows(texts, 6)] == [end, end]
    assert [len(ids) for ids in tokenizer.rows(texts, 6)] == [6, 2]


def test_without_a_separator_token_there_is_a_line_break(tiny_qwen3):
    tokenizer = load_once(tiny_qwen3)
    assert tokenizer.sep_token == "\n"
    text = InputFormat().compose("A title", "An abstract.", tokenizer.sep_token)
    assert text == "A title\nAn abstract."
    assert tokenizer.backend.decode(tokenizer.encode([text])[0]) == text


def test_a_tokenizer_without_a_padding_token_is_refused(tiny_qwen3, tmp_path):
    folder = shutil.copytree(tiny_qwen3, tmp_path / "model")
    for path in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        if path.exists():  # transformers 5 writes the first alone
            content = json.loads(path.read_text())
            path.write_text(json.dumps(content | {"pad_token": None}))
    with pytest.raises(UserError, match=r"has no pad_token, .* such as its eos_token"):
        TextTokenizer.load(folder)


@pytest.mark.parametrize("fixture", ["tiny_bert", "tiny_roberta"])
@given(
    words=st.lists(
        st.sampled_from(["word1", "word2", "x" * 30, "é", "[MASK]", "<mask>", "  ", "\t", "a-b"]),
        max_size=120,
    ),
    most=st.integers(1, 40),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_tokens_of_a_very_long_text_are_those_of_the_whole(fixture, words, most, request):
    tokenizer = load_once(request.getfixturevalue(fixture))
    text = " ".join(words)
    max_length = most + len(tokenizer.prefix) + len(tokenizer.suffix)
    expected = tokenizer.rows([text, "word1"], max_length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciembed_train.text.tokenizer.LONG", 20)
        patch.setattr("sciembed_train.text.tokenizer.PART", 5)
        counted = Truncation()
        assert tokenizer.rows([text, "word1"], max_length, counted) == expected
    assert counted.estimated == (len(text) > 20)
    if not counted.estimated:
        assert counted.cut == sum(len(ids) > most for ids in tokenizer.encode([text, "word1"]))


def test_of_a_very_long_text_only_the_beginning_is_tokenised(tiny_bert, monkeypatch):
    tokenizer, lengths = load_once(tiny_bert), []
    encode = tokenizer.encode
    monkeypatch.setattr(
        tokenizer, "encode", lambda texts: lengths.extend(map(len, texts)) or encode(texts)
    )
    text = "word1 word2 " * 200_000 + " " * 300_000
    assert len(tokenizer.rows([text, " " * 300_000 + "word1 word2"], 128)[0]) == 128
    assert lengths[0] <= 2**16 + 10
    counted = Truncation()
    tokenizer.rows([text], 128, counted)
    assert "about 100.0% of all tokens are not read" in counted.line(128)
