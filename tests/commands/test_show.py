import json
import re

import numpy as np
import pytest

from sciembed_train.cli import main as train
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.cocitation_corpus import write_cocitation_corpus, write_sentence_corpus
from tests.helpers.paper_files import write_paper_files
from tests.helpers.small_corpus import small_papers, write_small_corpus
from tests.helpers.task_files import EIGHT, write_tasks


def test_triplets_are_shown_as_the_model_reads_them(tmp_path, tiny_bert, capsys):
    input_format = InputFormat(separator="space")
    corpus = write_small_corpus(tmp_path / "c", tiny_bert, input_format=input_format)
    (corpus.folder / "report.json").write_text("{}")
    (tmp_path / "r.yaml").write_text(
        f"data: {{batch_size: 8}}\nmodel: {{encoder: {{backbone: {tiny_bert}, max_length: 12, "
        "input_format: {separator: space}}}\n"
    )
    arguments = ["-c", str(tmp_path / "r.yaml"), "--data.corpus", str(corpus.folder)]
    assert train(["show", *arguments, "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert "the first of 100 training triplets in epoch 0, 12 steps of 8" in out
    assert out.count("triplet ") == 2
    assert out.count("anchor: p") == 2
    assert "12 tokens, cut from" in out
    tokenizer = TextTokenizer.load(tiny_bert)
    texts = [input_format.compose(p["title"], p["abstract"], "[SEP]") for p in small_papers(60)]
    reads = [tokenizer.hf.decode(ids) for ids in tokenizer.rows(texts, 12)]
    shown = [line.strip() for line in out.splitlines() if line.strip().startswith("[CLS]")]
    assert len(shown) == 6
    assert all(any(read.startswith(line) for read in reads) for line in shown)


def test_raw_files_are_prepared_and_what_was_dropped_is_told(
    tmp_path, tiny_bert, capsys, monkeypatch
):
    monkeypatch.setenv("SCIEMBED_CHECKPOINTS", str(tmp_path / "runs"))  # where fit looks too
    write_paper_files(tmp_path)
    arguments = ["--data.papers", str(tmp_path / "papers.jsonl"), "--count", "1"]
    arguments += ["--data.citations", str(tmp_path / "citations.csv")]
    arguments += ["--model.encoder.backbone", str(tiny_bert)]
    assert train(["show", *arguments]) == 0
    out = capsys.readouterr().out
    assert "papers: 120 of 120 rows used" in out
    assert "12: no title and no abstract: takes part in nothing, first at" in out
    assert "1: a paper citing itself, first at" in out
    (folder,) = (tmp_path / "runs" / ".cache").glob("*/corpus.json")
    counts = json.loads(folder.read_text())["counts"]["queries"]
    assert f"queries: train {counts['train']}, dev {counts['dev']}, test {counts['test']}" in out


def test_pairs_are_shown_with_whom_they_meet(tmp_path, tiny_bert, capsys):
    corpus = write_cocitation_corpus(tmp_path / "c", tiny_bert)
    (corpus.folder / "report.json").write_text("{}")
    (tmp_path / "r.yaml").write_text(
        "data:\n  batch_size: 8\n  sampling:\n"
        "    class_path: sciembed_train.sampling.cocitations.CocitationSampling\n"
        f"model: {{encoder: {{backbone: {tiny_bert}, max_length: 12}}}}\n"
    )
    arguments = ["-c", str(tmp_path / "r.yaml"), "--data.corpus", str(corpus.folder)]
    assert train(["show", *arguments, "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert "the first of 80 training pairs in epoch 0, 10 steps of 8" in out
    assert out.count("cited together 1 times") == 2
    assert out.count("negative, another pair's positive") == 2


def test_examples_of_every_task_are_shown_with_their_labels(tmp_path, tiny_bert, capsys):
    given = write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 40))
    sampling = "sciembed_train.sampling.tasks.TaskSampling"
    (tmp_path / "r.yaml").write_text(
        f"data: {{batch_size: 16, sampling: {{class_path: {sampling}}}}}\n"
        f"model: {{encoder: {{backbone: {tiny_bert}}}}}\n"
    )
    words = ["-c", str(tmp_path / "r.yaml"), "--data.tasks", str(given), "--count", "2"]
    assert train(["show", *words, "--cache", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    shown = re.findall(r"^task (\w+) \((\w+)\)", out, re.M)
    assert sorted({name for name, _ in shown}) == sorted(EIGHT)
    assert len(shown) == 16
    assert re.search(r"task mesh \(classification\): (biology|physics|history)\n", out)
    assert re.search(r"task cite_pred \(regression\): \d", out)
    assert re.search(r"anchor \(\d+ tokens, read for adhoc_query\)", out)
    assert re.search(r"negative \(\d+ tokens, read for proximity\)", out)
    assert "task s2and: " in out  # the account


def test_sentences_of_pairs_are_shown_and_which_say_alike(tmp_path, tiny_bert, capsys):
    corpus = write_sentence_corpus(tmp_path / "c", tiny_bert)
    (corpus.folder / "report.json").write_text("{}")
    (tmp_path / "r.yaml").write_text(
        "data:\n  batch_size: 80\n  sampling:\n"
        "    class_path: sciembed_train.sampling.sentence_pairs.SentencePairSampling\n"
        "    init_args: {align: abstract, aligned_by: random}\n"
        f"model: {{encoder: {{backbone: {tiny_bert}, pooling: sentences, max_length: 128}}}}\n"
    )
    arguments = ["-c", str(tmp_path / "r.yaml"), "--data.corpus", str(corpus.folder)]
    assert train(["show", *arguments, "--count", "80"]) == 0
    out = capsys.readouterr().out
    texts = dict(zip(corpus.paper_ids(), corpus.sentences(), strict=True))
    alignment = np.load(corpus.folder / "alignments" / "random" / "train.npy")
    blocks = out.replace("\n" + " " * 7, " ").split("\npair ")[1:]  # wrapped lines are one again
    assert len(blocks) == 80
    for block in blocks:
        number, *papers = re.match(
            r"(\d+): (p\d+) and (p\d+), cited together 1 times", block
        ).groups()
        marked = [line[7:] for line in block.splitlines() if line.startswith("    => ")]
        said = [
            " ".join((sentences or [title])[i].split())
            for (title, sentences), i in zip(
                [texts[paper] for paper in papers], alignment[int(number), 2:], strict=True
            )
        ]
        # transformers 5 writes no space before a full stop.
        assert sorted(line.replace(" .", ".") for line in marked) == sorted(said)
    assert "papers of the pairs have no abstract: their title is their one sentence" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "show needs the tokenizer"),
        (["--count", "-1"], "--count must be 0 or more; got -1"),
        (["-c", "none.yaml"], "none.yaml: cannot be read"),
        (["--data.samplin.max_span", "9"], "unrecognized arguments: --data.samplin.max_span 9"),
    ],
)
def test_what_is_missing_is_told(capsys, arguments, message):
    assert train(["show", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_a_corpus_or_files_there_is_nothing_to_show(tiny_bert, capsys):
    assert train(["show", "--model.encoder.backbone", str(tiny_bert)]) == 2
    assert "or --data.papers F and --data.citations F" in capsys.readouterr().err


def test_what_is_cleaned_and_cut_is_shown(tmp_path, tiny_bert, capsys):
    rows = [
        {
            "paper_id": i,
            "title": f"word{i} <i>word{i + 1}</i>",
            "abstract": "word1 " * (20 * (i % 2)),
        }
        for i in range(12)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.csv").write_text("".join(f"{i},{i + 1},{i + 2}\n" for i in range(9)))
    (tmp_path / "r.yaml").write_text(
        f"data: {{batch_size: 2, dev_share: 0.0, test_share: 0.0}}\n"
        f"model: {{encoder: {{backbone: {tiny_bert}, max_length: 12}}}}\n"
    )
    arguments = ["show", "-c", str(tmp_path / "r.yaml"), "--data.papers", str(tmp_path / "p.jsonl")]
    arguments += ["--data.pairs", str(tmp_path / "t.csv"), "--cache", str(tmp_path / "cache")]
    assert train([*arguments, "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert "cleaned (input_format.cleaning): word0 <i>word1</i>\n  is read as: word0 word1" in out
    assert out.count("\n  is read as: ") == 2
    assert "6 of 12 papers (50.0%) are cut at 12 tokens (max_length)" in out
    assert train([*arguments, "--model.encoder.input_format.cleaning", "none"]) == 0
    assert "\n  is read as: " not in capsys.readouterr().out
