import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.training_titles import write_titles
from sciembed_train.sampling.citing_pairs import CitingSentenceSampling
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.training.run_metadata import (
    training_metadata,
    training_titles,
    weights_sha256,
)


def facts(tiny_bert, sampling=None, documents=0, **info):
    data = SimpleNamespace(
        settings=DataSettings(batch_size=16, seed=5, sampling=sampling),
        corpus=SimpleNamespace(n_papers=60, n_documents=documents, info=info),
        examples=SimpleNamespace(name="triplets"),
    )
    plan = SimpleNamespace(examples=100, steps_per_epoch=6, world_size=2)
    return training_metadata("specter", data, plan, 12, str(tiny_bert))


def test_the_facts_say_what_was_trained_on_and_from(tiny_bert):
    digest = hashlib.sha256((tiny_bert / "model.safetensors").read_bytes()).hexdigest()
    assert facts(tiny_bert) == {
        "recipe": "specter",
        "seed": 5,
        "batch_size": 16,
        "processes": 2,
        "training_triplets": 100,
        "steps_per_epoch": 6,
        "planned_steps": 12,
        "papers": 60,
        "base_model": tiny_bert.name,  # a folder's place says something about the machine
        "base_model_sha256": digest,
    }


@pytest.mark.parametrize(
    ("sampling", "texts"), [(None, None), (CitingSentenceSampling(), "sentences")]
)
def test_what_an_encoder_learns_to_read_is_named_where_it_is_not_papers(tiny_bert, sampling, texts):
    assert facts(tiny_bert, sampling).get("texts") == texts
    assert facts(tiny_bert, documents=3)["documents"] == 3


def test_weights_of_an_unusual_name_have_no_hash(tiny_bert, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert weights_sha256(str(tmp_path)) is None


def test_weights_are_those_of_the_projection_too(tiny_bert, tmp_path):
    encoder = Encoder(EncoderSettings(str(tiny_bert), pooling="mean"))
    encoder.save(tmp_path / "plain")
    encoder.add_projection(encoder.dim)
    encoder.save(tmp_path / "one")
    with torch.no_grad():
        encoder.projection.weight[0, 0] = 2
    encoder.save(tmp_path / "two")
    assert len({weights_sha256(str(tmp_path / name)) for name in ("plain", "one", "two")}) == 3


def test_what_was_excluded_is_among_the_facts_without_names(tiny_bert):
    place = {"entries": 3, "that match nothing": {"count": 1, "examples": ["x"]}}
    told = facts(tiny_bert, excluded={"papers": 2, "places": {"out.txt": place}})["excluded"]
    places = {"out.txt": {"entries": 3, "that match nothing": 1}}
    assert told == {"papers": 2, "places": places}
    assert "excluded" not in facts(tiny_bert)


def titles(papers, backbone):
    data = SimpleNamespace(
        corpus=SimpleNamespace(titles=lambda: np.array([7, 0, -2, 5, 7])),
        examples=SimpleNamespace(training_papers=lambda: papers),
    )
    return training_titles(data, str(backbone))


def test_titles_are_those_of_the_papers_read_and_of_the_start(tmp_path):
    assert titles(None, tmp_path) is None
    read = titles(np.array([0, 1, 2, 4]), tmp_path)
    assert read.tolist() == [7, 2**64 - 2]
    write_titles(tmp_path, np.array([6], np.uint64))
    assert titles(np.array([0, 1, 2, 4]), tmp_path).tolist() == [6, 7, 2**64 - 2]
    assert titles(None, tmp_path).tolist() == [6]
