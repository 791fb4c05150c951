import pickle

import numpy as np
import pytest
import torch

from sciembed_train.corpus.store.mined_negatives import write_negatives
from sciembed_train.errors import UserError
from sciembed_train.sampling.citation_pairs import CitationPairSampling
from sciembed_train.sampling.citation_texts import TextKind
from sciembed_train.sampling.pair_sources import SourceWeights
from sciembed_train.sampling.related_mask import RelatedMask
from tests.helpers.citation_corpus import citation_pairs, write_citation_corpus


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_a_step_is_the_same_however_many_ranks_share_it(opened, kind):
    found = citation_pairs(
        opened, sources_per_batch=kind, hard_negatives=2, negatives_from="two_hop"
    )
    plan = found.plan(12, 3)
    hard = 0
    for step in range(6):
        indices = plan.indices(step)
        whole = found.batch(indices, 0, step)
        parts = [found.batch(indices, 0, step, slice(r * 4, r * 4 + 4)) for r in range(3)]
        hard += len(whole.hard_kept)
        for name in ("anchor", "positive", "hard"):
            texts = [part.texts[getattr(part, name)] for part in parts]
            assert torch.equal(torch.cat(texts), whole.texts[getattr(whole, name)])
        for name in ("excluded", "excluded_back"):
            shifted = [
                getattr(part, name) + torch.tensor([4 * r, 0]) for r, part in enumerate(parts)
            ]
            assert torch.equal(torch.cat(shifted), getattr(whole, name))
        assert all(torch.equal(part.hard_kept, whole.hard_kept) for part in parts)
    assert hard > 0


def test_what_is_excluded_is_related_or_the_same(opened):
    found = citation_pairs(opened, sources_per_batch="mixed")
    indices = found.plan(24, 3).indices(0)
    batch = found.batch(indices, 0, 0)
    papers = found.tokens.n_papers
    anchors, positives = (batch.texts[rows] % papers for rows in (batch.anchor, batch.positive))
    edges = {tuple(edge) for edge in opened.corpus.citations().tolist()}
    excluded = {tuple(pair) for pair in batch.excluded.tolist()}
    assert not any(i == j for i, j in excluded)
    for i, one in enumerate(anchors.tolist()):
        for j, other in enumerate(positives.tolist()):
            if i != j and ((one, other) in edges or (other, one) in edges or one == other):
                assert (i, j) in excluded
    assert len(excluded) < 24 * 24 / 2


