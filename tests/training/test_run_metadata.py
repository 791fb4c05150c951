import hashlib
from types import SimpleNamespace

import pytest

from sciembed_train.sampling.citing_pairs import CitingSentenceSampling
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.training.run_metadata import training_metadata, weights_sha256


def facts(tiny_bert, sampling=None, documents=0):
    data = SimpleNamespace(
        settings=DataSettings(batch_size=16, seed=5, sampling=sampling),
        corpus=SimpleNamespace(n_papers=60, n_documents=documents),
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
