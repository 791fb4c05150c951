"""Scores of the held-out examples of tasks against other libraries."""

import numpy as np
import pytest
import torch

from sciembed_train.batch import (
    DevTasks,
    LabelPart,
    PaperBatch,
    TokenRows,
    TripletPart,
)
from tests.helpers.adapter_models import library_is_there
from tests.helpers.method_batches import KINDS
from tests.helpers.method_batches import task_method as prepared
from tests.helpers.task_training import (
    ADAPTED,
    VARIANTS,
)


@pytest.fixture(scope="module")
def names():
    """Variants that can be trained here: those with adapters where the library is installed."""
    return [*VARIANTS, *(ADAPTED if library_is_there() else ())]


def test_held_out_scores_are_those_of_other_libraries(tiny_bert):
    from scipy.stats import kendalltau
    from sklearn.metrics import f1_score, r2_score

    module = prepared(str(tiny_bert), codes=False).eval()
    draws = np.random.default_rng(0)
    texts = 40
    rows = TokenRows(torch.from_numpy(draws.integers(5, 200, texts * 4)), torch.full((texts,), 4))
    every = torch.arange(texts)
    label = torch.from_numpy(draws.integers(0, 5, texts)).float()
    classes = torch.from_numpy(draws.integers(0, 2, texts))  # the third is in no label
    topics = torch.from_numpy(draws.integers(0, 2, (texts, 4))).float()
    columns = [torch.from_numpy(draws.permutation(texts)) for _ in range(3)]
    parts = (
        LabelPart("level", every, label),
        LabelPart("field", every, classes),
        LabelPart("topics", every, topics),
        TripletPart("near", *columns),
    )
    with torch.no_grad():
        for layer in module.heads.layers.values():
            layer.weight.normal_()
        kept = module.held_out
        for half in every.chunk(2):
            kept.add(module.encoder, PaperBatch(rows.select(half), half, formats=half * 0))
        found = kept.scores(DevTasks(KINDS, parts, texts), torch.device("cpu"))
        vectors = module.encoder(rows)
        told = {name: module.heads(name, vectors).numpy() for name in ("level", "field", "topics")}
    said = told["level"][:, 0]
    assert found["level_kendall"] == pytest.approx(kendalltau(said, label.numpy()).statistic)
    assert found["level_r2"] == pytest.approx(r2_score(label.numpy(), said))
    assert found["level_loss"] == pytest.approx(((said - label.numpy()) ** 2).mean())
    chosen = told["field"].argmax(1)
    assert found["field_accuracy"] == (chosen == classes.numpy()).mean()
    macro = f1_score(classes.numpy(), chosen, average="macro")
    assert found["field_macro_f1"] == pytest.approx(macro)
    macro = f1_score(topics.numpy(), told["topics"] > 0, average="macro")
    assert found["topics_macro_f1"] == pytest.approx(macro)
    a, p, n = (vectors[column].numpy() for column in columns)
    near, away = (np.linalg.norm(a - other + 1e-6, axis=1) for other in (p, n))
    assert found["near_accuracy"] == (near < away).mean()
    assert found["near_loss"] == pytest.approx(np.maximum(0, near - away + 1).mean())
    names = ("level", "field", "topics", "near")
    assert found["loss"] == pytest.approx(sum(found[f"{name}_loss"] for name in names))
    # A vector that is not finite leaves no score to the tasks whose texts it is among.
    kept._vectors._columns[0][0][0] = float("nan")
    with torch.no_grad():
        found = kept.scores(DevTasks(KINDS, parts, texts), torch.device("cpu"))
    assert len(found) > len(names)
    assert np.isnan(list(found.values())).all()
