import json

import pyarrow.parquet as pq
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.citations.citing_sentences import (
    CitingSentence,
    candidate_ids,
    citing_sentences,
    split_sentences,
)
from sciembed_train.corpus.fulltext.fulltext_records import Fulltext, Paragraph, read_fulltext
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.errors import UserError


def spans(text, **marks):
    """The offsets of every place where a mark stands."""
    result = []
    for reference, mark in marks.items():
        start = -1
        while (start := text.find(mark, start + 1)) >= 0:
            result.append({"start": start, "end": start + len(mark), "ref_id": reference})
    return result


def citing(text, cite_spans, shape="s2orc"):
    return list(citing_sentences(Fulltext(shape, "p", "", [], [Paragraph("", text, cite_spans)])))


def test_a_sentence_cites_what_is_marked_within_it_and_nothing_else():
    text = "First, we know A (Roe, 2000) and B [2]. Others do not. Then see [2], see [3]. The end."
    result = citing(text, spans(text, a="(Roe, 2000)", b="[2]", c="[3]"))
    assert result == [
        CitingSentence("First, we know A [CIT] and B [CIT].", ("a", "b"), "", "Others do not."),
        CitingSentence("Then see [CIT], see [CIT].", ("b", "c"), "Others do not.", "The end."),
    ]


def test_the_text_of_a_mark_elsewhere_is_no_citation():
    # The substring test of the original would take the second sentence for citing b too.
    text = "It was shown in [1]. The interval [1] is closed, see [2]."
    result = citing(text, [{"start": 16, "end": 19, "ref_id": "a"}, *spans(text, b="[2]")])
    assert [(c.text, c.references) for c in result] == [
        ("It was shown in [CIT].", ("a",)),
        ("The interval [1] is closed, see [CIT].", ("b",)),
    ]


def test_marks_that_stand_together_are_one_mark_of_all_their_works():
    text = "So it is said [1], [2] ;[3] and again [1] too."
    (result,) = citing(text, spans(text, a="[1]", b="[2]", c="[3]"))
    assert result.text == "So it is said [CIT] and again [CIT] too."
    assert result.references == ("a", "b", "c")


def test_a_raised_mark_after_the_stop_belongs_to_the_sentence_before():
    text = "This has long been known.1,2 The next cites none. What of it? 3 Nothing."
    marks = [{"start": 25, "end": 26, "ref_id": "a"}, {"start": 27, "end": 28, "ref_id": "b"}]
    result = citing(text, [*marks, *spans(text, c="3")])
    assert [(c.text, c.references) for c in result] == [
        ("This has long been known [CIT].", ("a", "b")),
        ("What of it [CIT]?", ("c",)),
    ]


def test_no_sentence_ends_at_an_abbreviation_before_a_mark():
    text = "As Roe et al. [1] say, and Fig. 2 of [2] shows, i.e. once. A new one of Doe et al. [3]."
    result = citing(text, spans(text, a="[1]", b="[2]", c="[3]"))
    assert [c.references for c in result] == [("a", "b"), ("c",)]
    assert result[1].text == "A new one of Doe et al. [CIT]."


def test_markers_of_arxiv_become_marks_and_formulas_stay_readable():
    one, two = "{{cite:" + "a" * 40 + "}}", "{{cite:" + "b" * 40 + "}}"
    text = (
        f"Let {{{{formula:f1}}}} be as in [{one}, {two}].\nNow {{{{figure:x}}}} is as {one} says."
    )
    cites = spans(text, A=one, B=two)
    paragraph = Paragraph("", text, cites, {"f1": r"\beta _i"})
    result = list(citing_sentences(Fulltext("unarxive", "p", "", [], [paragraph])))
    assert [(c.text, c.references) for c in result] == [
        ("Let β_i be as in [CIT].", ("A", "B")),
        ("Now is as [CIT] says.", ("A",)),
    ]


@pytest.mark.parametrize(
    "span",
    [
        {"start": 5, "end": 3, "ref_id": "a"},
        {"start": -1, "end": 3, "ref_id": "a"},
        {"start": 0, "end": 300, "ref_id": "a"},
        {"start": None, "end": 3, "ref_id": "a"},
        {"start": 0.0, "end": 3, "ref_id": "a"},
        {"ref_id": "a"},
        "no span",
    ],
)
def test_a_span_without_sound_offsets_is_no_mark(span):
    assert citing("Some text that cites.", [span]) == []


def test_a_mark_without_an_entry_is_told_apart():
    text = "A text [1] and [2]."
    (result,) = citing(text, [{**spans(text, x="[1]")[0], "ref_id": None}, *spans(text, b="[2]")])
    assert result.references == (None, "b")


def test_overlapping_marks_are_taken_once():
    text = "A text (Roe, 2000; Doe, 2001) cites."
    outer = {"start": 7, "end": 29, "ref_id": "a"}
    inner = {"start": 19, "end": 28, "ref_id": "b"}
    assert [c.references for c in citing(text, [inner, outer])] == [("a",)]


def test_the_sentences_joined_are_the_text():
    text = "One (see here. Or there). Two, e.g. this. qPCR is small. (Three.) Four? Five!"
    assert " ".join(split_sentences(text)) == text
    assert split_sentences("") == []


def test_a_paragraph_of_very_many_marks_keeps_who_cites_what():
    text = " ".join(f"Sentence {i} is here [{i}]." for i in range(3000))
    marks = spans(text, **{f"r{i}": f"[{i}]" for i in range(3000)})
    result = citing(text, marks)
    assert [c.references for c in result] == [(f"r{i}",) for i in range(3000)]


