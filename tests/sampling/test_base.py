from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    fingerprint,
    format_example,
    named_class,
)
from sciembed_train.sampling.plan import Plan
from sciembed_train.sampling.spans import SpanSampling


class Bare(Examples):
    """What a class must have at least."""

    name, train, fingerprint, dev = "spans", 20, "0" * 16, ()

    def batch(self, indices, epoch, step, share=slice(None)):
        return None

    def dev_items(self, rank, world_size):
        return []

    def describe(self, corpus, plan, count):
        return []


class Asking(Bare):
    queries = np.repeat(np.arange(5), 4)


def test_examples_fill_steps_once_an_epoch_unless_they_plan_themselves():
    assert isinstance(Bare(), Examples)
    assert Bare().plan(4, 7, 2) == Plan(20, 4, 7, 2)
    assert Bare().notes == ()
    assert Bare().min_batch_size == 1


def test_only_examples_with_queries_can_be_grouped():
    with pytest.raises(UserError, match=r"data\.group_by_query keeps .* gives spans"):
        Bare().plan(4, 0, by_query=True)
    plan = Asking().plan(4, 0, by_query=True)
    assert len(np.unique(Asking.queries[plan.indices(0)])) == 1


def test_a_sampling_needs_no_alignment_unless_it_names_a_model():
    sampling = SpanSampling()
    assert sampling.alignment_model(Corpus(Path("corpus"), {})) == ""
    assert sampling.with_alignment("name") is sampling


def test_a_fingerprint_changes_with_sources_facts_and_examples():
    def digits(source="a", fact="key", row=1):
        corpus = Corpus(Path("corpus"), {"sources": [{"sha256": source}]})
        return fingerprint(corpus, [fact], np.array([[row, 2]]))

    assert digits() == digits()
    assert len(digits()) == 16
    assert len({digits(), digits(source="b"), digits(fact="other"), digits(row=3)}) == 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.Thing", "cannot be imported"),
        ("sciembed_train.sampling.base.Nothing", "cannot be imported"),
        ("sciembed_train.sampling.plan.Plan", "is no Sampling"),
    ],
)
def test_a_class_path_that_names_no_sampling_is_refused(path, message):
    with pytest.raises(UserError, match=message):
        named_class(path, Sampling)


def decode(ids):
    return " ".join(f"w{token}" for token in ids)


def test_an_example_is_a_title_its_texts_and_notes():
    texts = (
        TextDescription("anchor", [1, 2, 3], source="p7", details=("cut from 9",)),
        TextDescription("positive", list(range(100, 140))),
    )
    example = ExampleDescription("triplet 1,200", texts, ("2 tokens are masked",))
    lines = format_example(example, decode).splitlines()
    assert lines[:3] == ["triplet 1,200", "  anchor: p7 (3 tokens, cut from 9)", "    w1 w2 w3"]
    assert lines[3] == "  positive (40 tokens)"
    wrapped = lines[4:-1]
    assert len(wrapped) > 1
    assert all(line.startswith("    w") and len(line) <= 96 for line in wrapped)
    assert " ".join(line.strip() for line in wrapped) == decode(range(100, 140))
    assert lines[-1] == "  2 tokens are masked"


def test_sentences_are_listed_below_what_comes_before_them_and_one_is_marked():
    sentences = (slice(2, 4), slice(4, 5))
    text = TextDescription("anchor", [1, 2, 3, 4, 5], "", ("2 sentences",), sentences, marked=1)
    shown = """\
        pair 3
          anchor (5 tokens, 2 sentences)
            w1 w2
             - w3 w4
            => w5"""
    assert format_example(ExampleDescription("pair 3", (text,)), decode) == dedent(shown)
