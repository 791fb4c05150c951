"""The script that runs a model's own code, run here on a model without any."""

import pytest

from sciembed_train.export.custom_code_reader import model_outputs


def test_a_model_whose_vector_is_another_than_the_first_state_is_refused(tiny_bert):
    # BERT's own pooler changes the first state; a model that is exported with code does not.
    with pytest.raises(ValueError, match=r"last_hidden_state\[:, 0\] is not pooler_output"):
        model_outputs(str(tiny_bert), ["word1 word2", "word3"], "cls")


def test_weights_that_are_missing_are_refused(tiny_bert, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_bert, tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="some weights are missing or left over"):
        model_outputs(str(folder), ["word1"], "mean")
