"""Runs of `own_citations` that learn from a teacher, through the command line."""

import csv
import re

import numpy as np
import pytest
import torch

from sciembed_train.cli import main
from sciembed_train.commands import fit, validate
from sciembed_train.errors import UserError
from sciembed_train.safety.json_files import read_json
from sciembed_train.text.input_format import InputFormat
from sciembed_train.training import teacher as module
from sciembed_train.training.resume import same_teacher
from sciembed_train.training.teacher import open_teacher
from tests.helpers.citation_corpus import write_citation_corpus
from tests.helpers.runs import CONFIGS, finish, start
from tests.helpers.tiny_models import write_tiny_bert, write_tiny_roberta

ALONE = ["--model.distil.form", "cosine", "--model.distil.contrast", "0"]


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    input_format = InputFormat(separator="space")
    corpus = write_citation_corpus(folder / "corpus", tiny_bert, input_format=input_format)
    write_tiny_roberta(folder / "teacher", width=48)  # another tokenizer, and wider
    ids = corpus.paper_ids()[5:]
    rows = np.random.default_rng(0).normal(size=(len(ids), 24)).astype(np.float32)
    write_vectors(folder / "vectors.npy", ids, rows)
    return folder


def write_vectors(path, ids, rows):
    np.save(path, rows)
    path.with_suffix(".ids.txt").write_text("".join(f"{name}\n" for name in ids))


def words(place, backbone, run, *more):
    return [
        *("-c", str(CONFIGS / "own_citations.yaml"), "-c", str(CONFIGS / "machine" / "cpu.yaml")),
        *("--data.corpus", str(place / "corpus"), "--model.encoder.backbone", str(backbone)),
        *("--model.encoder.max_length", "32", "--data.batch_size", "8", "--model.optim.lr", "3e-3"),
        *("--trainer.max_steps", "6", "--trainer.val_check_interval", "3"),
        *("--trainer.log_every_n_steps", "1", "--root", str(place / "runs"), "--run", run),
        *("--data.sampling.weights", "{citations: 1}", "--verdict", "off", *more),
    ]


def logged(run, name):
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row["train/loss"]]


def test_an_encoder_of_another_width_and_tokenizer_teaches(place, tiny_bert, capsys):
    teacher = ["--model.teacher", str(place / "teacher"), *ALONE]
    assert fit.main(words(place, tiny_bert, "encoder", *teacher)) == 0
    said = capsys.readouterr().err
    found = re.search(r"teacher teacher: (\d+) of the (\d+) papers of the training", said)
    assert found
    assert found[1] == found[2]
    assert "have a vector, of 48 numbers" in said
    run = place / "runs" / "encoder"
    losses = logged(run, "train/distil_loss")
    assert losses[-1] < 0.95 * losses[0]
    assert logged(run, "train/loss") == pytest.approx(losses, rel=1e-5)
    state = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    assert state["distiller.map.weight"].shape == (48, 32)
    card = (run / "export" / "README.md").read_text()
    assert "| training: teacher: name | teacher |" in card
    assert "| training: teacher: form | cosine |" in card
    assert read_json(run / "export" / "config.json")["hidden_size"] == 32
    made = list((place / "corpus" / "vectors").glob("teacher-*.npy"))
    assert len(made) == 1
    assert np.load(made[0]).shape == (60, 48)


def test_stored_vectors_teach_the_ranking_of_those_papers_that_have_one(place, tiny_bert, capsys):
    teacher = ["--model.teacher", str(place / "vectors.npy"), "--trainer.max_steps", "2"]
    assert fit.main(words(place, tiny_bert, "stored", *teacher, "--no_export")) == 0
    found = re.search(r"teacher vectors\.npy: (\d+) of the (\d+) papers", capsys.readouterr().err)
    assert found
    assert 0 < int(found[1]) < int(found[2])
    run = place / "runs" / "stored"
    assert min(logged(run, "train/distil_loss")) > 1e-3
    parts = [logged(run, f"train/{name}") for name in ("contrast_loss", "distil_loss", "loss")]
    assert np.sum(parts[:2], axis=0) == pytest.approx(parts[2], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["cosine", "ranking"])
