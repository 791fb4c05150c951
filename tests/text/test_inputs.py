import json
import shutil
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.text import inputs
from sciembed_train.text.inputs import InputFormat, TextTokenizer, cut_at_spaces, cut_sentences


def test_the_home_folder_may_be_written_short(tiny_bert, tmp_path, monkeypatch):
    shutil.copytree(tiny_bert, tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    short = TextTokenizer.load("~/model")
    assert short.fingerprint == TextTokenizer.load(tiny_bert).fingerprint


@pytest.mark.parametrize("key", ["separator", "sentences"])
def test_a_format_that_is_not_built_is_refused_and_not_read_as_another(key, tiny_bert, tmp_path):
    Encoder.load(tiny_bert).save(tmp_path)
    record = json.loads((tmp_path / "sciembed.json").read_text())
    record["input_format"][key] = "newline"
    (tmp_path / "sciembed.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"{key} is 'newline'; expected"):
        Encoder.load(tmp_path)


REAL_PRE_TOKENIZERS = ["tiny_bert", "tiny_roberta", "minilm", "pieces_always", "pieces_first"]
# Words of letters, digits, marks, accents, contractions, emoji, scripts without spaces.
WORDS = st.text(
    st.sampled_from("abcXYZ019.,-'()[]éΣςüß½表文😀\u0301\u200b"), min_size=1, max_size=12
) | st.sampled_from(["don't", "[MASK]", "</s>", "word1", "word2", "'s", "ii."])


@pytest.mark.parametrize("fixture", REAL_PRE_TOKENIZERS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=1, max_size=40), size=st.integers(1, 30))
def test_a_text_in_parts_has_the_ids_of_the_whole(request, fixture, words, size):
    tokenizer = loaded(request.getfixturevalue(fixture))
    assert tokenizer._reads_words
    text = " ".join(words)
    parts = list(cut_at_spaces(text, size))
    assert "".join(parts) == text
    assert [word for part in parts for word in part.split(" ") if word] == words
    whole, *rest = (
        [i for e in tokenizer._plain.encode_batch(p, add_special_tokens=False) for i in e.ids]
        for p in ([text], parts)
    )
    assert rest == [whole]


def write_pieces(folder, scheme):
    """A SentencePiece tokenizer of single letters and some words, as XLM-R's is made."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "▁word", "word", "▁a", "▁don", "12"]
    vocab = [(piece, -float(i)) for i, piece in enumerate([*pieces, *"abcdortwn0123456789'[].,"])]
    backend = Tokenizer(models.Unigram(vocab, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
        "unk_token": "<unk>",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pieces_always(tmp_path_factory):
    return write_pieces(tmp_path_factory.mktemp("always"), "always")


@pytest.fixture(scope="session")
def pieces_first(tmp_path_factory):
    return write_pieces(tmp_path_factory.mktemp("first"), "first")


@cache
def loaded(folder):
    return TextTokenizer.load(folder)


@pytest.mark.parametrize("fixture", REAL_PRE_TOKENIZERS)
def test_documents_of_any_length_have_the_tokenizers_own_ids(request, fixture, monkeypatch):
    tokenizer = loaded(request.getfixturevalue(fixture))
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"word{w}" for w in rng.integers(0, 300, n)) for n in (3, 0, 400, 1, 90, 0, 700)
    ]
    expected = tokenizer.encode([f" {text}" if text else "" for text in texts])
    for part, batch in ((50, 120), (7, 1), (10**6, 10**6), (50, 10**6)):
        monkeypatch.setattr(inputs, "PART", part)
        monkeypatch.setattr(inputs, "BATCH_CHARACTERS", batch)
        assert [ids.tolist() for ids in tokenizer.encode_documents(iter(texts))] == expected
    assert list(tokenizer.encode_documents([])) == []


def test_the_first_word_of_a_document_is_read_as_everywhere_else(tiny_roberta, tiny_bert):
    first = {}
    for name, folder in (("roberta", tiny_roberta), ("bert", tiny_bert)):
        tokenizer = loaded(folder)
        (ids,) = tokenizer.encode_documents(["word1 b word1"])
        first[name] = ids.tolist()
        (spaced,) = tokenizer.encode_documents([" word1 b word1"])
        assert spaced.tolist() == ids.tolist()
        n = len(tokenizer.encode([" word1"])[0])
        assert ids[:n].tolist() == ids[-n:].tolist()
    assert first["bert"] == loaded(tiny_bert).encode(["word1 b word1"])[0]
    assert first["roberta"] != loaded(tiny_roberta).encode(["word1 b word1"])[0]


def test_a_special_token_written_in_a_document_is_plain_text(tiny_bert, minilm):
    for folder in (tiny_bert, minilm):
        tokenizer = loaded(folder)
        (ids,) = tokenizer.encode_documents(["a [MASK] b [SEP] c"])
        assert not set(ids.tolist()) & {tokenizer.mask_id, *tokenizer.prefix, *tokenizer.suffix}
        # A paper's text still takes the separator from its composed text.
        assert tokenizer.encode(["a [SEP] c"])[0][1] == tokenizer.suffix[0]


def test_a_tokenizer_that_reads_across_spaces_gets_a_document_whole(tiny_bert, tmp_path):
    made = json.loads((tiny_bert / "tokenizer.json").read_text())
    token = {"content": "new york", "single_word": False, "lstrip": False, "rstrip": False}
    token |= {"id": len(made["model"]["vocab"]), "normalized": False, "special": False}
    for change in (
        {"added_tokens": [*made["added_tokens"], token]},
        {"pre_tokenizer": None},
        {
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": "▁",
                "prepend_scheme": "first",
                "split": False,
            }
        },
        {"normalizer": {"type": "Prepend", "prepend": "_"}, "pre_tokenizer": METASPACE},
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tiny_bert, folder)
        (folder / "tokenizer.json").write_text(json.dumps(made | change))
        tokenizer = TextTokenizer.load(folder)
        assert not tokenizer._reads_words
        (ids,) = tokenizer.encode_documents(["word1 " * 30000])
        assert len(ids)
    (folder / "tokenizer.json").write_text(json.dumps(made | {"pre_tokenizer": METASPACE}))
    assert TextTokenizer.load(folder)._reads_words


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def test_the_key_of_documents_is_the_tokenizers_alone(tiny_bert, tiny_roberta):
    keys = {loaded(f).document_key for f in (tiny_bert, tiny_roberta)}
    assert len(keys) == 2
    assert loaded(tiny_bert).document_key == TextTokenizer.load(tiny_bert).document_key
    assert loaded(tiny_bert).key(inputs.InputFormat()) not in keys


@pytest.mark.parametrize("form", [InputFormat(), InputFormat("space", "sep", "[PRX]")])
@pytest.mark.parametrize("fixture", REAL_PRE_TOKENIZERS[:2])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=WORDS | st.just(""), sentences=st.lists(st.lists(WORDS, max_size=4), max_size=5))
def test_the_tokens_of_a_sentence_are_those_that_spell_it(
    fixture, input_format, title, sentences, request
):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    abstract = [" ".join(words) for words in sentences]
    text, spans = input_format.compose_sentences(title, abstract, tokenizer.sep_token)
    assert text == input_format.compose(title, abstract, tokenizer.sep_token)
    assert [text[a:b] for a, b in spans] == [s.strip() for s in abstract if s.strip()]
    (found,) = tokenizer.encode_sentences([text], [spans])
    assert found.ids == tokenizer.encode([text])[0]
    offsets = tokenizer.backend.encode(text, add_special_tokens=False).offsets
    wanted = []
    for first, last in spans:
        inside = [t for t, (_, end) in enumerate(offsets) if first < end <= last]
        if inside:
            assert inside == list(range(inside[0], inside[-1] + 1))
            wanted.append((inside[0], len(inside)))
    assert list(zip(found.starts, found.lengths, strict=True)) == wanted


def test_a_cut_text_loses_its_last_sentences_and_a_bare_title_is_one():
    # Four texts of 9, 4, 7 and 12 tokens: three sentences, none, one behind the cut, two.
    starts, lengths, counts = cut_sentences(
        np.array([1, 4, 6, 6, 2, 5]),
        np.array([3, 2, 3, 1, 3, 7]),
        np.array([3, 0, 1, 2]),
        np.array([9, 4, 7, 12]),
        room=6,
    )
    assert counts.tolist() == [2, 1, 1, 2]
    assert starts.tolist() == [1, 4, 0, 0, 2, 5]
    assert lengths.tolist() == [3, 2, 4, 6, 3, 1]