def test_hard_negatives_are_those_mined_for_the_anchor(opened, tiny_bert, tmp_path):
    corpus = write_citation_corpus(tmp_path / "corpus", tiny_bert)
    with pytest.raises(UserError, match="no mined negatives"):
        CitationPairSampling(hard_negatives=2).open(corpus, opened.reading, None)
    queries = np.arange(0, 60, 2)
    negatives = np.stack([(queries + k) % 60 for k in (7, 9, 11)], axis=1)
    negatives[3, 1:] = -1
    scores = np.zeros(negatives.shape)
    write_negatives(corpus, "minilm", queries, negatives, scores, {"encoder": "minilm"})
    found = CitationPairSampling(
        weights=SourceWeights(1.0, 0.0, 0.2, 0.0), hard_negatives=2, sources_per_batch="mixed"
    ).open(corpus, opened.reading, None)
    plan, drawn = found.plan(24, 0), set()
    for step in range(12):
        pairs, hard = found.step_texts(plan.indices(step), plan.epoch(step))
        for (anchor, _), row in zip(pairs.tolist(), hard.tolist(), strict=True):
            mined = [n for n in negatives[anchor // 2].tolist() if n >= 0] if anchor < 60 else []
            expected = min(2, len(mined)) if anchor % 2 == 0 else 0
            assert len([n for n in row if n >= 0]) == expected
            assert {n for n in row if n >= 0} <= set(mined)
            drawn.add((anchor, tuple(row)))
        batch = found.batch(plan.indices(step), plan.epoch(step), step)
        assert len(batch.hard_kept) == (hard >= 0).sum()
        kept = batch.texts[batch.hard.reshape(-1)[batch.hard_kept]]
        assert kept.tolist() == hard[hard >= 0].tolist()
    assert len({row for anchor, row in drawn if anchor == 0}) != 1
    again = CitationPairSampling(hard_negatives=2).open(corpus, opened.reading, None)
    assert again.fingerprint != found.fingerprint


def test_held_out_pairs_are_of_dev_papers_and_know_what_is_related(opened):
    found = citation_pairs(opened)
    dev = found.dev
    assert [source.name for source in dev.sources] == [s.name for s in found.sources]
    assert sum(source.weight for source in dev.sources) == pytest.approx(1)
    citations, titles = dev.sources[0], dev.sources[2]
    anchors = found.dev_texts[citations.anchor.numpy()]
    assert (np.asarray(opened.corpus.paper_splits())[anchors] == 1).all()
    same = anchors[:, None] == anchors[None, :]
    excluded = {tuple(pair) for pair in citations.excluded.tolist()}
    for i, j in np.argwhere(same).tolist():
        assert i == j or (i, j) in excluded  # another paper that the same query cites
    assert (found.dev_texts[titles.pool.numpy()] // 60 == TextKind.ABSTRACT).all()
    batches = [b for rank in range(2) for b in found.dev_items(rank, 2)]
    assert sorted(torch.cat([b.slots for b in batches]).tolist()) == list(range(dev.texts))


def test_a_source_that_the_corpus_lacks_is_left_out_and_named(opened, tiny_bert, tmp_path):
    corpus = write_citation_corpus(tmp_path / "corpus", tiny_bert)
    (corpus.folder / "citations.npy").unlink()
    found = CitationPairSampling().open(corpus, opened.reading, None)
    assert found.sources[0].name == "cocitations"
    counts, left_out = found.notes
    pairs = [len(source.train) for source in found.sources]
    assert counts.startswith(f"training pairs: cocitations {pairs[0]} (50% of the steps), ")
    assert found.paper_pairs == pairs[0]
    assert "citations is left out: the corpus holds no citations" in left_out
    rare = CitationPairSampling(cocited=3).open(corpus, opened.reading, None)
    assert "no two papers are cited together 3 times" in " ".join(rare.notes)
    with pytest.raises(UserError, match="Nothing to train on"):
        CitationPairSampling(SourceWeights(1.0, 0.0, 0.0, 0.0)).open(corpus, opened.reading, None)


def test_examples_are_described_source_by_source(opened):
    found = citation_pairs(opened, hard_negatives=1, negatives_from="two_hop")
    described = found.describe(opened.corpus, found.plan(8, 0), 2)
    titles = [example.title for example in described]
    for source in found.sources:
        assert sum(f" of {source.name}" in title for title in titles) == 2
    halves = next(e for e in described if "abstract_halves" in e.title)
    assert halves.texts[1].source.startswith("second half of the abstract of p")
    assert all("negatives of" in example.notes[0] for example in described)


def test_opened_pairs_are_sent_without_their_tokens(opened):
    found = citation_pairs(opened)
    again = pickle.loads(pickle.dumps(found))
    one, other = (e.batch(np.arange(6), 0, 0) for e in (found, again))
    assert torch.equal(one.rows.ids, other.rows.ids)
    assert found.fingerprint == citation_pairs(opened).fingerprint
    assert found.fingerprint != citation_pairs(opened, mask=RelatedMask(cites=False)).fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cocited": 0}, "cocited must be 1 or more"),
        ({"hard_negatives": 9}, "hard_negatives must be 0 to 8"),
        ({"hard_negatives": -1}, "hard_negatives must be 0 to 8"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        CitationPairSampling(**settings)


def test_a_corpus_without_tokens_of_titles_is_refused_with_advice(opened, tiny_bert, tmp_path):
    import shutil

    corpus = write_citation_corpus(tmp_path / "corpus", tiny_bert)
    shutil.rmtree(corpus.folder / "part_tokens")
    with pytest.raises(UserError, match="--part-tokens"):
        CitationPairSampling().open(corpus, opened.reading, None)
