"""Encoders to export, and records of their training."""

import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.encoder.settings import EncoderSettings

CARD = {
    "method": "specter",
    "recipe": "configs/specter.yaml",
    "seed": 7,
    "training": {"triplets": 12345, "steps": 20},
    "base_model": "somebody/some-bert",
    "base_model_sha256": "0f" * 32,
}
DECLUTR = {**CARD, "method": "declutr", "similarity": "cosine", "texts": "any"}


def encoder_of(backbone, **settings):
    settings = {"max_length": 512, **settings}
    return Encoder(EncoderSettings(str(backbone), **settings)).eval()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_checkpoint(path, encoder, **changes):
    """A checkpoint as a run leaves it, with other entries in place of its own."""
    content = {
        "state_dict": {f"encoder.{k}": v for k, v in encoder.state_dict().items()},
        "global_step": 40,
        "epoch": 1,
        "sciembed": {
            "version": 1,
            "method": "specter",
            **describe(encoder),
            "training": {
                "triplets": 4321,
                "seed": 11,
                "recipe": "specter",
                "steps_per_epoch": 16,
                "base_model": "somebody/some-bert",
                "base_model_sha256": "0f" * 32,
            },
        },
    }
    content.update(changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
