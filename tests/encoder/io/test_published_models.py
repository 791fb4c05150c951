"""Published models by their names, as folders on the hub and in its cache are called."""

import pytest

from sciembed_train.encoder.io.published_models import METHODS, PUBLISHED, published_model
from sciembed_train.encoder.pooling.registry import is_pooling_name

ASPIRE = "allenai/aspire"


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (("johngiorgi/declutr-small",), "DeCLUTR"),
        (("allenai/specter",), "SPECTER"),
        (("/cache/models--allenai--specter/snapshots/1",), "SPECTER"),
        (("allenai/specter2_base",), "SPECTER2"),
        (("allenai/specter2_aug2023refresh_base",), "SPECTER2"),
        (("malteos/scincl",), "SciNCL"),
        ((f"{ASPIRE}-biencoder-compsci-spec",), "SPECTER-CoCite"),
        ((f"{ASPIRE}-sentence-embedder",), "Aspire's sentence encoder"),
        ((f"{ASPIRE}-contextualsentence-singlem-biomed",), "tsAspire"),
        ((f"{ASPIRE}-contextualsentence-multim-compsci",), "otAspire"),
        (("allenai/scibert_scivocab_uncased",), "SciBERT"),
        (("my_encoder", "malteos/scincl"), "SciNCL"),  # the first that is known
        (("allenai/specter", "malteos/scincl"), "SPECTER"),
        # These are other models, or adapters without one.
        (("allenai/specter2",), None),
        (("allenai/specter-of-mine",), None),
        (("me/allenai/specter_tuned",), None),
        (("my-allenai/specter",), None),
        ((f"{ASPIRE}-biencoder-biomed-spec-full",), None),
        ((None, ""), None),
    ],
)
def test_a_model_is_known_by_its_name(names, model):
    found = published_model(*names)
    assert (found and found.model) == model


def test_models_of_one_method_are_used_the_same_way():
    for model in PUBLISHED:
        if model.method is None:
            assert model.pooling is None
            continue
        same = METHODS[model.method]
        for key in ("pooling", "similarity", "texts", "separator"):
            assert getattr(model, key) == getattr(same, key)
        assert is_pooling_name(model.pooling)
