import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import PlainModel, model_vectors
from sciembed_train.evaluation.cached_embedding import model_identity
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.sentence_model import SentenceModel
from sciembed_train.evaluation.systems import Model, Search
from sciembed_train.inference.embedding import embed_texts
from sciembed_train.inference.options import EmbedSettings, ScoreSettings

CPU = EmbedSettings(device="cpu")
# Of unlike lengths, so that a text's neighbours in a micro-batch change with its chunk.
TEXTS = [(f"word{i} word{3 * i}", f"word{i} " * (i % 7)) for i in range(90)]
TEXTS += [TEXTS[5], ("", ""), ("word3", ["word4", "word5"]), (None, None), TEXTS[88]]


@pytest.fixture
def given(monkeypatch):
    """The token rows that encoders are given, one list of ids a text."""
    seen = []
    encode = Encoder.encode_tokens

    def watched(self, rows, *args, **kwargs):
        seen.extend(tuple(ids.tolist()) for ids in rows.ids.split(rows.lengths.tolist()))
        return encode(self, rows, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_tokens", watched)
    return seen


def opened(folder, root, **settings):
    settings = EmbedSettings(device="cpu", batch_tokens=64, **settings)
    return Model(str(folder), settings, quiet=True, cache=root)


def vectors(model, texts=TEXTS, done=None):
    return model.vectors(iter(texts), len(texts), model.settings, done)


def folders(root):
    return {path.name for path in root.iterdir()}


def test_the_first_run_embeds_each_text_once_and_the_second_none(tiny_bert, tmp_path, given):
    reported = []
    first = vectors(opened(tiny_bert, tmp_path), done=reported.append)
    assert len(given) == len(set(given)) == 92  # two are there twice, and two are empty
    assert sum(reported) == len(TEXTS)
    given.clear()
    second = vectors(opened(tiny_bert, tmp_path), done=reported.append)
    assert given == []
    assert sum(reported) == 2 * len(TEXTS)
    np.testing.assert_array_equal(second, first)
    for copy, one in ((90, 5), (93, 91), (94, 88)):
        np.testing.assert_array_equal(first[copy], first[one])
    plain = Model(str(tiny_bert), CPU, quiet=True)
    np.testing.assert_allclose(first, vectors(plain), atol=1e-6)


def test_ten_thousand_texts_with_many_copies(tiny_bert, tmp_path, given):
    numbers = np.random.default_rng(0).integers(150, size=10_000)
    texts = [(f"word{number}", None) for number in numbers]
    found = vectors(opened(tiny_bert, tmp_path), texts)
    assert len(given) == len(set(given)) == 150
    distinct, places = np.unique(numbers, return_index=True)
    np.testing.assert_array_equal(found, found[places[np.searchsorted(distinct, numbers)]])
    plain = embed_texts(Encoder.load(tiny_bert), [texts[place] for place in places], 150, CPU)
    np.testing.assert_allclose(found[places], plain, atol=1e-6)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_a_ranking_is_the_same_bit_for_bit_from_the_cache(tiny_bert, tmp_path, given, similarity):
    search = Search(TEXTS, len(TEXTS), np.array([1, 5, 91]), np.arange(len(TEXTS)))
    rows = []
    for root in (tmp_path, tmp_path, None):
        model = Model(str(tiny_bert), CPU, quiet=True, similarity=similarity, cache=root)
        rows.append(np.stack(list(model.distances(search))))
        assert len(given) == (92 if root is not None else 92 + len(TEXTS))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-4)


