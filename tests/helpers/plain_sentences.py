"""Distances of two papers' sentences in plain loops, and a method whose sentences they are."""

import math

import torch

from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite
from tests.helpers.geomloss_reference import geomloss_value
from tests.helpers.sentence_training import TRANSPORT


def prepared(backbone, objectives, **settings):
    """A method outside a trainer, in float64."""
    encoder = EncoderSettings(backbone, "sentences", max_length=16, dropout=0.0)
    return SentenceCocite(encoder, Objectives(**objectives), **settings).double()


def plain_distance(objective, q, p, said, temperature=1.0):
    """One distance of two papers in plain loops, or by geomloss."""
    if objective == "transport":
        return geomloss_value(q, p, TRANSPORT).item()
    every = {(i, j): math.dist(a, b) for i, a in enumerate(q) for j, b in enumerate(p)}
    if objective == "aligned":
        return every[tuple(said)]
    if objective == "best_match":
        return min(every.values())
    weights = {k: math.exp(-d / temperature) for k, d in every.items()}
    return sum(weights[k] * d for k, d in every.items()) / sum(weights.values())


def vectors_of(module, given):
    with torch.no_grad():
        vectors = module.encoder.sentence_vectors(given.rows, given.sentences)
    return vectors.split(given.sentences.counts.tolist())