def test_ids_of_a_bibliography_are_those_of_the_parse_whose_body_is_read():
    row = {
        "paper_id": "1",
        "latex_parse": {"body_text": [], "bib_entries": {"b0": {"links": "wrong"}}},
        "grobid_parse": {
            "body_text": [{"text": "t"}],
            "bib_entries": {
                "b0": {"links": "77", "other_ids": {"doi": ["10.1/x"], "arXiv": ["2201.1"]}},
                "b1": {"link": 5},
                "b2": {"links": None, "other_ids": {}},
                "b3": "damaged",
            },
        },
    }
    assert candidate_ids(row) == {"b0": ["77", "10.1/x", "2201.1"], "b1": ["5"], "b2": []}
    ids = {"open_alex_id": "https://openalex.org/W1", "doi": "", "arxiv_id": "2201.2"}
    row = {"body_text": [], "bib_entries": {"h": {"ids": ids}, "g": {"bib_entry_raw": "Roe"}}}
    assert candidate_ids(row) == {"h": ["https://openalex.org/W1", "W1", "2201.2"], "g": []}
    assert candidate_ids({"text": "plain"}) == {}


def write_fulltexts(folder):
    """Two S2ORC records, the second in arXiv's shape, and the papers that they cite."""
    text = (
        "We follow others here [1] and there [2]. Only one is cited now [1]. And [3], [2], [4] are."
    )
    s2orc = {
        "paper_id": "s1",
        "title": "A record",
        "abstract": [],
        "body_text": [
            {"text": text, "cite_spans": spans(text, b1="[1]", b2="[2]", b3="[3]", none="[4]")}
        ],
        "bib_entries": {"b1": {"link": "11"}, "b2": {"link": "22"}, "b3": {"link": None}},
    }
    one, two = "{{cite:" + "a" * 40 + "}}", "{{cite:" + "b" * 40 + "}}"
    text = f"It is in this way that {one} and also {two} do it. Both {one} and {two}."
    ids = {"arxiv_id": "22", "open_alex_id": "https://openalex.org/W33", "doi": "10.1/z"}
    arxiv = {
        "paper_id": "s2",
        "metadata": {"title": "Another"},
        "abstract": {"section": "Abstract", "text": "An abstract."},
        "body_text": [{"section": "", "text": text, "cite_spans": spans(text, A=one, B=two)}],
        "bib_entries": {"A": {"ids": ids}, "B": {"ids": {"doi": "10.1/11", "arxiv_id": "11"}}},
        "ref_entries": {},
    }
    (folder / "full.jsonl").write_text(json.dumps(s2orc) + "\n" + json.dumps(arxiv) + "\n")
    papers = [{"paper_id": i, "title": f"title {i}"} for i in ("11", "22", "W33")]
    (folder / "papers.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))


def asked(folder, **values):
    held_out = {"dev_share": 0.0, "test_share": 0.0}
    mining = {"cocitation_mining": CocitationMining(cocitations_from="fulltexts")}
    files = {"fulltexts": folder / "full.jsonl", "to": folder / "corpus"}
    return PrepareSettings(folder / "papers.jsonl", **(files | held_out | mining | values))


def test_contexts_of_full_texts_are_mined_with_what_was_left_out(tmp_path):
    write_fulltexts(tmp_path)
    corpus = prepare(asked(tmp_path))
    assert corpus.cocitations("train").tolist() == [[0, 1]]
    assert corpus.cocitation_counts("train").tolist() == [2]
    assert corpus.n_documents == 2
    rows = pq.read_table(corpus.folder / "contexts.parquet").to_pylist()
    assert sorted((r["citing_id"], r["text"], r["after"], r["place"]) for r in rows) == [
        (
            "s1",
            "We follow others here [CIT] and there [CIT].",
            "Only one is cited now [CIT].",
            "full.jsonl:1",
        ),
        (
            "s2",
            "It is in this way that [CIT] and also [CIT] do it.",
            "Both [CIT] and [CIT].",
            "full.jsonl:2",
        ),
    ]
    report = json.loads((corpus.folder / "report.json").read_text())
    dropped = {reason: d["count"] for reason, d in report["contexts"]["dropped"].items()}
    assert dropped == {"cites one paper only": 2, "fewer than 5 words (min_words)": 1}
    left = report["co-cited pairs"]["citations of full texts that name no paper"]
    assert {reason: d["count"] for reason, d in left.items()} == {
        "a bibliography entry without an id": 1,
        "a citation mark without a bibliography entry": 1,
    }


def test_full_texts_whose_citations_name_no_paper_are_refused_with_numbers(tmp_path):
    write_fulltexts(tmp_path)
    (tmp_path / "papers.jsonl").write_text('{"paper_id": "other", "title": "t"}\n')
    with pytest.raises(UserError) as error:
        prepare(asked(tmp_path))
    message = str(error.value)
    assert "Cited papers left out of contexts: 8: unknown paper." in message
    assert "1: a citation mark without a bibliography entry" in message
    assert not (tmp_path / "corpus").exists()


def test_full_texts_for_contexts_need_their_papers_and_stand_alone(tmp_path):
    write_fulltexts(tmp_path)
    with pytest.raises(UserError, match="give --fulltexts, and --papers with the texts"):
        asked(tmp_path, fulltexts=None)
    with pytest.raises(UserError, match="give one of them"):
        asked(tmp_path, contexts="c.jsonl")


def test_a_plain_document_cites_nothing():
    record = read_fulltext({"text": "A text that cites (Roe, 2000)."})
    assert isinstance(record, Fulltext)
    assert list(citing_sentences(record)) == []
