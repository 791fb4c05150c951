import numpy as np
import pytest

from sciembed_train.synthetic import SyntheticSettings
from tests.helpers.synthetic_papers import SMALL, text_of, words_of


def test_papers_that_cite_each_other_share_no_more_words_than_chance(collection, papers):
    """Most cited papers have fewer words in common with the citing one than topic mates have
    that write in its dialect: so matching words ranks the wrong papers first."""
    rows = [words_of(p) for p in papers]

    def overlap(pairs):
        return np.mean([len(rows[a] & rows[b]) / len(rows[a] | rows[b]) for a, b in pairs])

    rng = np.random.default_rng(0)
    cited = collection.citations[rng.permutation(len(collection.citations))[:1500]]
    cited = cited[collection.topic[cited[:, 0]] == collection.topic[cited[:, 1]]]
    pairs = rng.integers(SMALL.papers, size=(200_000, 2))
    pairs = pairs[(collection.topic[pairs[:, 0]] == collection.topic[pairs[:, 1]])]
    same = pairs[(collection.dialect[pairs[:, 0]] == collection.dialect[pairs[:, 1]])]
    same = same[same[:, 0] != same[:, 1]]
    any_two = rng.integers(SMALL.papers, size=(2000, 2))
    assert overlap(cited) < 0.75 * overlap(same)
    assert overlap(cited) < overlap(any_two) + 0.05


def test_texts_have_a_realistic_mix_of_forms_and_lengths(papers):
    abstracts = [p["abstract"] for p in papers]
    none = [a for a in abstracts if not a]
    assert {type(a) for a in none} == {str, type(None)}
    assert 0.03 < len(none) / len(papers) < 0.15
    assert any(isinstance(a, list) and len(a) > 1 for a in abstracts)
    lengths = np.array([len(text_of(p).split()) for p in papers])
    assert lengths.min() < 13
    assert lengths.max() > 130
    assert all(p["title"].strip() for p in papers)
    assert len({p["paper_id"] for p in papers}) == len(papers)


def test_a_held_out_paper_uses_words_that_others_use_too(papers):
    seen = set().union(*(words_of(p) for p in papers[::2]))
    used = [w for p in papers[1::2] for w in words_of(p)]
    assert np.mean([w in seen for w in used]) > 0.99


@pytest.mark.parametrize(
    "wrong",
    [{"papers": 5}, {"dialects": 1}, {"concepts_per_topic": 99}, {"same_topic": 0.9}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        SyntheticSettings(**wrong) if wrong != {"same_topic": 0.9} else SyntheticSettings(
            same_topic=0.9, same_field=0.2
        )
