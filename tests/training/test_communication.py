"""What doctor says of the bytes that ranks send, against plain counts of a built model."""

import pytest
import yaml

from sciembed_train import cli
from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.training import communication
from sciembed_train.training.communication import Weights, gathered, summed, volumes


def recipe(folder, backbone, method="specter.Specter", trainer=None, data=None, **model):
    content = {
        "model": {
            "class_path": f"sciembed_train.methods.{method}",
            "init_args": {
                "encoder": {"backbone": str(backbone), **model.pop("encoder", {})},
                **model,
            },
        },
        "data": {"batch_size": 8, **(data or {})},
        "trainer": trainer or {},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def read(path):
    return RecipeCommandLine("doctor", "").read(["-c", str(path)])


def sent(path, ranks=4):
    return {volume.name: volume.sent for volume in communication.of_recipe(read(path), ranks)}


def ring(ranks, size, sums):
    """Bytes that a rank sends: chunk by chunk to its neighbour, once round or twice."""
    chunk = size // ranks
    return sum(chunk for _ in range((ranks - 1) * (2 if sums else 1)))


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_a_ring_sends_each_chunk_to_its_neighbour(ranks):
    assert summed(800, ranks) == ring(ranks, 800, True)
    assert gathered(800, ranks) == ring(ranks, 800, False)


@pytest.mark.parametrize("pooling", ["cls", "mix"])
def test_the_parameters_are_those_of_the_built_encoder(tiny_bert, pooling):
    encoder = Encoder(EncoderSettings(str(tiny_bert), pooling))
    found = communication.weights_of({"backbone": str(tiny_bert), "pooling": pooling}, head=False)
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    layers = sum(p.numel() for p in encoder.backbone.encoder.layer.parameters())
    every = sum(p.numel() for p in encoder.parameters())
    assert found == Weights(trained, layers, every, encoder.dim)


def test_the_head_of_masked_language_modelling_counts(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert), "mean"), masked_lm=True)
    found = communication.weights_of({"backbone": str(tiny_bert), "pooling": "mean"}, head=True)
    assert found.trained == sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def test_triplets_exchange_gradients_alone(tiny_bert, tmp_path):
    weights = communication.weights_of({"backbone": str(tiny_bert)}, head=False)
    path = recipe(tmp_path, tiny_bert)
    assert sent(path) == {"gradients": 2 * 3 * 4 * weights.trained // 4}


def test_pairs_and_spans_gather_their_vectors(tiny_bert, tmp_path):
    pairs = recipe(tmp_path, tiny_bert, "aspire.Cocite", negatives="all")
    assert sent(pairs)["vectors, forward"] == 3 * 8 * 32 * 4 // 4
    assert sent(pairs)["vectors, backward"] == 3 * 8 * 32 * 4 // 4
    local = recipe(tmp_path, tiny_bert, "aspire.Cocite", negatives="local")
    assert "vectors, forward" not in sent(local)
    sampling = {
        "class_path": "sciembed_train.sampling.spans.SpanSampling",
        "init_args": {"num_anchors": 2},
    }
    spans = recipe(tmp_path, tiny_bert, "declutr.Declutr", data={"sampling": sampling})
    assert sent(spans)["vectors, forward"] == 3 * (2 * 2 * 8) * 32 * 4 // 4


def test_weights_that_are_shared_out_are_collected_in_both_passes(tiny_bert, tmp_path):
    weights = communication.weights_of({"backbone": str(tiny_bert)}, head=False)
    path = recipe(tmp_path, tiny_bert, trainer={"strategy": "fsdp"})
    assert sent(path) == {
        "weights, forward": 3 * 4 * weights.all // 4,
        "weights, backward": 3 * 4 * weights.layers // 4,
        "gradients": 3 * 4 * weights.trained // 4,
    }


def test_what_is_not_known_is_said_to_be():
    assert communication.gathered_rows("LabsOwn", {}, {}) is None
    assert [v.name for v in volumes(Weights(10, 5, 12, 4), None, 2, shared=False)] == ["gradients"]


def test_doctor_prints_and_refuses(tiny_bert, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(recipe(tmp_path, tiny_bert))
    assert cli.main(["doctor", "-c", path, "--gpus", "4"]) == 0
    assert "MB sent by each of 4 GPUs in a step" in capsys.readouterr().out
    assert cli.main(["doctor", "-c", path, "--gpus", "3"]) == 2
    assert "data.batch_size=8 cannot be shared by 3 ranks" in capsys.readouterr().err
    assert cli.main(["doctor", "--gpus", "4"]) == 2
    assert "names model.class_path" in capsys.readouterr().err
    assert cli.main(["doctor", "-c", path]) == 2
    assert "give the number of GPUs" in capsys.readouterr().err
    for small in ("adapters", "lora"):
        settings = read(recipe(tmp_path, tiny_bert, encoder={small: {}}))
        with pytest.raises(UserError, match=f"recipe of {small} exchanges their weights"):
            list(communication.of_recipe(settings, 2))
