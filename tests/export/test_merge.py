import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sciembed_train as st
from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.training_titles import read_titles, write_titles
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.merge import merge_encoders, weighted_mean
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.masked_models import write_masked_lm

TEXTS = ["word1 word2 word3", "word9 a b c", "word7"]


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def bits(tensor):
    return tensor.view(torch.int32)


def refused(capsys, *words):
    assert cli.main(["merge", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("./train merge: ")
    return error


def test_merged_weights_are_the_weighted_mean(two, tmp_path, capsys):
    target = tmp_path / "merged"
    assert cli.main(["merge", *map(str, two), "--weights", "0.3", "0.7", "--to", str(target)]) == 0
    shown = capsys.readouterr().out
    assert f"0.3 x start + 0.7 x tuned -> {target}" in shown
    assert "AutoModel differs by" in shown
    first, second, merged = map(weights_of, (*two, target))
    assert merged.keys() == first.keys()
    for key, value in merged.items():
        expected = 0.3 * first[key].double() + 0.7 * second[key].double()
        torch.testing.assert_close(value.double(), expected, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_0_and_1_give_one_model_bit_by_bit(alpha, two, tmp_path):
    merged = st.merge(two, tmp_path / "m", [1 - alpha, alpha])
    for key, value in weights_of(two[int(alpha)]).items():
        assert torch.equal(bits(weights_of(merged.folder)[key]), bits(value)), key
    expected = Encoder.load(two[int(alpha)]).encode_texts(TEXTS)
    assert torch.equal(Encoder.load(merged.folder).encode_texts(TEXTS), expected)


def test_a_negative_zero_survives_a_weight_of_1():
    state = {"x": torch.tensor([-0.0, 1.0])}
    for states, weights in (([state, {"x": torch.ones(2)}], [1, 0]), ([state, state], [0, 1])):
        assert torch.equal(bits(weighted_mean(states, weights)["x"]), bits(state["x"]))


def test_equal_weights_are_the_default_and_equal_models_stay_what_they_are(two, tmp_path):
    soup = st.merge([two[1], two[1], two[1], two[1]], tmp_path / "soup")
    assert soup.weights == dict.fromkeys(["tuned", "tuned (2)", "tuned (3)", "tuned (4)"], 0.25)
    for key, value in weights_of(two[1]).items():
        torch.testing.assert_close(weights_of(soup.folder)[key], value, atol=1e-7, rtol=1e-7)


def test_the_card_states_what_was_merged(two, tmp_path):
    merged = st.merge(two, tmp_path / "merged", [0.5, 0.5])
    card = (merged.folder / "README.md").read_text()
    assert "Its weights are a weighted mean of those of `start` (0.5) and `tuned` (0.5)." in card
    record = json.loads((merged.folder / "sciembed.json").read_text())
    assert record["merged"]["tuned"] == {
        "weight": 0.5,
        **{key: CARD[key] for key in ("method", "recipe", "base_model")},
        "seed": 1,
    }
    assert (record["similarity"], record["pooling"]) == ("cosine", "mean")
    assert "method" not in record
    assert merged.as_dict()["weights"] == {"start": 0.5, "tuned": 0.5}


def test_sentence_transformers_folders_of_others_merge_with_exports(two, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    other = shutil.copytree(two[0], tmp_path / "of_others")
    (other / "sciembed.json").unlink()
    merged = st.merge([other, two[1]], tmp_path / "m", [0.5, 0.5])
    ours = Encoder.load(merged.folder)
    assert ours.settings.pooling == "mean"
    model = sentence_transformers.SentenceTransformer(str(merged.folder), device="cpu")
    assert model.similarity_fn_name == "cosine"
    vectors = torch.from_numpy(model.encode(TEXTS))
    torch.testing.assert_close(vectors, ours.encode_texts(TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("first", [0, 1])
def test_a_start_that_records_no_format_merges_with_a_run_that_has_another(two, tmp_path, first):
    start = shutil.copytree(two[0], tmp_path / "of_others")
    (start / "sciembed.json").unlink()
    tuned = shutil.copytree(two[1], tmp_path / "tuned")
    record = json.loads((tuned / "sciembed.json").read_text())
    record["input_format"]["separator"] = "space"
    (tuned / "sciembed.json").write_text(json.dumps(record))
    models = [start, tuned] if first == 0 else [tuned, start]
    merged = st.merge(models, tmp_path / "m", [0.5, 0.5])
    assert Encoder.load(merged.folder).settings.input_format.separator == "space"


def test_scaling_to_unit_length_is_that_of_the_first(two, tmp_path):
    scaled = shutil.copytree(two[0], tmp_path / "scaled")
    record = json.loads((scaled / "sciembed.json").read_text())
    (scaled / "sciembed.json").write_text(json.dumps({**record, "normalize": True}))
    merged = st.merge([scaled, two[1]], tmp_path / "m")
    assert Encoder.load(merged.folder).settings.normalize
    note = "The scaling to unit length is on as of scaled; that of tuned is off."
    assert merged.notes == [note]
    assert note in str(merged)


def test_a_plain_folder_takes_the_pooling_of_the_other(two, tmp_path, tiny_bert):
    merged = st.merge([tiny_bert, two[1]], tmp_path / "m")
    assert Encoder.load(merged.folder).settings.pooling == "mean"
    assert any("longest text is 512 tokens" in note for note in merged.notes)


def test_plain_folders_alone_need_a_pooling(tiny_bert, tmp_path, capsys):
    words = (tiny_bert, tiny_bert, "--to", tmp_path / "m")
    assert "Give --pooling cls or mean and --similarity" in refused(capsys, *words)
    assert cli.main(["merge", *map(str, words), "--pooling", "cls", "--similarity", "cosine"]) == 0


def test_a_head_and_a_pooler_that_one_lacks_are_left_out(tmp_path):
    heads = [write_masked_lm(tmp_path / name, "bert") for name in "ab"]
    settings = {"pooling": "mean"}
    with_head = [Encoder.load(h, **settings, masked_lm="auto") for h in heads]
    assert merge_encoders(with_head, [0.5, 0.5]) == []
    assert with_head[0].head is not None
    with_head[1].head = None
    assert "masked-language-modelling head is left out" in merge_encoders(with_head, [0.5, 0.5])[0]
    assert with_head[0].head is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["0.3"], "--weights 0.3: 1 for 2 models"),
        (["0.3", "0.3"], "add up to 0.6, not to 1; give 0.5 0.5"),
        (["1.5", "-0.5"], "expected numbers from 0 to 1"),
        (["0", "0"], "add up to 0, not to 1; give one above 0"),
        (["half", "half"], "Expected a float. Got value: half"),
    ],
)
def test_wrong_weights_are_refused(weights, message, two, tmp_path, capsys):
    assert message in refused(capsys, *two, "--weights", *weights, "--to", tmp_path / "m")


def test_one_model_no_model_and_a_full_folder_are_refused(two, tmp_path, capsys):
    assert "two models or more" in refused(capsys, two[0], "--to", tmp_path / "m")
    assert "no such folder" in refused(capsys, two[0], tmp_path / "absent", "--to", tmp_path / "m")
    assert "--overwrite" in refused(capsys, *two, "--to", two[0])


def test_a_merged_model_was_trained_on_the_titles_of_all_that_have_a_weight(two, tmp_path):
    first, second = (shutil.copytree(folder, tmp_path / folder.name) for folder in two)
    write_titles(first, np.array([1, 3], np.uint64))
    write_titles(second, np.array([2, 3], np.uint64))
    assert read_titles(st.merge([first, second], tmp_path / "m").folder).tolist() == [1, 2, 3]
    alone = st.merge([first, second], tmp_path / "n", [1.0, 0.0]).folder
    assert read_titles(alone).tolist() == [1, 3]
    (first / "training_titles.npy").unlink()
    (second / "training_titles.npy").unlink()
    assert read_titles(st.merge([first, second], tmp_path / "o").folder) is None


def test_an_encoder_without_a_projection_is_merged_as_one_that_leaves_its_vectors(
    tiny_bert, tmp_path
):
    plain = encoder_of(tiny_bert, pooling="mean", normalize=True)
    other = encoder_of(tiny_bert, pooling="mean", normalize=True, projection=32)
    with torch.no_grad():
        other.projection.weight.mul_(3)
    for name, encoder in (("plain", plain), ("other", other)):
        export_encoder(encoder, tmp_path / name, {**CARD, "similarity": "cosine"})
    for models in (("plain", "other"), ("other", "plain")):
        target = tmp_path / "-".join(models)
        st.merge([tmp_path / model for model in models], target, [0.5, 0.5])
        merged = Encoder.load(target)
        torch.testing.assert_close(merged.projection.weight.detach(), 2 * torch.eye(32))
