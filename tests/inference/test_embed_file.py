import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.commands import embed
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.prompted_models import PROMPTS, write_prompted
from tests.helpers.small_disk import largest_file, on_small_disk
from tests.helpers.tiny_models import write_tiny_bert


def write_papers(path, count=150, seed=0):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for i in range(count):
            words = [f"word{w}" for w in rng.integers(0, 200, rng.integers(0, 40))]
            abstract = " ".join(words) if i % 3 else [" ".join(words[:5]), " ".join(words[5:])]
            row = {"paper_id": f"p{i * 7919 % 1000}", "title": f"word{i}", "abstract": abstract}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def papers(tmp_path):
    return write_papers(tmp_path / "papers.jsonl")


def options(model, papers, target):
    """Small pieces: 150 papers are three chunks, of 64, 64 and 22."""
    places = ["--model", str(model), "--input", str(papers), "--to", str(target)]
    return [*places, "--batch-tokens", "1000", "--device", "cpu"]


def run(model, papers, target, *more):
    return embed.main([*options(model, papers, target), "--quiet", *more])


def ids_of(papers):
    return [json.loads(line)["paper_id"] for line in papers.read_text().splitlines()]


def read_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [r["paper_id"] for r in rows], np.array([r["embedding"] for r in rows], np.float32)


@pytest.mark.parametrize("prompt", [None, "none", "query"])
@pytest.mark.parametrize("name", ["e.npy", "shards"])
def test_papers_are_read_behind_the_prompt_that_is_named(
    tiny_bert, papers, tmp_path, capsys, prompt, name
):
    library = pytest.importorskip("sentence_transformers")
    folder = write_prompted(tiny_bert, tmp_path / "m")
    more = [] if prompt is None else ["--prompt", prompt]
    assert embed.main([*options(folder, papers, tmp_path / name), *more]) == 0
    before = "" if prompt == "none" else PROMPTS[prompt or "passage"]
    said = f"behind the prompt {before!r}" if before else "behind the prompt"
    assert (said in capsys.readouterr().out) == bool(before)
    vectors = np.load(tmp_path / name / "part-00000.npy" if name == "shards" else tmp_path / name)
    rows = map(json.loads, papers.read_text().splitlines())
    encoder = encoder_of(tiny_bert)
    texts = [encoder.compose(row["title"], row["abstract"]) for row in rows]
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    np.testing.assert_allclose(vectors, model.encode(texts, prompt=before), atol=1e-5)


def test_a_prompt_that_the_model_has_not_is_one_message(tiny_bert, papers, tmp_path, capsys):
    prompted = write_prompted(tiny_bert, tmp_path / "m")
    for model, message in ((tiny_bert, "has no prompts"), (prompted, "query, passage, Clustering")):
        words = options(model, papers, tmp_path / "e.npy")
        assert main(["embed", *words, "--prompt", "STS"]) == 2
        error = capsys.readouterr().err
        assert error.count("--prompt is 'STS'") == 1
        assert message in error
        assert "Traceback" not in error