def test_a_run_that_was_stopped_goes_on_with_the_same_teacher(place, tiny_bert, capsys, form):
    more = ["--model.distil.form", form, "--no_export", "--quiet"]
    same = [*more, "--model.teacher", str(place / "teacher")]
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "4"]
    unbroken, stopped = f"unbroken {form}", f"stopped {form}"
    assert fit.main(words(place, tiny_bert, unbroken, *same)) == 0
    assert fit.main(words(place, tiny_bert, stopped, *same, *stop)) == 143
    goes_on = words(place, tiny_bert, stopped, *more, "--ckpt_path", "last")
    write_tiny_roberta(place / "another", width=48, seed=1)
    others = [["--model.teacher", str(place / "another")]]
    others += [[]] if form == "ranking" else []  # the other form needs a teacher
    for another in others:
        assert main(["fit", *goes_on, *another]) == 2
        assert "keeps its teacher" in capsys.readouterr().err
    (place / "teacher").rename(place / "moved")
    try:
        moved = ["--model.teacher", str(place / "moved")]
        assert fit.main([*goes_on, *moved]) == 0
    finally:
        (place / "moved").rename(place / "teacher")
    losses = [logged(place / "runs" / name, "train/distil_loss") for name in (unbroken, stopped)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    last = str(place / "runs" / stopped / "last.ckpt")
    vectors = sorted((place / "corpus" / "vectors").iterdir())
    assert validate.main([*words(place, tiny_bert, "any", *same), "--ckpt_path", last]) == 0
    assert sorted((place / "corpus" / "vectors").iterdir()) == vectors


@pytest.mark.slow
def test_two_processes_learn_from_one_file_of_vectors(place, tiny_bert):
    write_tiny_roberta(place / "of two", width=48, seed=2)
    teacher = ["--model.teacher", str(place / "of two"), *ALONE, "--no_export"]
    before = len(list((place / "corpus" / "vectors").glob("teacher-*.npy")))
    for processes in ("2", "1"):
        run = words(place, tiny_bert, f"with {processes}", *teacher)
        code, said = finish(start("fit", *run, "--trainer.devices", processes))
        assert code == 0, said
    one, two = (logged(place / "runs" / f"with {n}", "train/distil_loss") for n in "12")
    assert two == pytest.approx(one, rel=1e-4)
    made = len(list((place / "corpus" / "vectors").glob("teacher-*.npy"))) - before
    assert made == 1


@pytest.fixture
def corpus(tiny_bert, tmp_path):
    return write_citation_corpus(tmp_path / "corpus", tiny_bert)


def test_vectors_are_made_once_and_known_again(corpus, tiny_bert, tmp_path, monkeypatch):
    folder = tmp_path / "run" / "export"
    folder.mkdir(parents=True)
    write_tiny_bert(folder, seed=3)
    found = open_teacher(corpus, str(tmp_path / "run"), "cpu", quiet=True)
    assert (found.name, found.dim) == ("run", 32)
    monkeypatch.setattr(module, "corpus_vectors", None)  # a second time nothing is encoded
    again = open_teacher(corpus, str(folder), "cpu", quiet=True)
    assert (again.name, again.digest) == ("run", found.digest)
    texts = np.array([3, 0, 63, -1, 59])
    vectors = again(texts)
    np.testing.assert_array_equal(vectors, found(texts))
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 1, 0, 0, 1], abs=1e-5)
    assert again.count(np.arange(60)) == 60


def test_the_number_of_a_file_is_of_the_encoder_and_the_papers(corpus, tmp_path, monkeypatch):
    made = []

    def written(corpus, folder, name, *_, **__):
        made.append(name)
        write_vectors(corpus.folder / "vectors" / f"{name}.npy", corpus.paper_ids(), rows)
        (corpus.folder / "vectors" / f"{name}.json").write_text("{}")

    rows = np.ones((60, 4), np.float32)
    monkeypatch.setattr(module, "corpus_vectors", written)
    for seed in (0, 0, 1):
        write_tiny_bert(tmp_path / "teacher", seed=seed)
        open_teacher(corpus, str(tmp_path / "teacher"), "cpu", quiet=True)
    assert len(set(made)) == len(made) == 2
    # What was killed before it was whole is made again.
    (corpus.folder / "vectors" / f"{made[1]}.json").unlink()
    open_teacher(corpus, str(tmp_path / "teacher"), "cpu", quiet=True)
    assert made[2] == made[1]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("nowhere", "model.teacher: .*no such folder"),
        ("nowhere.npy", r"model\.teacher: .*there is no nowhere\.npy"),
        ("empty", "holds neither an encoder nor vectors"),
        ("other", "holds neither an encoder nor vectors"),
        ("damaged.npy", "damaged"),
        ("unlike.npy", "2 vectors, and .* 1 ids"),
        ("shards", "not all of its shards"),
    ],
)
def test_what_can_be_no_teacher_is_refused(corpus, tmp_path, teacher, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "package.json").write_text("{}")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "plan.json").write_text("{}")
    write_vectors(tmp_path / "damaged.npy", ["a"], np.ones((1, 3), np.float32))
    (tmp_path / "damaged.npy").write_bytes(b"no array")
    write_vectors(tmp_path / "unlike.npy", ["a"], np.ones((2, 3), np.float32))
    with pytest.raises(UserError, match=message):
        open_teacher(corpus, str(tmp_path / teacher), "cpu", quiet=True)


def test_a_corpus_that_cannot_be_written_is_named(corpus, tiny_bert, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "corpus_vectors", refused)
    with pytest.raises(UserError, match=r"teacher-\w+\.npy cannot be written: Permission denied"):
        open_teacher(corpus, str(tiny_bert), "cpu", quiet=True)


def test_vectors_of_other_papers_and_wrong_settings_are_one_message(place, tiny_bert, capsys):
    write_vectors(place / "others.npy", ["x", "y"], np.ones((2, 3), np.float32))
    for more, message in (
        (["--model.teacher", str(place / "others.npy")], "has a vector of none of the"),
        (["--model.teacher", "/nowhere"], "model.teacher: /nowhere"),
        (["--model.distil.temperature", "0"], "distil.temperature must be above 0"),
    ):
        assert main(["fit", *words(place, tiny_bert, "mistake", *more)]) == 2
        said = capsys.readouterr().err
        assert said.count("./train fit: ") == 1
        assert message in said
    assert not (place / "runs" / "mistake" / "config.yaml").exists()


def test_another_teacher_is_another_loss():
    one, moved = {"name": "a", "digest": "1"}, {"name": "b", "digest": "1"}
    same_teacher(None, None)
    same_teacher(one, moved)
    for now, then in ((None, one), (one, None), (one, {"name": "a", "digest": "2"})):
        with pytest.raises(UserError, match="keeps its teacher"):
            same_teacher(now, then)
