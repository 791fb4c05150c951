import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sciembed_train.errors import UserError
from sciembed_train.evaluation.facet_model import FacetModel
from sciembed_train.evaluation.systems import Search
from sciembed_train.inference.options import EmbedSettings, ScoreSettings

TEXTS = [
    ("word1 word2", ["word3 word4", "word5", "word6 word7 word8"]),
    ("word9 word10", None),
    ("", ["word5", "\u200b", "word12 word13"]),
    ("word14", "Word15 word3 word4. Word16 word17."),
    ("", ""),
]
FACETS = [[0, 2], [], [], [], []]  # of each text, its sentences of the first query's facet


def sentences_of(at, text):
    return FACETS[text] if at == 0 else None


def model(folder, similarity=None, cache=None, **settings):
    embed = EmbedSettings(device="cpu", **settings)
    return FacetModel(str(folder), embed, True, ScoreSettings("facet", similarity), cache)


def search(pools=None):
    papers = np.array([1, 2, 3, 4])
    return Search(TEXTS, 5, np.array([0, 0]), papers, pools, facet_sentences=sentences_of)


def token_means(encoder, number):
    """The mean state of each title and sentence of a text, by a padded pass of the whole text."""
    title, abstract = TEXTS[number]
    sentences = [abstract] if isinstance(abstract, str) else abstract or []
    if number == 3:
        sentences = ["Word15 word3 word4.", "Word16 word17."]
    separated = encoder.settings.input_format.separator == "sep"
    ids, spans = [encoder.tokenizer.prefix[0]], []
    for part in (title, *sentences):
        own = encoder.tokenizer.encode([part])[0]
        spans.append((len(ids), len(ids) + len(own)))
        ids += own
        if separated and sentences and part and part == title:
            ids.append(encoder.tokenizer.suffix[0])
    ids.append(encoder.tokenizer.suffix[0])
    with torch.no_grad():
        states = encoder.backbone(torch.tensor([ids])).last_hidden_state[0]
    return [states[start:end].mean(0) for start, end in spans]


def wanted(encoder, number, facet):
    title, *sentences = token_means(encoder, number)
    every = [s for s in sentences if not s.isnan().any()]
    rows = every if facet is None else [sentences[i] for i in facet]
    rows = [title, *rows] if TEXTS[number][0] else rows or every
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_distances_are_those_of_means_of_title_and_facet(tiny_bert, similarity):
    system = model(tiny_bert, similarity)
    encoder = system.encoder.eval()
    for at, row in enumerate(system.distances(search())):
        facets = FACETS if at == 0 else [None] * 5
        vectors = torch.stack([wanted(encoder, n, facets[n]) for n in range(4)])
        if similarity == "cosine":
            vectors = normalize(vectors)
        expected = (vectors[0] - vectors[1:]).norm(dim=1)
        np.testing.assert_allclose(row[:3], expected, atol=1e-4)
        assert row[3] == np.inf


def test_another_facet_ranks_otherwise(tiny_bert):
    first, second = model(tiny_bert).distances(search())
    assert np.abs(first[:3] - second[:3]).max() > 0.1


def test_pools_and_a_cache_change_nothing(tiny_bert, tmp_path):
    whole = list(model(tiny_bert).distances(search()))
    for _ in range(2):
        pools = [np.array([2, 0]), np.array([1, 2])]
        rows = list(model(tiny_bert, cache=tmp_path).distances(search(pools)))
        for row, every, pool in zip(rows, whole, pools, strict=True):
            np.testing.assert_allclose(row, every[pool], atol=1e-5)


def test_sentences_beyond_the_greatest_length_are_left_out(tiny_bert):
    # Title, separator and the first sentence; the third, which is of the facet, has no vector.
    system = model(tiny_bert, max_length=7)
    row = next(iter(system.distances(search([np.array([0]), np.array([0])]))))
    assert np.isfinite(row).all()


def test_a_benchmark_without_facets_is_refused(tiny_bert):
    asked = Search(TEXTS, 5, np.array([0]), np.array([1, 2]))
    with pytest.raises(UserError, match="it goes with --benchmark csfcube"):
        next(iter(model(tiny_bert).distances(asked)))
