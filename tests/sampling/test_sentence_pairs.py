import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train.corpus.alignment import alignment_folder, read_alignment
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.cocitations import CocitationSampling
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from sciembed_train.sampling.step_pairs import flipped
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_sentence_corpus

LENGTH = 24


@pytest.fixture(scope="module")
def opened(tiny_bert, tmp_path_factory):
    corpus = write_sentence_corpus(tmp_path_factory.mktemp("sentenced") / "corpus", tiny_bert)
    reading = TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), LENGTH, seed=3)
    return SimpleNamespace(corpus=corpus, reading=reading, texts=list(corpus.sentences()))


def examples(opened, **settings):
    return SentencePairSampling(**settings).open(opened.corpus, opened.reading, None)


def papers_of(batch, tokens):
    """The paper of each of a batch's texts, found again by its tokens."""
    papers = {tuple(tokens.rows(np.array([p]), LENGTH)[0].tolist()): p for p in range(len(tokens))}
    parts = batch.rows.ids.split(batch.rows.lengths.tolist())
    return [papers[tuple(part.tolist())] for part in parts]


def sentences_left(opened, paper):
    """The sentences of a paper that the cut leaves, and at least one, as words."""
    title, sentences = opened.texts[paper]
    left, room = [], LENGTH - 2 - len(title.split()) - 1  # [CLS], [SEP] and the one between
    for sentence in sentences:
        words = sentence.replace(".", " .").split()[: max(room, 0)]
        room -= len(words)
        if words:
            left.append(words)
    return left or [title.split()[: LENGTH - 2]]


def test_a_batch_names_the_sentences_of_its_papers(opened):
    found = examples(opened)
    batch = found.batch(np.arange(30), 0, 0)
    parts = batch.rows.ids.split(batch.rows.lengths.tolist())
    at = 0
    decode = opened.reading.tokenizer.hf.decode
    for paper, part, count in zip(
        papers_of(batch, found.tokens), parts, batch.sentences.counts.tolist(), strict=True
    ):
        told = []
        for start, size in zip(
            batch.sentences.starts[at : at + count].tolist(),
            batch.sentences.lengths[at : at + count].tolist(),
            strict=True,
        ):
            decoded = decode(part[start : start + size]).replace(" .", ".")  # as transformers 5
            told.append(decoded.replace(".", " .").split())
        at += count
        assert told == sentences_left(opened, paper)
    assert at == len(batch.sentences.starts)


@pytest.mark.parametrize("align", ["none", "context", "abstract"])
@pytest.mark.parametrize("negatives", ["derangement", "randperm"])
def test_who_meets_whom_and_what_is_aligned_in_plain_loops(opened, align, negatives):
    found = examples(opened, align=align, negatives=negatives)
    documents = CocitationSampling(negatives).open(opened.corpus, opened.reading, None)
    rows = np.asarray(read_alignment(opened.corpus, "random", "train"))
    for step in range(6):
        indices = np.random.default_rng(step).permutation(found.train)[:14]
        batch = found.batch(indices, 2, step)
        papers = papers_of(batch, found.tokens)
        pairs = [
            (papers[a], papers[p])
            for a, p in zip(batch.anchor.tolist(), batch.positive.tolist(), strict=True)
        ]
        assert pairs == [tuple(p) for p in flipped(found.pairs[indices], indices, 3, 2).tolist()]
        # The negatives of co-cited papers without sentences.
        assert torch.equal(batch.negative, documents.batch(indices, 2, step).negative)
        want = []
        for (a, p), index in zip(pairs, indices, strict=True):
            row = rows[index].tolist()
            i, j = row[:2] if align == "context" and row[0] >= 0 else row[2:]
            if (a, p) != tuple(found.pairs[index]):
                i, j = j, i
            last = [len(sentences_left(opened, paper)) - 1 for paper in (a, p)]
            want.append([-1, -1] if align == "none" else [min(i, last[0]), min(j, last[1])])
        assert batch.aligned.tolist() == want
        for row, other in enumerate(batch.negative.tolist()):
            count = len(sentences_left(opened, pairs[other][1])) if other >= 0 else 0
            assert batch.negative_count[row] == count
            assert batch.negative_aligned[row].tolist() == (want[other] if other >= 0 else [-1, -1])
        assert batch.most == max(len(sentences_left(opened, p)) for pair in pairs for p in pair)