def test_another_prompt_does_not_continue_a_run(tiny_bert, papers, tmp_path, monkeypatch):
    folder = write_prompted(tiny_bert, tmp_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr("sciembed_train.inference.embed_file._finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(folder, papers, tmp_path / "e.npy")
    with pytest.raises(UserError, match="unfinished run of other settings"):
        run(folder, papers, tmp_path / "e.npy", "--prompt", "none")


def stopped(*_):
    raise KeyboardInterrupt


def test_vectors_are_those_of_transformers_in_input_order(tiny_bert, papers, tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    run(tiny_bert, papers, tmp_path / "e.jsonl")
    ids, vectors = read_jsonl(tmp_path / "e.jsonl")
    assert ids == ids_of(papers)
    model = AutoModel.from_pretrained(tiny_bert).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    for place, line in list(enumerate(papers.read_text().splitlines()))[:12]:
        row = json.loads(line)
        body = row["abstract"]
        body = body if isinstance(body, str) else " ".join(s for s in body if s)
        text = row["title"] + (tokenizer.sep_token + body if body.strip() else "")
        with torch.no_grad():
            want = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        np.testing.assert_allclose(vectors[place], want.numpy(), atol=1e-5)


def test_the_three_formats_hold_the_same(tiny_bert, papers, tmp_path):
    import pyarrow.parquet as pq

    for ending in ("jsonl", "npy", "parquet"):
        run(tiny_bert, papers, tmp_path / f"e.{ending}")
    ids, vectors = read_jsonl(tmp_path / "e.jsonl")
    npy = np.load(tmp_path / "e.npy")
    assert npy.dtype == np.float32
    assert (tmp_path / "e.ids.txt").read_text().splitlines() == ids == ids_of(papers)
    np.testing.assert_array_equal(npy, vectors)
    table = pq.read_table(tmp_path / "e.parquet").to_pydict()
    assert table["paper_id"] == ids
    np.testing.assert_array_equal(np.array(table["embedding"], np.float32), vectors)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"papers.jsonl", "e.jsonl", "e.npy", "e.ids.txt", "e.parquet"}


KILLED = """
import os, signal, sys
from sciembed_train.cli import main
from sciembed_train.commands import embed
from sciembed_train.inference import embedding
real, calls = embedding.encode, 0
def encode(*args):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
embedding.encode = encode
embed.main(sys.argv[2:])
"""


@pytest.mark.parametrize("ending", ["npy", pytest.param("jsonl", marks=pytest.mark.slow)])
def test_a_killed_run_continues_and_ends_bit_equal(
    tiny_bert, papers, tmp_path, ending, monkeypatch
):
    whole, target = tmp_path / f"whole.{ending}", tmp_path / f"e.{ending}"
    run(tiny_bert, papers, whole)
    command = [*options(tiny_bert, papers, target), "--quiet"]
    # killed in the second chunk
    killed = subprocess.run([sys.executable, "-c", KILLED, "2", *command], env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()

    from sciembed_train.inference import embedding

    encoded = []
    real = embedding.encode

    def count(encoder, rows, *rest):
        encoded.append(len(rows))
        return real(encoder, rows, *rest)

    monkeypatch.setattr(embedding, "encode", count)
    assert embed.main(command) == 0
    assert encoded == [64, 22]
    assert target.read_bytes() == whole.read_bytes()
    if ending == "npy":
        assert (tmp_path / "e.ids.txt").read_bytes() == (tmp_path / "whole.ids.txt").read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*"))


def test_a_run_killed_while_writing_the_target_encodes_nothing_again(
    tiny_bert, papers, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sciembed_train.inference.resumable_output.write_jsonl", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_bert, papers, tmp_path / "e.jsonl")
    monkeypatch.undo()
    monkeypatch.setattr("sciembed_train.inference.embedding.encode", stop)
    assert run(tiny_bert, papers, tmp_path / "e.jsonl") == 0
    assert read_jsonl(tmp_path / "e.jsonl")[0] == ids_of(papers)


@pytest.fixture
def unfinished(tiny_bert, papers, tmp_path, monkeypatch, capsys):
    from sciembed_train.inference import embedding

    real, calls = embedding.encode, []

    def encode(*args):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(embedding, "encode", encode)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_bert, papers, tmp_path / "e.npy")
    assert "Stopped after 64 papers; the same command continues" in capsys.readouterr().err
    return tmp_path / "e.npy"


def test_another_models_unfinished_run_is_refused(unfinished, papers, tmp_path):
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="unfinished run of another model"):
        run(other, papers, unfinished)
    assert run(other, papers, unfinished, "--restart") == 0
    assert len(np.load(unfinished)) == 150


def test_a_graph_writes_the_vectors_of_torch_and_ends_as_it_began(
    with_onnx, papers, tmp_path, monkeypatch
):
    """Other last digits are another model's: a file is of one backend."""
    from sciembed_train.inference import embedding

    assert run(with_onnx, papers, tmp_path / "torch.npy") == 0

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedding, "encode", stop)
        with pytest.raises(KeyboardInterrupt):
            run(with_onnx, papers, tmp_path / "e.npy")
    with pytest.raises(UserError, match="unfinished run of another model"):
        run(with_onnx, papers, tmp_path / "e.npy", "--backend", "onnx")
    words = ["--backend", "onnx", "--restart", "--max_length", "20"]
    assert run(with_onnx, papers, tmp_path / "e.npy", *words) == 0
    assert run(with_onnx, papers, tmp_path / "short.npy", "--max_length", "20") == 0
    vectors, expected = np.load(tmp_path / "e.npy"), np.load(tmp_path / "short.npy")
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert np.abs(expected - np.load(tmp_path / "torch.npy")).max() > 1e-3


def test_another_input_or_setting_of_an_unfinished_run_is_refused(
    unfinished, tiny_bert, papers, tmp_path
):
    with pytest.raises(UserError, match="other settings"):
        run(tiny_bert, papers, unfinished, "--batch-tokens", "100")
    changed = write_papers(tmp_path / "papers.jsonl", seed=1)
    with pytest.raises(UserError, match="another input file"):
        run(tiny_bert, changed, unfinished)


def test_two_processes_never_write_one_target(tiny_bert, papers, tmp_path):
    from filelock import FileLock

    with (
        FileLock(tmp_path / ".e.npy.lock"),
        pytest.raises(UserError, match="another process is writing"),
    ):
        run(tiny_bert, papers, tmp_path / "e.npy")


def test_bf16_only_where_asked(tiny_bert, papers, tmp_path):
    run(tiny_bert, papers, tmp_path / "a.npy")
    run(tiny_bert, papers, tmp_path / "b.npy", "--precision", "bf16")
    full, half = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert half.dtype == np.float32
    assert 1e-5 < np.abs(full - half).max() < 0.2


def test_pooling_and_length_can_be_given(tiny_bert, papers, tmp_path):
    run(tiny_bert, papers, tmp_path / "cls.npy")
    run(tiny_bert, papers, tmp_path / "mean.npy", "--pooling", "mean")
    run(tiny_bert, papers, tmp_path / "short.npy", "--max-length", "8")
    cls, mean, short = (np.load(tmp_path / f"{n}.npy") for n in ("cls", "mean", "short"))
    assert np.abs(cls - mean).max() > 0.01
    assert np.abs(cls - short).max() > 0.01


def test_a_run_folder_embeds_with_its_export(tiny_bert, papers, tmp_path):
    import shutil

    shutil.copytree(tiny_bert, tmp_path / "run" / "export")
    run(tmp_path / "run", papers, tmp_path / "a.npy")
    run(tiny_bert, papers, tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ('{"paper_id": 1, "title": "a"}\n{"title": "b"}\n', r"papers\.jsonl:2: .*paper_id"),
        ('{"paper_id": 1, "title": "a"}\n{"paper_id": "1", "title": "b"}\n', r":2: .*:1\b"),
        ('{"paper_id": 1, "title": "a"}\n{"paper_id"\n', r":2: this is not JSON"),
        ('{"paper_id": 1, "title": "a", "abstract": 17}\n', r":1: `abstract` is the number 17"),
        ("", "holds no paper"),
    ],
)
def test_bad_papers_are_refused_before_anything_is_embedded(tiny_bert, tmp_path, rows, found):
    papers = tmp_path / "papers.jsonl"
    papers.write_text(rows)
    with pytest.raises(UserError, match=found):
        run(tiny_bert, papers, tmp_path / "e.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["papers.jsonl"]


def test_malformed_rows_are_left_out_where_allowed(tiny_bert, tmp_path, capsys):
    papers = tmp_path / "papers.jsonl"
    rows = ['{"paper_id": 1, "title": "a"}', "{", '{"paper_id": 1, "title": "b"}']
    papers.write_text("\n".join([*rows, '{"paper_id": 2, "title": null}']))
    command = [*options(tiny_bert, papers, tmp_path / "e.jsonl"), "--max-bad-rows", "2", "--json"]
    assert embed.main(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["papers"], said["malformed_left_out"], said["without_text"]) == (2, 2, 1)
    assert read_jsonl(tmp_path / "e.jsonl")[0] == ["1", "2"]


def test_wrong_places_are_refused(tiny_bert, papers, tmp_path):
    with pytest.raises(UserError, match="ending names no format"):
        run(tiny_bert, papers, tmp_path / "e.txt")
    with pytest.raises(UserError, match=r"no\.jsonl"):
        run(tiny_bert, tmp_path / "no.jsonl", tmp_path / "e.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"config\.json"):
        run(tmp_path / "empty", papers, tmp_path / "e.npy")
    with pytest.raises(UserError, match="cannot be written"):
        run(tiny_bert, papers, papers / "e.npy")
    with pytest.raises(UserError, match="--batch-tokens is 0"):
        run(tiny_bert, papers, tmp_path / "e.npy", "--batch-tokens", "0")
    with pytest.raises(UserError, match="--device is 'nonsense'; expected auto, cpu"):
        run(tiny_bert, papers, tmp_path / "e.npy", "--device", "nonsense")


def test_an_id_with_a_line_end_is_refused_before_the_work(tiny_bert, tmp_path, monkeypatch):
    papers = tmp_path / "papers.jsonl"
    papers.write_text(json.dumps({"paper_id": "a\nb", "title": "t"}))
    monkeypatch.setattr("sciembed_train.inference.embedding.encode", None)
    with pytest.raises(UserError, match="line end"):
        run(tiny_bert, papers, tmp_path / "e.npy")


@pytest.fixture(scope="module")
def many(tiny_bert, tmp_path_factory):
    """A multi-vector model."""
    from sciembed_train.encoder.encoder import Encoder

    folder = tmp_path_factory.mktemp("many")
    Encoder.load(tiny_bert, pooling="sentences").save(folder, {"similarity": "best_match"})
    return folder


def test_a_multi_vector_model_writes_a_vector_for_each_sentence(many, tmp_path, capsys):
    import pyarrow.parquet as pq

    from sciembed_train.encoder.encoder import Encoder

    file = tmp_path / "papers.jsonl"
    rows = [
        {"paper_id": 1, "title": "word1", "abstract": ["word2 word3", "word4", ""]},
        {"paper_id": 2, "title": "word5", "abstract": None},
        {"paper_id": 3, "title": "", "abstract": ""},
        {"paper_id": 4, "title": "word6", "abstract": "Word7 is here. Word8 is there."},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert run(many, file, tmp_path / "e.jsonl") == 0
    assert embed.main([*options(many, file, tmp_path / "e.parquet"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["papers"], said["sentences"], said["without_text"]) == (4, 5, 1)
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [line["paper_id"] for line in lines] == ["1", "2", "3", "4"]
    found = [line["sentence_embeddings"] for line in lines]
    assert [len(vectors) for vectors in found] == [2, 1, 0, 2]
    encoder = Encoder.load(many)
    papers = [
        ("word1", ["word2 word3", "word4"]),
        ("word5", []),
        ("word6", ["Word7 is here.", "Word8 is there."]),
    ]
    for vectors, want in zip(
        (found[0], found[1], found[3]), encoder.encode_sentences(papers), strict=True
    ):
        np.testing.assert_allclose(np.array(vectors), want.numpy(), atol=1e-5)
    table = pq.read_table(tmp_path / "e.parquet").to_pydict()
    assert table["paper_id"] == ["1", "2", "3", "4"]
    assert [np.array(v, np.float32).tolist() for v in table["sentence_embeddings"]] == [
        np.array(v, np.float32).tolist() for v in found
    ]
    assert {p.name for p in tmp_path.iterdir()} == {"papers.jsonl", "e.jsonl", "e.parquet"}


def test_an_array_cannot_hold_unlike_numbers_of_sentences(many, papers, tmp_path):
    with pytest.raises(UserError, match=r"\.npy array cannot hold.*--pooling mean"):
        run(many, papers, tmp_path / "e.npy")
    assert run(many, papers, tmp_path / "e.npy", "--pooling", "mean") == 0
    assert np.load(tmp_path / "e.npy").shape == (150, 32)


def test_sentences_of_a_killed_run_continue_and_end_bit_equal(many, papers, tmp_path, monkeypatch):
    from sciembed_train.inference import sentence_embedding
    from sciembed_train.inference.resumable_output import SentenceVectorLists

    run(many, papers, tmp_path / "whole.jsonl")
    real, calls = SentenceVectorLists.add, []

    def add(self, part):
        """The second chunk is on disk, but killed before it is noted."""
        real(self, part)
        calls.append(len(part))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SentenceVectorLists, "add", add)
        with pytest.raises(KeyboardInterrupt):
            run(many, papers, tmp_path / "e.jsonl")
    encoded = []
    finite = sentence_embedding.refuse_not_finite
    monkeypatch.setattr(
        sentence_embedding, "refuse_not_finite", lambda *a: encoded.append(len(a[0])) or finite(*a)
    )
    assert run(many, papers, tmp_path / "e.jsonl") == 0
    assert calls == [64, 64]
    assert len(encoded) == 2  # the second chunk again, and the third
    assert (tmp_path / "e.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_markup_and_cut_texts_are_said_and_the_vector_is_that_of_the_plain_text(
    tiny_bert, tmp_path, capsys
):
    rows = [
        {"paper_id": "a", "title": "word1 <i>word2</i>", "abstract": "n/a"},
        {"paper_id": "b", "title": "word1 word2", "abstract": ""},
        {"paper_id": "c", "title": "word3", "abstract": "word4 " * 40},
    ]
    papers = tmp_path / "papers.jsonl"
    papers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "e.jsonl"
    assert embed.main([*options(tiny_bert, papers, target), "--max-length", "21"]) == 0
    out = capsys.readouterr().out
    assert "1 papers have markup in title or abstract" in out
    assert "1 papers have a title or an abstract that only says that there is none" in out
    assert "1 of 3 papers (33.3%) are cut at 21 tokens (max_length): 50.0% of all tokens" in out
    _, vectors = read_jsonl(target)
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)


def test_a_folder_whose_format_says_nothing_of_cleaning_reads_the_raw_text(
    tiny_bert, tmp_path, capsys
):
    papers = tmp_path / "papers.jsonl"
    papers.write_text(json.dumps({"paper_id": "a", "title": "word1 <i>word2</i>"}) + "\n")
    model = tmp_path / "model"
    export_encoder(encoder_of(tiny_bert), model, CARD)
    record = json.loads((model / "sciembed.json").read_text())
    assert record["input_format"]["cleaning"] == "markup"
    assert embed.main(options(model, papers, tmp_path / "clean.jsonl")) == 0
    assert "markup" in capsys.readouterr().out
    del record["input_format"]["cleaning"]
    (model / "sciembed.json").write_text(json.dumps(record))
    assert embed.main(options(model, papers, tmp_path / "raw.jsonl")) == 0
    assert "markup" not in capsys.readouterr().out
    clean, raw = (read_jsonl(tmp_path / f"{name}.jsonl")[1] for name in ("clean", "raw"))
    assert not np.allclose(clean, raw, atol=1e-3)


def test_a_vector_that_is_not_finite_is_refused_and_its_paper_named(tiny_bert, papers, tmp_path):
    """One word's vector is damaged; the first paper that has it is in the second chunk."""
    import torch
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(tiny_bert, model)
    lines = [json.loads(line) for line in papers.read_text().splitlines()]
    for row in lines:
        row["title"], row["abstract"] = "word1", "word2 word3"
    for number in (70, 90):
        lines[number]["title"] = "word9"
    papers.write_text("".join(json.dumps(row) + "\n" for row in lines))
    vocabulary = (model / "vocab.txt").read_text().split("\n")
    state = load_file(model / "model.safetensors")
    (name,) = (key for key in state if "word_embeddings" in key)
    state[name][vocabulary.index("word9")] = torch.nan
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"not finite for paper {lines[70]['paper_id']}, in fp32"):
        run(model, papers, tmp_path / "e.jsonl")
    assert not (tmp_path / "e.jsonl").exists()


def test_a_full_disk_is_met_before_the_work_and_the_same_command_goes_on(
    tiny_bert, papers, tmp_path, capsys
):
    words = ["embed", *options(tiny_bert, papers, tmp_path / "a.npy"), "--quiet"]
    with largest_file(10_000):
        assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("sciembed-train embed: ") or "embed: " in said
    assert "a.npy cannot be written: File too large. It takes 1.93e-05 GB; " in said
    assert "Make room and run the same command again; it continues." in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "a.npy").exists()
    assert main(words) == 0
    assert main(["embed", *options(tiny_bert, papers, tmp_path / "b.npy"), "--quiet"]) == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_full_disk_at_the_end_keeps_the_earlier_file_and_the_vectors(
    tiny_bert, papers, tmp_path, capsys, monkeypatch, ending
):
    target = tmp_path / f"a.{ending}"
    target.write_text("earlier")
    words = ["embed", *options(tiny_bert, papers, target), "--quiet"]
    with largest_file(20_000):
        assert main(words) == 1
    said = capsys.readouterr().err
    assert f"a.{ending} cannot be written: File too large" in said
    assert "an earlier file is as it was" in said
    assert target.read_text() == "earlier"
    monkeypatch.setattr("sciembed_train.inference.embedding.encode", None)  # nothing is left to do
    assert main(words) == 0
    assert target.stat().st_size > 20_000


@pytest.mark.slow
def test_embed_on_a_full_disk_does_not_die_by_a_signal(tiny_bert, papers, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["embed", *options(tiny_bert, papers, disk / "a.npy"), "--quiet"]
    again = f"mount -o remount,size=1m {disk}; {sys.executable} -m sciembed_train.cli "
    then = f"{again} {' '.join(words)} && ls {disk}"
    done = on_small_disk(disk, 12288, "-m", "sciembed_train.cli", *words, then=then)
    assert done.returncode == 1
    (message,) = done.stderr.strip().splitlines()
    assert "a.npy cannot be written: No space left on device. It takes 1.93e-05 GB" in message
    assert done.stdout.split() == ["a.ids.txt", "a.npy"]


def test_papers_of_an_api_and_of_a_reference_manager_are_embedded_as_plain_ones(
    tiny_bert, tmp_path
):
    index = {"word1": [0], "word2": [1, 2]}
    work = {"id": "https://openalex.org/W17", "display_name": "word3"}
    answer = {"meta": {"count": 1}, "results": [{**work, "abstract_inverted_index": index}]}
    (tmp_path / "works.json").write_text(json.dumps(answer))
    (tmp_path / "refs.bib").write_text("@misc{W17, title={word3}, abstract={word1 word2 word2}}")
    row = {"paper_id": "W17", "title": "word3", "abstract": "word1 word2 word2"}
    (tmp_path / "papers.jsonl").write_text(json.dumps(row))
    for name in ("works.json", "refs.bib", "papers.jsonl"):
        run(tiny_bert, tmp_path / name, tmp_path / f"{name}.out.jsonl")
    ids, vectors = read_jsonl(tmp_path / "papers.jsonl.out.jsonl")
    for name in ("works.json", "refs.bib"):
        others, same = read_jsonl(tmp_path / f"{name}.out.jsonl")
        assert others == ids == ["W17"]
        np.testing.assert_array_equal(same, vectors)


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_vectors_in_fewer_bytes_are_read_with_what_lies_beside_them(
    dtype, tiny_bert, papers, tmp_path
):
    from sciembed_train.inference.vector_files import VectorFiles, quantisation_path
    from sciembed_train.inference.vectors_by_id import VectorsById

    target = tmp_path / "v.npy"
    assert run(tiny_bert, papers, target) == 0
    exact = np.load(target)
    assert run(tiny_bert, papers, target, "--dtype", dtype) == 0
    kind, width = {"float16": ("f2", 32), "int8": ("i1", 32), "binary": ("u1", 4)}[dtype]
    stored = np.load(target)
    assert (stored.dtype, stored.shape) == (np.dtype(kind), (150, width))
    assert quantisation_path(target).exists() == (dtype != "float16")
    files, file = VectorFiles.open(target), VectorsById(target)
    assert files.dim == file.dim == 32
    wanted = np.where(exact > 0, 1, -1) if dtype == "binary" else exact
    within = (exact.max(0) - exact.min(0)) / 255 if dtype == "int8" else np.full(32, 2e-3)
    assert (np.abs(files.between(0, 150) - wanted) <= within).all()
    np.testing.assert_array_equal(file.rows(np.arange(150)), files.rows(np.arange(150)))
    assert run(tiny_bert, papers, target) == 0
    np.testing.assert_array_equal(np.load(target), exact)
    assert not quantisation_path(target).exists()


def test_int8_of_a_killed_run_continues_with_its_ranges(tiny_bert, papers, tmp_path, monkeypatch):
    from sciembed_train.inference import embedding
    from sciembed_train.inference.resumable_output import PaperVectors

    monkeypatch.setattr(embedding, "CALIBRATION", 30)
    whole, target = tmp_path / "whole.npy", tmp_path / "v.npy"
    assert run(tiny_bert, papers, whole, "--dtype", "int8") == 0
    real, calls = PaperVectors.add, []

    def add(self, part):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(part)
        real(self, part)

    with monkeypatch.context() as patch:
        patch.setattr(PaperVectors, "add", add)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_bert, papers, target, "--dtype", "int8")
    with pytest.raises(UserError, match="unfinished run of another --dtype"):
        run(tiny_bert, papers, target, "--dtype", "binary")
    monkeypatch.setattr(embedding, "calibrate", lambda *_: pytest.fail("the ranges are kept"))
    assert run(tiny_bert, papers, target, "--dtype", "int8") == 0
    assert target.read_bytes() == whole.read_bytes()
    assert target.with_suffix(".dtype.json").read_bytes() == (
        whole.with_suffix(".dtype.json").read_bytes()
    )


def test_a_dtype_of_a_file_that_has_none_is_refused(tiny_bert, papers, tmp_path):
    with pytest.raises(UserError, match=r"--dtype int8 goes with an \.npy file"):
        run(tiny_bert, papers, tmp_path / "v.jsonl", "--dtype", "int8")
