from textwrap import dedent

from sciembed_train.sampling.description import ExampleDescription, TextDescription, format_example


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