def test_a_pair_without_a_negative_has_none_of_its_sentences(opened):
    found = examples(opened, align="abstract")
    batch = found.batch(np.array([5]), 0, 0)
    assert batch.negative.tolist() == [-1]
    assert batch.negative_count.tolist() == [0]
    assert batch.negative_aligned.tolist() == [[-1, -1]]


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_step_is_the_same_however_many_ranks_share_it(opened, ranks):
    found = examples(opened, align="context")
    indices = np.random.default_rng(0).permutation(found.train)[:12]
    whole = found.batch(indices, 1, 5)
    size = 12 // ranks
    parts = [found.batch(indices, 1, 5, slice(r * size, (r + 1) * size)) for r in range(ranks)]
    for name in ("negative", "negative_count", "aligned", "negative_aligned"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
    assert {p.most for p in parts} == {whole.most}

    def papers(batch, rows):
        named = papers_of(batch, found.tokens)
        return [named[row] for row in rows.tolist()]

    for name in ("anchor", "positive"):
        together = [paper for p in parts for paper in papers(p, getattr(p, name))]
        assert together == papers(whole, getattr(whole, name))


def test_held_out_papers_come_with_their_sentences(opened):
    found = examples(opened)
    seen = []
    for rank in range(2):
        items = found.dev_items(rank, 2)
        for i in range(len(items)):
            batch = items[i]
            assert len(batch.sentences.counts) == len(batch.rows)
            papers = found.dev_papers[batch.slots.numpy()]
            left = [len(sentences_left(opened, paper)) for paper in papers]
            assert batch.sentences.counts.tolist() == left
            seen += batch.slots.tolist()
    assert sorted(seen) == list(range(found.dev.papers))
    documents = CocitationSampling().open(opened.corpus, opened.reading, None)
    assert len(found.dev) == len(documents.dev) > 0


def test_what_is_missing_is_counted_and_told(opened):
    found = examples(opened, align="context")
    titles = {p for p in found.pairs.ravel().tolist() if not opened.texts[p][1]}
    assert found.notes[0].startswith(f"{len(titles)} papers of the pairs have no abstract")
    assert found.notes[1].startswith(f"20 of {found.train} pairs have no citing sentence")
    assert len(examples(opened, align="abstract").notes) == 1


def test_opened_pairs_are_sent_without_their_tokens_and_known_by_their_alignment(opened):
    found = examples(opened, align="context")
    again = pickle.loads(pickle.dumps(found))
    one, other = (e.batch(np.arange(6), 0, 0) for e in (found, again))
    assert torch.equal(one.rows.ids, other.rows.ids)
    assert torch.equal(one.sentences.starts, other.sentences.starts)
    prints = [
        examples(opened, **settings).fingerprint
        for settings in (
            *({}, {"align": "context"}, {"align": "abstract"}),
            *({"negatives": "randperm"}, {"align": "context", "aligned_by": "random"}),
        )
    ]
    assert prints[1] == prints[4] == found.fingerprint
    assert len(set(prints)) == 4


@pytest.fixture
def own(opened, tmp_path):
    """A copy of the corpus that a test may break."""
    shutil.copytree(opened.corpus.folder, tmp_path / "c")
    return SimpleNamespace(corpus=Corpus.open(tmp_path / "c"), reading=opened.reading)


def test_the_fingerprint_changes_with_a_single_alignment(own):
    before = examples(own, align="abstract").fingerprint
    path = alignment_folder(own.corpus, "random") / "train.npy"
    rows = np.load(path)
    rows[7, 3] += 1
    np.save(path, rows)
    assert examples(own, align="abstract").fingerprint != before


def test_a_missing_or_broken_alignment_is_refused(own, tiny_bert):
    folder = alignment_folder(own.corpus, "random")
    with pytest.raises(UserError, match=r"no alignment of .*random.*no folder of a model"):
        examples(own, align="context", aligned_by="nobody")
    with pytest.raises(UserError, match=rf"train align {own.corpus.folder} --model {tiny_bert}"):
        examples(own, align="context", aligned_by=str(tiny_bert))
    shutil.copytree(folder, folder.parent / "second")
    with pytest.raises(UserError, match=r"several alignments .*random, second"):
        examples(own, align="context")
    shutil.rmtree(folder.parent / "second")
    rows = np.load(folder / "train.npy")
    np.save(folder / "train.npy", rows[:-1])
    with pytest.raises(UserError, match=r"shape is \(79, 4\), and \(80, 4\)"):
        examples(own, align="context")
    rows[:, :2] = -1
    np.save(folder / "train.npy", rows)
    with pytest.raises(UserError, match="no citing sentence of any of its 80 pairs"):
        examples(own, align="context")
    assert examples(own, align="abstract").train == 80
    (folder / "train.npy").unlink()
    with pytest.raises(UserError, match="damaged"):
        examples(own, align="abstract")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"holds no alignment.*`train align .* --model FOLDER`"):
        examples(own, align="abstract")
    shutil.rmtree(own.corpus.folder / "sentenced_tokens")
    with pytest.raises(UserError, match="--sentence-tokens"):
        examples(own)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("align", "contexts", "none, context, abstract"),
        ("negatives", "all", "derangement, randperm"),
        ("aligned_by", "folder", "nothing is aligned"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(key, value, said):
    settings = SentencePairSampling()
    object.__setattr__(settings, key, value)  # past the types that the tests check first
    with pytest.raises(UserError, match=rf"data\.sampling\.{key} is '{value}'.*{said}"):
        settings.__post_init__()


def test_files_that_say_nothing_of_cocitation_are_refused():
    with pytest.raises(UserError, match="cited together"):
        SentencePairSampling.check_raw({"papers": "p"}, "auto")
    with pytest.raises(UserError, match=r"data\.pairs is not used"):
        SentencePairSampling.check_raw({"papers": "p", "contexts": "c", "pairs": "t"}, "auto")
