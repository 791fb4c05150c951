"""Encoders to export, and records of their training."""

from sciembed_train.encoder.encoder import Encoder
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