def test_both_similarities_and_all_benchmarks_share_the_vectors(tiny_bert, tmp_path, given):
    """They are kept as the encoder gives them, before they are scaled."""
    model = Model(str(tiny_bert), CPU, quiet=True, similarity="cosine", cache=tmp_path)
    list(model.distances(Search(TEXTS, len(TEXTS), np.array([0]), np.arange(4))))
    given.clear()
    found = model_vectors(
        Model(str(tiny_bert), CPU, quiet=True, by_format=True, cache=tmp_path)
    ).embed({"a": ("word0 word0",), "b": ("word1 word3", "word1")}, "proximity")
    assert given == []
    assert len(folders(tmp_path)) == 1
    plain = embed_texts(Encoder.load(tiny_bert), TEXTS[:2], 2, CPU)
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_what_was_embedded_before_an_error_is_kept(tiny_bert, tmp_path, given):
    done = 0

    def stop(count):
        nonlocal done
        done += count
        if done > 70:  # a chunk has 64 texts
            raise KeyboardInterrupt

    model = opened(tiny_bert, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        vectors(model, done=stop)
    given.clear()
    assert len(vectors(model)) == len(TEXTS)
    assert len(given) == 92 - 64


@pytest.mark.slow
def test_a_killed_process_loses_the_chunk_in_the_making_alone(tiny_bert, tmp_path, given):
    code = """
import os, signal, sys
from tests.evaluation.test_cached_embedding import opened, vectors
done = 0
def kill(count):
    global done
    done += count
    if done > 70:
        os.kill(os.getpid(), signal.SIGKILL)
vectors(opened(sys.argv[1], sys.argv[2]), done=kill)
"""
    root = tmp_path / "cache"
    words = [sys.executable, "-c", code, str(tiny_bert), str(root)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    (kept,) = root.glob("*/*.npy")
    before = kept.read_bytes()
    first = vectors(opened(tiny_bert, root))
    assert len(given) == 92 - 64
    assert kept.read_bytes() == before
    given.clear()
    np.testing.assert_array_equal(vectors(opened(tiny_bert, root)), first)
    assert given == []


def altered(folder, to, change):
    shutil.copytree(folder, to)
    change(to)
    return to


def other_weight(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    key = next(key for key in state if key.endswith("layer.1.output.dense.bias"))
    state[key][0] += 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def other_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))


def other_tokenizer(folder):
    text = (folder / "tokenizer.json").read_text()
    assert '"lowercase":true' in text.replace(" ", "")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(text) | {"normalizer": {"type": "Lowercase"}}))


def other_record(folder):
    Encoder.load(folder, pooling="mean", normalize=True).save(folder)


@pytest.mark.parametrize("change", [other_weight, other_config, other_tokenizer, other_record])
def test_another_model_has_another_folder(tiny_bert, tmp_path, change):
    other = altered(tiny_bert, tmp_path / "other", change)
    root = tmp_path / "cache"
    vectors(opened(tiny_bert, root), TEXTS[:3])
    found = vectors(opened(other, root), TEXTS[:3])
    assert len(folders(root)) == 2
    np.testing.assert_allclose(found, vectors(opened(other, None), TEXTS[:3]), atol=1e-6)


@pytest.mark.parametrize("setting", [{"max_length": 5}, {"pooling": "mean"}, {"precision": "bf16"}])
def test_other_settings_have_another_folder(tiny_bert, tmp_path, setting):
    vectors(opened(tiny_bert, tmp_path), TEXTS[:3])
    found = vectors(opened(tiny_bert, tmp_path, **setting), TEXTS[:3])
    assert len(folders(tmp_path)) == 2
    wanted = vectors(opened(tiny_bert, None, **setting), TEXTS[:3])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_same_model_elsewhere_and_at_other_speeds_has_the_same_folder(
    tiny_bert, tmp_path, given
):
    root = tmp_path / "cache"
    vectors(opened(tiny_bert, root))
    given.clear()
    moved = altered(tiny_bert, tmp_path / "moved", lambda folder: (folder / "notes.txt").touch())
    vectors(Model(str(moved), EmbedSettings(device="cpu", batch_tokens=999), True, cache=root))
    assert given == []
    assert len(folders(root)) == 1


def test_each_format_has_its_own_folder(tiny_bert, tmp_path, given):
    pytest.importorskip("adapters")
    names = ("proximity", "adhoc_query")
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings(names, reduction=4))
    encoder = Encoder(settings)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    encoder.save(tmp_path / "adapted")
    found = {}
    for root, asked in ((tmp_path / "cache", 4), (tmp_path / "cache", 0), (None, 4)):
        given.clear()
        model = Model(str(tmp_path / "adapted"), CPU, True, by_format=True, cache=root)
        for name in names:
            records = {"a": ("word1", "word2"), "b": ("word3",)}
            found[root, name] = model_vectors(model).embed(records, name)
        assert len(given) == asked
    assert len(folders(tmp_path / "cache")) == 2
    for name in names:
        cached, plain = found[tmp_path / "cache", name], found[None, name]
        np.testing.assert_allclose(cached, plain, atol=1e-6)
    assert not np.allclose(found[None, names[0]], found[None, names[1]], atol=1e-2)


def test_the_code_of_a_pooling_of_ones_own_is_part_of_the_model(tiny_bert, tmp_path, monkeypatch):
    code = """
from sciembed_train.encoder.pooling.base import Pooling
class Scaled(Pooling):
    def forward(self, states):
        return {factor} * states.padded()[0][:, 0]
"""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for factor in ("1.0", "2.5"):
        (tmp_path / "own_pooling.py").write_text(code.format(factor=factor))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("own_pooling", None)
        model = opened(tiny_bert, tmp_path / "cache", pooling="own_pooling.Scaled")
        found.append(vectors(model, TEXTS[:3]))
    np.testing.assert_allclose(found[1], 2.5 * found[0], rtol=1e-5)


