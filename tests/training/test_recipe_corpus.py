"""The corpus of a recipe: made of its files once, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sciembed_train.commands import fit, prepare, show
from sciembed_train.corpus.build import prepare as prepare_corpus
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.sampling.sentence_pairs import SentencePairSampling
from sciembed_train.sampling.tasks import TaskSampling
from sciembed_train.sampling.triplets import TripletSampling
from sciembed_train.training import recipe_corpus
from sciembed_train.training.recipe_corpus import (
    check_sources,
    check_used,
    recipe_sampling,
    with_alignment,
)
from tests.helpers.paper_files import paper_settings, write_paper_files
from tests.helpers.runs import ROOT, losses
from tests.helpers.small_corpus import small_papers


def test_missing_citations_are_told_before_anything_is_prepared(tmp_path):
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": 1, "title": "a", "abstract": "b"}\n')
    words = ["-c", str(ROOT / "configs" / "specter.yaml"), "--root", str(tmp_path / "runs")]
    with pytest.raises(UserError, match=r"--data\.citations F is missing"):
        fit.main([*words, "--data.papers", str(papers)])
    assert not (tmp_path / "runs").exists()


def test_raw_files_are_prepared_once(toy, tmp_path):
    papers, citations = tmp_path / "papers.jsonl", tmp_path / "citations.csv"
    with papers.open("w") as file:
        for paper in small_papers(80):
            row = {key: paper[key] for key in ("paper_id", "title", "abstract")}
            file.write(json.dumps(row) + "\n")
    pairs = [(a, (a * 7 + k * 11 + 1) % 80) for a in range(80) for k in range(6)]
    citations.write_text("citing,cited\n" + "".join(f"p{a},p{b}\n" for a, b in pairs if a != b))
    words = toy.arguments("--trainer.max_steps", "2", "--root", str(tmp_path))
    at = words.index("--data.corpus")
    words[at : at + 2] = ["--data.papers", str(papers), "--data.citations", str(citations)]
    assert fit.main([*words, "--run", "a"]) == 0
    assert fit.main([*words, "--run", "b"]) == 0
    cache = [p for p in (tmp_path / ".cache").iterdir() if p.is_dir()]
    assert len(cache) == 1
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    shown = ["--data.papers", str(papers), "--data.citations", str(citations)]
    shown += ["-c", "specter", "--model.encoder.backbone", str(toy.backbone), "--count", "1"]
    assert show.main([*shown, "--root", str(tmp_path)]) == 0
    assert [p for p in (tmp_path / ".cache").iterdir() if p.is_dir()] == cache
    to = ["--to", str(tmp_path / "corpus")]
    assert prepare.main([*[w for w in shown if w not in ("--count", "1")], *to, "--quiet"]) == 0
    made = Corpus.open(tmp_path / "corpus").info
    assert {key: made[key] for key in made if key != "created"} == {
        key: value for key, value in Corpus.open(cache[0]).info.items() if key != "created"
    }
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["data"]["corpus"] is None
    assert config["data"]["papers"] == str(papers)


def test_scincl_is_mined_and_trained_from_raw_files_and_from_a_corpus(tiny_bert, tmp_path):
    write_paper_files(tmp_path)
    files = ["--data.papers", str(tmp_path / "papers.jsonl")]
    files += ["--data.citations", str(tmp_path / "citations.csv")]
    recipe = ["-c", "scincl", "--model.encoder.backbone", str(tiny_bert), "--quiet"]
    to = tmp_path / "corpus"
    assert prepare.main([*recipe, *files, "--to", str(to)]) == 0
    assert Corpus.open(to).info["settings"]["triplets"]["from"] == "neighbours"
    words = ["-c", "machine/cpu", "--trainer.max_steps", "2", "--no_export", "--verdict", "off"]
    words = [*recipe, *words, "--data.batch_size", "8", "--root", str(tmp_path / "runs")]
    assert fit.main([*words, *files, "--run", "files"]) == 0
    assert fit.main([*words, "--data.corpus", str(to), "--run", "corpus"]) == 0
    assert losses(tmp_path / "runs" / "files") == losses(tmp_path / "runs" / "corpus")


def test_scincl_does_not_train_on_the_triplets_of_specter_in_silence(tiny_bert, tmp_path):
    write_paper_files(tmp_path)
    prepare_corpus(paper_settings(tmp_path, tokenizer=tiny_bert))
    words = ["-c", "scincl", "-c", "machine/cpu", "--model.encoder.backbone", str(tiny_bert)]
    words += ["--data.corpus", str(tmp_path / "corpus"), "--root", str(tmp_path / "runs")]
    words += ["--trainer.max_steps", "1", "--data.batch_size", "8", "--no_export", "--quiet"]
    with pytest.raises(UserError, match=r"has triplets from citations.*-c scincl"):
        fit.main(words)
    (tmp_path / "citations.yaml").write_text("data: {triplets_from: citations}\n")
    more = ["-c", str(tmp_path / "citations.yaml"), "--verdict", "off"]
    assert fit.main([*words, *more]) == 0


def test_a_corpus_and_files_do_not_go_together():
    with pytest.raises(UserError, match=r"data\.corpus and data\.papers are both given"):
        check_sources(DataSettings(corpus="corpus", papers="papers.jsonl"))
    check_sources(DataSettings(corpus="corpus"))


def test_triplets_are_trained_where_a_recipe_names_no_sampling():
    assert recipe_sampling(DataSettings()) == TripletSampling()
    assert recipe_sampling(DataSettings(sampling=TaskSampling())) == TaskSampling()


def test_a_sampling_is_aligned_only_where_it_names_a_model(monkeypatch):
    def aligned(corpus, model, progress):
        if model == "broken":
            raise UserError("there is no such folder.")
        return f"{model}-1234"

    monkeypatch.setattr(recipe_corpus, "aligned", aligned)
    corpus, quiet = Corpus(Path("none"), {"counts": {"contexts": 3}}), Progress(quiet=True)
    plain = SentencePairSampling()
    assert with_alignment(plain, corpus, quiet) is plain
    named = SentencePairSampling(align="context", aligned_by="model")
    assert with_alignment(named, corpus, quiet).aligned_by == "model-1234"
    with pytest.raises(UserError, match=r"data\.sampling\.aligned_by: there is no such folder"):
        with_alignment(replace(named, aligned_by="broken"), corpus, quiet)


def test_an_option_of_preparing_typed_beside_a_prepared_corpus_is_refused():
    ready, files = DataSettings(corpus="c"), DataSettings(papers="papers.jsonl")
    for key in ("data.dev_share", "data.triplets.hard", "data.memory"):
        with pytest.raises(UserError, match=f"--{key} says how a corpus is made, and c is made"):
            check_used(ready, {"data.seed", key})
        check_used(files, {key})
    check_used(ready, {"data.corpus", "data.seed", "data.batch_size", "data.sampling", "run"})
