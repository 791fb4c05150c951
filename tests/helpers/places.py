"""Where all documents of a ranking stand, by their distances."""

import numpy as np

from sciembed_train.evaluation.metrics import Places


def places(distances):
    """`Places` of documents in the order of their distances, or of any numbers for these."""
    first = np.searchsorted(distances, distances, "left")
    return Places(first, np.searchsorted(distances, distances, "right") - first)
