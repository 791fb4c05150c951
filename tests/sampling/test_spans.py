import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.batch import SpanBatch
from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, save_documents, save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS
from sciembed_train.corpus.store.token_store_writing import write_document_store
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import Examples, TokenizationSpec
from sciembed_train.sampling.span_positions import TRAIN, Rule, uniforms
from sciembed_train.sampling.span_slicing import Slices, span_batch
from sciembed_train.sampling.spans import SpanSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

LENGTHS = [300, 80, 5, 1000, 90, 64, 300, 16, 700, 79, 120, 640, 100, 81, 400, 95]
DEV = [3, 6, 7, 12]
TRAINING = [d for d in range(len(LENGTHS)) if d not in DEV]
SMALL = SpanSampling(max_span=20, min_span=4)  # 2 anchors: documents of 80 tokens


@pytest.fixture(scope="module")
def reading(tiny_bert):
    return TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 128, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, reading):
    """Documents of which every word is one token."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    texts = [" ".join(f"word{i}" for i in random.integers(0, 200, n)) for n in LENGTHS]
    (folder / "documents").mkdir()
    for split, numbers in (("train", TRAINING), ("dev", DEV), ("test", [])):
        save_documents(folder, split, np.array(numbers, dtype=np.int32))
    key = reading.tokenizer.document_key
    write_document_store(folder / "document_tokens" / key, reading.tokenizer, texts)
    counts = {"papers": 0, "documents": len(LENGTHS)}
    save_info(folder, {"version": CORPUS_VERSION, "counts": counts, "sources": [{"sha256": "a"}]})
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def store(corpus, reading):
    return corpus.tokens(reading.tokenizer.document_key, DOCUMENT_TOKENS)


def rows(batch):
    """The ids of each row, with the hidden tokens put back."""
    ids = batch.rows.ids.clone()
    ids[batch.masked] = batch.labels
    return [row.tolist() for row in ids.split(batch.rows.lengths.tolist())]


def as_seen(batch):
    return [row.tolist() for row in batch.rows.ids.split(batch.rows.lengths.tolist())]


def assert_same(found, expected):
    for field in fields(SpanBatch):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "rows":
            assert torch.equal(one.ids, other.ids)
            assert torch.equal(one.lengths, other.lengths)
        elif isinstance(one, torch.Tensor):
            assert torch.equal(one, other), field.name
        else:
            assert one == other, field.name


def of_document(batch, number):
    """All that a batch says of one of its documents: rows as seen, labels, positions in rows."""
    each = len(batch.anchor) // len(batch)
    seen = as_seen(batch)
    starts = (batch.rows.lengths.cumsum(0) - batch.rows.lengths).tolist()
    hidden = dict(zip(batch.masked.tolist(), batch.labels.tolist(), strict=True))
    found = []
    for i in range(number * each, (number + 1) * each):
        for row in (int(batch.anchor[i]), *batch.positive[i].tolist()):
            labels = [
                (at - starts[row], label)
                for at, label in hidden.items()
                if starts[row] <= at < starts[row] + len(seen[row])
            ]
            found.append((seen[row], labels))
    return found


def test_a_batch_holds_the_slices_that_the_rule_says(corpus, reading, store):
    examples = SMALL.open(corpus, reading, None)
    assert isinstance(examples, Examples)
    assert isinstance(store, Slices)
    indices = np.array([4, 0, 7])
    batch = examples.batch(indices, epoch=2, step=11)
    assert (len(batch), batch.documents, batch.step, batch.first) == (3, 3, 11, 0)
    documents = examples.documents[indices].astype(np.int64)
    draws = uniforms(3, TRAIN, 2, documents, SMALL.rule.uniforms)
    starts, lengths, near, sizes = SMALL.rule.spans(
        store.lengths[documents].astype(np.int64), draws
    )
    found = rows(batch)
    assert len(found) == 3 * 2 * 3
    for b, document in enumerate(documents.tolist()):
        ids, _ = store.rows(np.array([document]), 10_000)
        body = ids[1:-1].tolist()
        for i in range(2):
            start, length = int(starts[b, i]), int(lengths[b, i])
            anchor = 2 * b + i
            assert found[int(batch.anchor[anchor])] == [2, *body[start : start + length], 3]
            for j in range(2):
                start, length = int(near[b, i, j]), int(sizes[b, i, j])
                assert found[int(batch.positive[anchor, j])] == [
                    2,
                    *body[start : start + length],
                    3,
                ]


def test_spans_have_no_prompt(corpus, reading):
    prompted = replace(reading, input_format=InputFormat(prompt="passage: "))
    with pytest.raises(UserError, match=r"input_format.prompt is 'passage: '. Set it to ''"):
        SMALL.open(corpus, prompted, None)


def test_only_anchors_are_masked_and_their_special_tokens_never(corpus, reading):
    sampling = replace(SMALL, mlm_probability=0.5)
    batch = sampling.open(corpus, reading, None).batch(np.arange(8), 0, 0)
    of_row = torch.repeat_interleave(torch.arange(len(batch.rows)), batch.rows.lengths)
    assert len(batch.masked) > 50
    assert set(of_row[batch.masked].tolist()) <= set(batch.anchor.tolist())
    assert (batch.masked.diff() > 0).all()
    assert (batch.labels >= 5).all()
    for row in as_seen(batch):
        assert (row[0], row[-1]) == (2, 3)
    changed = batch.rows.ids[batch.masked] != batch.labels
    assert 0.5 < changed.float().mean() < 1
    assert reading.tokenizer.mask_id in batch.rows.ids.tolist()


def test_masked_copies_of_whole_anchors_are_rows_of_their_own(corpus, reading):
    indices = np.array([5, 1, 2])
    together = SMALL.open(corpus, reading, None).batch(indices, 1, 0)
    apart = replace(SMALL, mask_anchor_for_contrastive=False).open(corpus, reading, None)
    apart = apart.batch(indices, 1, 0)
    anchors = len(together.anchor)
    seen = as_seen(apart)
    assert len(seen) == len(together.rows) + anchors
    named = {*apart.anchor.tolist(), *apart.positive.flatten().tolist()}
    copies = [row for row in range(len(seen)) if row not in named]
    # Whole anchors and positives, then what was seen of the anchors where they are masked.
    assert seen[: len(together.rows)] == rows(together)
    assert [seen[row] for row in copies] == as_seen(together)[:anchors]
    assert torch.equal(apart.labels, together.labels)
    assert rows(apart)[-anchors:] == rows(together)[:anchors]


def test_without_a_language_model_nothing_is_masked(corpus, reading):
    batch = (
        replace(SMALL, mlm_probability=0.0).open(corpus, reading, None).batch(np.arange(4), 1, 0)
    )
    assert batch.masked.shape == batch.labels.shape == (0,)
    with_mlm = SMALL.open(corpus, reading, None).batch(np.arange(4), 1, 0)
    assert as_seen(batch) == rows(with_mlm)  # and the spans are the same


@pytest.mark.parametrize("together", [True, False])
def test_a_language_model_alone_has_masked_anchors_and_nothing_else(corpus, reading, together):
    sampling = replace(SMALL, num_positives=0, mask_anchor_for_contrastive=together)
    examples = sampling.open(corpus, reading, None)
    for batch in (examples.batch(np.arange(4), 1, 0), examples.dev_items(0, 1)[0]):
        assert batch.positive.shape == (len(batch.anchor), 0)
        assert len(batch.rows) == len(batch.anchor) == 2 * len(batch)
        assert len(batch.masked)


def test_spans_longer_than_the_encoder_reads_lose_their_tail(corpus, reading):
    whole = SMALL.open(corpus, reading, None)
    short = SMALL.open(corpus, replace(reading, max_length=14), None)
    indices = np.arange(whole.train)
    for long, cut in zip(
        rows(whole.batch(indices, 0, 0)), rows(short.batch(indices, 0, 0)), strict=True
    ):
        assert cut == [*long[:-1][:13], 3]
    assert short.notes[-1] == (
        "Spans have up to 20 tokens and the encoder reads 14: the longer ones lose their tail."
    )
    assert not any("tail" in note for note in whole.notes)
    with pytest.raises(UserError, match=r"max_length must be above the 2 special tokens; got 2"):
        SMALL.open(corpus, replace(reading, max_length=2), None)


@given(st.permutations(range(9)), st.integers(1, 9), st.integers(0, 3), st.sampled_from([0.0, 0.3]))
@settings(max_examples=40, deadline=None)
def test_a_documents_spans_and_masks_are_the_same_in_every_company(store, order, few, epoch, p):
    documents = np.array([d for d in TRAINING if LENGTHS[d] >= 80])[list(order)]
    masking = None
    if p:
        from sciembed_train.sampling.token_masking import Masking

        masking = Masking(p, 4, np.arange(store.info["vocab_size"]) < 5)
    rule = Rule(2, 2, 20, 4, "any")

    def batch(some):
        return span_batch(store, some, rule, masking, 126, key=(5, TRAIN, epoch), step=0)

    alone = [of_document(batch(documents[i : i + 1]), 0) for i in range(few)]
    together = batch(documents)
    assert [of_document(together, i) for i in range(few)] == alone


def test_ranks_together_have_what_one_process_has(corpus, reading):
    examples = SMALL.open(corpus, reading, None)
    indices = np.array([8, 3, 0, 6, 1, 5])
    one = examples.batch(indices, 4, 7)
    for world in (1, 2, 3):
        shares = indices.reshape(world, -1)
        together = [
            of_document(examples.batch(share, 4, 7), i)
            for share in shares
            for i in range(len(share))
        ]
        assert together == [of_document(one, i) for i in range(6)]


def test_epochs_seeds_and_documents_differ(corpus, reading):
    indices = np.arange(3)
    seen = set()
    for seed in (0, 1):
        examples = SMALL.open(corpus, replace(reading, seed=seed), None)
        for epoch in (0, 1):
            batch = examples.batch(indices, epoch, 0)
            assert_same(examples.batch(indices, epoch, 0), batch)
            for document in range(3):
                seen.add(str(of_document(batch, document)))
    assert len(seen) == 12


def test_the_held_out_items_are_the_same_for_every_seed_and_cover_every_document(corpus, reading):
    examples = SMALL.open(corpus, reading, None)
    assert examples.dev_documents.tolist() == [3, 6, 12]
    assert (len(examples.dev), examples.dev.anchors, examples.dev.positives) == (3, 2, 2)
    item = examples.dev_items(0, 1)[0]
    assert (item.step, item.first, len(item)) == (-1, 0, 3)
    # Anchors are whole and masked copies apart, whatever training does.
    assert len(item.rows) == 3 * 2 * 4
    of_row = torch.repeat_interleave(torch.arange(len(item.rows)), item.rows.lengths)
    assert of_row[item.masked].min() >= 3 * 2 * 3
    other = replace(SMALL, mask_anchor_for_contrastive=False)
    other = other.open(corpus, replace(reading, seed=77), None)
    assert_same(other.dev_items(0, 1)[0], item)
    assert as_seen(item)[:6] != rows(examples.batch(np.arange(3), 0, 0))[:6]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_the_held_out_items(corpus, reading, monkeypatch, world):
    monkeypatch.setattr("sciembed_train.sampling.spans.ITEM_DOCUMENTS", 1)
    examples = SMALL.open(corpus, reading, None)
    items = [list(examples.dev_items(rank, world)) for rank in range(world)]
    assert [len(i) for i in items] == [len(range(rank, 3, world)) for rank in range(world)]
    assert sorted(item.first for of_rank in items for item in of_rank) == [0, 1, 2]
    monkeypatch.undo()
    whole = examples.dev_items(0, 1)[0]
    for item in (item for of_rank in items for item in of_rank):
        assert of_document(item, 0) == of_document(whole, item.first)


def test_held_out_items_are_bounded_by_tokens(corpus, reading, monkeypatch):
    monkeypatch.setattr("sciembed_train.sampling.spans.ITEM_TOKENS", 2 * 4 * 20 * 2)
    examples = SMALL.open(corpus, reading, None)
    assert [(i.first, len(i)) for i in examples.dev_items(0, 1)] == [(0, 2), (2, 1)]


def test_a_limit_takes_a_fixed_choice_of_held_out_documents(corpus, reading):
    two = SMALL.open(corpus, reading, 2).dev_documents.tolist()
    again = SMALL.open(corpus, replace(reading, seed=9), 2).dev_documents.tolist()
    assert two == again == sorted(two)
    assert len(two) == 2
    assert set(two) < {3, 6, 12}


def test_short_documents_are_left_out_and_counted(corpus, reading):
    examples = SMALL.open(corpus, reading, None)
    kept = [d for d in TRAINING if LENGTHS[d] >= 80]
    assert examples.documents.tolist() == kept
    assert examples.train == len(kept) == 9
    assert examples.name == "documents"
    assert examples.notes == (
        "3 of 12 training documents are shorter than 80 tokens (2 x num_anchors x max_span) and "
        "are left out; data.sampling.init_args.short_documents=adapt would use 2 of them.",
        "1 of 4 held-out documents are shorter than 80 tokens (2 x num_anchors x max_span) and "
        "are left out; data.sampling.init_args.short_documents=adapt would use 1 of them.",
    )


def test_adapting_takes_documents_down_to_the_shortest_spans(corpus, reading):
    sampling = replace(SMALL, short_documents="adapt")
    assert sampling.shortest_document == 16
    examples = sampling.open(corpus, reading, None)
    assert examples.documents.tolist() == [d for d in TRAINING if LENGTHS[d] >= 16]
    assert examples.notes == (
        "1 of 12 training documents are shorter than 16 tokens (2 x num_anchors x min_span) and "
        "are left out.",
    )
    examples.batch(np.arange(examples.train), 0, 0)
    assert len(examples.dev_items(0, 1)[0]) == 4
    # A document that is long enough has the spans that it has without adapting.
    document = [d for d in TRAINING if LENGTHS[d] >= 16].index(8)
    plain = SMALL.open(corpus, reading, None)
    same = plain.batch(np.flatnonzero(plain.documents == 8), 3, 0)
    assert_same(examples.batch(np.array([document]), 3, 0), same)


def test_abstracts_of_150_tokens_train_with_the_published_numbers(corpus, reading):
    sampling = SpanSampling(short_documents="adapt")
    assert sampling.shortest_document == 128
    assert SpanSampling().shortest_document == 2048
    rule, n = sampling.rule, np.full(500, 150)
    starts, lengths, near, sizes = rule.spans(
        n, uniforms(0, TRAIN, 0, np.arange(500), rule.uniforms)
    )
    assert 32 <= lengths.min() <= lengths.max() <= 37
    assert (starts + lengths <= 150).all()
    assert (near + sizes <= 150).all()


def test_a_corpus_of_short_documents_is_refused_with_advice(corpus, reading):
    with pytest.raises(UserError) as caught:
        SpanSampling().open(corpus, reading, None)
    assert str(caught.value) == (
        f"Nothing to train on in {corpus.folder}: 12 of 12 training documents are shorter than "
        "2,048 tokens (2 x num_anchors x max_span); the longest has 700. "
        "data.sampling.init_args.short_documents=adapt would use 4 of them. Set "
        "data.sampling.init_args.max_span or data.sampling.init_args.num_anchors lower."
    )
    with pytest.raises(UserError, match=r"has 700\. Set .*min_span or .*num_anchors lower\.$"):
        SpanSampling(min_span=400, short_documents="adapt").open(corpus, reading, None)


class Split(Corpus):
    """A corpus of which only some documents are there."""

    def __init__(self, corpus, **splits):
        super().__init__(corpus.folder, corpus.info)
        self.splits = splits

    def documents(self, split):
        return np.array(self.splits.get(split, []), dtype=np.int32)


def test_a_corpus_without_training_documents_is_refused(corpus, reading):
    with pytest.raises(
        UserError, match=r"holds no training documents\. Prepare it with --fulltexts"
    ):
        SMALL.open(Split(corpus, dev=[3]), reading, None)


@pytest.mark.parametrize("dev", [[], [7]])
def test_without_a_held_out_document_there_is_no_validation(corpus, reading, dev):
    examples = SMALL.open(Split(corpus, train=[0], dev=dev), reading, None)
    assert len(examples.dev) == 0
    assert len(examples.dev_items(0, 1)) == 0


def test_a_single_held_out_anchor_is_said_to_measure_nothing(corpus, reading):
    for anchors, positives, said in ((1, 2, True), (2, 2, False), (1, 0, False)):
        sampling = replace(SMALL, num_anchors=anchors, num_positives=positives)
        examples = sampling.open(Split(corpus, train=[0], dev=[3]), reading, None)
        assert any("compared with nothing" in note for note in examples.notes) is said


def test_a_tokenizer_without_a_mask_token_is_refused_unless_nothing_is_masked(corpus, tiny_bert):
    tokenizer = TextTokenizer.load(tiny_bert)
    tokenizer.mask_id = None
    reading = TokenizationSpec(tokenizer, InputFormat(), 128, 0)
    with pytest.raises(UserError, match="has no mask token"):
        SMALL.open(corpus, reading, None)
    replace(SMALL, mlm_probability=0.0).open(corpus, reading, None).batch(np.arange(2), 0, 0)


def test_the_fingerprint_changes_with_what_decides_the_examples(corpus, reading):
    def of(sampling=SMALL, corpus=corpus, reading=reading):
        return sampling.open(corpus, reading, None).fingerprint

    changed = Corpus(corpus.folder, {**corpus.info, "sources": [{"sha256": "b"}]})
    found = {
        of(),
        of(replace(SMALL, num_anchors=1)),
        of(replace(SMALL, mlm_probability=0.2)),
        of(replace(SMALL, short_documents="adapt")),
        of(replace(SMALL, reproduce=True)),
        of(corpus=changed),
        of(corpus=Split(corpus, train=[0, 3])),
        of(reading=replace(reading, max_length=64)),
    }
    assert len(found) == 8
    assert of() in found
    assert all(len(f) == 16 and int(f, 16) >= 0 for f in found)
    assert of(reading=replace(reading, seed=8)) == of()  # compared by itself


def test_the_setting_reproduce_reaches_the_draws(corpus, reading):
    assert not SMALL.rule.reproduce
    assert replace(SMALL, reproduce=True).open(corpus, reading, None).rule.reproduce


def test_pickled_examples_give_the_same_batches_and_hold_no_tokens(corpus, reading, store):
    examples = SMALL.open(corpus, reading, None)
    before = examples.batch(np.arange(4), 1, 2)  # opens the shards
    pickled = pickle.dumps(examples)
    assert len(pickled) < 4000
    assert store.info["papers"] == len(LENGTHS)
    again = pickle.loads(pickled)
    assert_same(again.batch(np.arange(4), 1, 2), before)
    items = pickle.loads(pickle.dumps(examples.dev_items(0, 1)))
    assert_same(items[0], examples.dev_items(0, 1)[0])


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("num_anchors", 0, "1 or more"),
        ("num_positives", -1, "0 or more"),
        ("min_span", 0, "1 or more"),
        ("max_span", 31, "min_span=32 or more"),
        ("mlm_probability", 1.5, "from 0 to 1"),
        ("mlm_probability", "some", "from 0 to 1"),
        ("num_anchors", "two", "a whole number"),
        ("max_span", 64.5, "a whole number"),
        ("strategy", "adjasent", "any, adjacent or subsuming"),
        ("short_documents", True, "skip or adapt"),
    ],
)
def test_a_setting_out_of_range_is_named(key, value, rule):
    settings = SpanSampling()
    object.__setattr__(settings, key, value)  # past the types that the tests check first
    with pytest.raises(UserError) as caught:
        settings.__post_init__()
    assert str(caught.value) == f"data.sampling.init_args.{key} must be {rule}; got {value}."


def test_settings_that_teach_nothing_are_refused():
    with pytest.raises(UserError, match="nothing would be learned"):
        SpanSampling(num_positives=0, mlm_probability=0.0)


def test_it_is_prepared_from_full_texts_alone():
    SpanSampling.check_raw({"fulltexts": "f"}, "auto")
    with pytest.raises(UserError, match=r"--data\.fulltexts F"):
        SpanSampling.check_raw({}, "auto")
    with pytest.raises(UserError, match=r"data\.papers is not used"):
        SpanSampling.check_raw({"fulltexts": "f", "papers": "p"}, "auto")