def test_a_model_in_memory_is_known_by_its_weights(tiny_bert, tmp_path):
    encoder = Encoder.load(tiny_bert)
    before = model_identity(encoder)
    assert before == model_identity(Encoder.load(tiny_bert))
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[7, 0] += 1
    assert model_identity(encoder)["weights"] != before["weights"]


def test_the_folder_says_which_model_it_is_of(tiny_bert, tmp_path):
    vectors(opened(tiny_bert, tmp_path), TEXTS[:1])
    (about,) = tmp_path.glob("*/about.json")
    said = json.loads(about.read_text())
    assert said["name"] == str(tiny_bert)
    assert said["precision"] == "fp32"
    assert said["settings"]["pooling"] == "cls"


def test_a_vector_that_is_not_finite_is_told_by_its_text(tiny_bert, tmp_path):
    model = opened(tiny_bert, tmp_path)
    bad = model.encoder.tokenizer.encode(["word77"])[0][0]
    with torch.no_grad():
        model.encoder.backbone.get_input_embeddings().weight[bad] = torch.nan
    texts = [(f"word{i % 70}", None) for i in range(100)] + [("word77", None)]
    with pytest.raises(UserError, match=r"not finite for text 101, in fp32"):
        vectors(model, texts)


def test_a_cache_that_cannot_be_written_is_refused(tiny_bert, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Vectors cannot be kept in .*file"):
        vectors(opened(tiny_bert, tmp_path / "file"), TEXTS[:1])


PAPERS = [
    ("word1 word2", ["word3 word4", "word5", "word6 word7 word8"]),
    ("word9 word10", None),
    ("word11", ["word5", "word12 word13"]),
    ("", ""),
    ("word1 word2", ["word3 word4", "word5", "word6 word7 word8"]),
    ("word14", "Word15 word3 word4. Word16 word17."),
]


@pytest.mark.parametrize("scorer", ["sentences", "best_match", "transport"])
def test_vectors_of_sentences_are_kept_too(tiny_bert, tmp_path, given, scorer):
    search = Search(PAPERS, 6, np.array([0, 5]), np.arange(6), None, query_sentences=[[0, 2], None])
    temperature = 2.0 if scorer == "transport" else None
    asked = ScoreSettings(scorer, temperature=temperature)
    rows, counts = [], []
    for root in (tmp_path, tmp_path, None):
        given.clear()
        model = SentenceModel(str(tiny_bert), CPU, True, asked, cache=root)
        rows.append(np.stack(list(model.distances(search))))
        counts.append(len(given))
    per_copy = 3 if scorer == "sentences" else 1
    assert counts == [counts[2] - per_copy, 0, counts[2]]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-4)
    assert (rows[0][:, 0] == rows[0][:, 4]).all()


def test_sentences_alone_and_in_their_papers_are_kept_apart(tiny_bert, tmp_path, given):
    search = Search(PAPERS, 6, np.array([0]), np.arange(6))
    for asked, new in (
        (ScoreSettings("best_match"), True),
        (ScoreSettings("transport", temperature=2.0), False),
        (ScoreSettings("sentences"), True),
    ):
        given.clear()
        list(SentenceModel(str(tiny_bert), CPU, True, asked, cache=tmp_path).distances(search))
        assert bool(given) == new
    assert len(folders(tmp_path)) == 2


def test_a_request_hands_its_cache_to_what_it_opens(tiny_bert, tmp_path):
    request = {"data": "folder", "model": str(tiny_bert), "embed": CPU, "cache": tmp_path}
    citations = EvaluateSettings("citations", **request)
    by_sentence = EvaluateSettings("citations", score=ScoreSettings("sentences"), **request)
    for settings, kind in ((citations, Model), (by_sentence, SentenceModel)):
        system = Systems().system(settings)
        assert isinstance(system, kind)
        assert system.cache == tmp_path
    embedder = Systems().embedder(EvaluateSettings("scirepeval", **request))
    assert isinstance(embedder, PlainModel)
    assert embedder.model.cache == tmp_path


def test_shorter_vectors_are_cut_from_those_that_are_kept(tiny_bert, tmp_path, given):
    whole = vectors(opened(tiny_bert, tmp_path))
    given.clear()
    short = opened(tiny_bert, tmp_path, dim=8)
    np.testing.assert_array_equal(vectors(short), whole[:, :8])
    assert not given
    assert short.describe()["dim"] == 8
