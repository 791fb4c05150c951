import json
import os
import subprocess
import sys

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.cli import main
from sciembed_train.errors import RunError, UserError
from sciembed_train.inference import embed_shards
from sciembed_train.inference.vector_files import VectorFiles
from tests.helpers.killed_embedding import check_whole, run_with_kills
from tests.helpers.runs import ROOT
from tests.helpers.small_disk import largest_file
from tests.helpers.tiny_models import write_tiny_bert
from tests.inference.test_embed_file import ids_of, write_papers


@pytest.fixture
def papers(tmp_path):
    return write_papers(tmp_path / "papers.jsonl")


def embed(model, papers, to, **settings):
    settings = {"shard_size": 40, "batch_tokens": 1000, "device": "cpu", **settings}
    return st.embed(model, papers, to, **settings)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(".lock")}


def test_shards_hold_what_one_file_holds_in_the_inputs_order(tiny_bert, papers, tmp_path):
    shards = embed(tiny_bert, papers, tmp_path / "v")
    assert (shards.papers, shards.shards, shards.done, shards.done_here) == (150, 4, 4, 4)
    assert shards.whole
    st.embed(tiny_bert, papers, tmp_path / "v.npy", device="cpu")
    whole = np.load(tmp_path / "v.npy")
    stored = VectorFiles.open(tmp_path / "v")
    assert list(map(len, stored.arrays)) == [40, 40, 40, 30]
    assert list(stored.ids()) == ids_of(papers)
    np.testing.assert_allclose(stored.between(0, 150), whole, atol=1e-6)
    manifest = check_whole(tmp_path / "v", ids_of(papers))
    assert stored.model == manifest["model"]["hash"]
    assert (manifest["papers"], manifest["dim"], manifest["dtype"]) == (150, 32, "float32")
    assert manifest["how"]["precision"] == "fp32"
    assert len({shard["texts_sha256"] for shard in manifest["shards"]}) == 4
    assert "None of the 150 papers is longer" in str(shards)


def test_cut_texts_are_counted_over_all_shards_and_restarts(tiny_bert, papers, tmp_path):
    first = embed(tiny_bert, papers, tmp_path / "v", max_length=16)
    (tmp_path / "v" / "part-00002.json").unlink()
    again = embed(tiny_bert, papers, tmp_path / "v", max_length=16)
    assert (again.done, again.done_here) == (4, 1)
    assert again.truncation == first.truncation
    assert 0 < again.truncation.cut < 150
    assert f"{again.truncation.cut} of 150 papers" in str(again)
    assert "3 shards of these were not written by this process" in str(again)
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert manifest["truncation"]["cut"] == again.truncation.cut


def test_a_restart_does_what_is_missing_bit_for_bit(tiny_bert, papers, tmp_path, monkeypatch):
    from sciembed_train.inference import embedding

    embed(tiny_bert, papers, tmp_path / "v")
    whole = contents(tmp_path / "v")
    for name in ("part-00001.npy", "part-00003.ids.txt", "manifest.json"):
        (tmp_path / "v" / name).unlink()
    encoded, real = [], embedding.encode

    def count(encoder, rows, *rest):
        encoded.append(len(rows))
        return real(encoder, rows, *rest)

    monkeypatch.setattr(embedding, "encode", count)
    assert embed(tiny_bert, papers, tmp_path / "v").done_here == 2
    assert encoded == [40, 30]
    assert contents(tmp_path / "v") == whole


def test_shares_of_processes_are_disjoint_and_make_one_folder(tiny_bert, papers, tmp_path):
    alone = embed(tiny_bert, papers, tmp_path / "alone")
    first = embed(tiny_bert, papers, tmp_path / "v", shards="2/3")
    assert (first.done_here, first.whole) == (1, False)
    assert "1 of 4 shards" in str(first)
    assert [p.name for p in (tmp_path / "v").glob("*.npy")] == ["part-00001.npy"]
    with pytest.raises(UserError, match="not all of its shards are there"):
        VectorFiles.open(tmp_path / "v")
    assert embed(tiny_bert, papers, tmp_path / "v", shards="1/3").done_here == 2
    assert embed(tiny_bert, papers, tmp_path / "v", shards="3/3").whole
    assert alone.whole
    assert contents(tmp_path / "v") == contents(tmp_path / "alone")


def test_launchers_give_a_share_which_is_said(tiny_bert, papers, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    shards = embed(tiny_bert, papers, tmp_path / "v", progress=True)
    assert sorted(p.name for p in (tmp_path / "v").glob("*.npy")) == [
        "part-00001.npy",
        "part-00003.npy",
    ]
    assert shards.done == 2
    assert "Process 2 of 2 (torchrun): 2 of 4 shards" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_without_a_share_take_what_is_free(tiny_bert, papers, tmp_path):
    words = ["--model", tiny_bert, "--input", papers, "--to", tmp_path / "v", "--json"]
    words += ["--shard_size", "10", "--batch_tokens", "1000", "--device", "cpu"]
    command = [sys.executable, "-m", "sciembed_train.cli", "embed", *map(str, words)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    printed = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(each["done_here"] for each in printed) == 15
    check_whole(tmp_path / "v", ids_of(papers))


def test_a_shard_that_another_process_writes_is_left_to_it(tiny_bert, papers, tmp_path):
    from sciembed_train.corpus.shared_work import Lock

    (tmp_path / "v").mkdir()
    lock = Lock(tmp_path / "v" / ".part-00002.lock")
    assert lock.take()
    shards = embed(tiny_bert, papers, tmp_path / "v")
    assert (shards.done, shards.whole) == (3, False)
    lock.give_up()
    assert embed(tiny_bert, papers, tmp_path / "v").whole


def test_the_message_is_one_and_the_exit_code_2(tiny_bert, papers, tmp_path, capsys):
    words = ["embed", "--input", str(papers), "--device", "cpu", "--to", str(tmp_path / "v")]
    assert main([*words, "--model", str(tiny_bert), "--quiet"]) == 0
    other = write_tiny_bert(tmp_path / "other", seed=1)
    assert main([*words, "--model", str(other)]) == 2
    assert capsys.readouterr().err.count("embed: ") == 1


def test_shards_of_a_process_that_was_overtaken_are_not_mixed_in(
    tiny_bert, papers, tmp_path, monkeypatch
):
    from sciembed_train.inference import embedding

    other, real = write_tiny_bert(tmp_path / "other", seed=1), embedding.encode

    def overtake(*args):
        monkeypatch.setattr(embedding, "encode", real)
        embed(other, papers, tmp_path / "v", restart=True, shards="4/4")
        return real(*args)

    monkeypatch.setattr(embedding, "encode", overtake)
    with pytest.raises(UserError, match="another process has begun it anew"):
        embed(tiny_bert, papers, tmp_path / "v")
    assert sorted(p.name for p in (tmp_path / "v").glob("*.npy")) == ["part-00003.npy"]


def test_shards_of_torch_and_of_a_graph_are_kept_apart(with_onnx, papers, tmp_path):
    embed(with_onnx, papers, tmp_path / "v", shards="1/2")
    with pytest.raises(UserError, match="holds shards of another model and other settings"):
        embed(with_onnx, papers, tmp_path / "v", shards="2/2", backend="onnx")
    shards = embed(with_onnx, papers, tmp_path / "o", backend="onnx")
    assert shards.whole
    embed(with_onnx, papers, tmp_path / "v")
    ours, torchs = (VectorFiles.open(tmp_path / name) for name in ("o", "v"))
    assert ours.manifest["how"]["backend"] == "onnx"
    assert "backend" not in torchs.manifest["how"]
    np.testing.assert_allclose(ours.between(0, 150), torchs.between(0, 150), atol=1e-4)


def test_what_shards_cannot_hold_is_refused(tiny_bert, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"paper_id": "a\x85b", "title": "t", "abstract": None}) + "\n")
    with pytest.raises(UserError, match="has a line end in it"):
        embed(tiny_bert, path, tmp_path / "v")
    path.write_text("")
    with pytest.raises(UserError, match="holds no paper"):
        embed(tiny_bert, path, tmp_path / "w")
    with pytest.raises(UserError, match="goes with a folder of shards"):
        embed(tiny_bert, path, tmp_path / "v.npy", shards="1/2")


def test_a_full_disk_keeps_the_whole_shards(tiny_bert, papers, tmp_path, monkeypatch):
    embed(tiny_bert, papers, tmp_path / "v", shards="1/2")
    real = embed_shards.new_array

    def no_room(path, *shape):
        with largest_file(2000):
            return real(path, *shape)

    monkeypatch.setattr(embed_shards, "new_array", no_room)
    with pytest.raises(RunError, match="Shards that are whole are kept"):
        embed(tiny_bert, papers, tmp_path / "v")
    monkeypatch.undo()
    assert embed(tiny_bert, papers, tmp_path / "v").done_here == 2


def test_several_files_are_read_where_the_shards_are(tiny_bert, tmp_path, monkeypatch):
    from sciembed_train.corpus.readers.tables import Table

    folder = tmp_path / "papers"
    folder.mkdir()
    rows = write_papers(tmp_path / "all.jsonl").read_text().splitlines()
    for number in range(5):
        part = rows[number * 30 : number * 30 + 30]
        (folder / f"{number}.jsonl").write_text("\n".join(part) + "\n")
    embed(tiny_bert, folder, tmp_path / "v", shards="1/4")
    opened, real = [], Table.rows_of

    def rows_of(table, number):
        opened.append(number)
        return real(table, number)

    monkeypatch.setattr(Table, "rows_of", rows_of)
    embed(tiny_bert, folder, tmp_path / "v", shards="4/4")  # papers 120 to 149
    assert opened == [4]
    monkeypatch.undo()
    embed(tiny_bert, folder, tmp_path / "v")
    check_whole(tmp_path / "v", [json.loads(row)["paper_id"] for row in rows])


@pytest.mark.slow
def test_five_kills_at_random_moments_lose_and_double_nothing(tiny_bert, tmp_path):
    papers = tmp_path / "papers.jsonl"
    ids = [f"p{number * 7919 % 6000}" for number in range(6000)]
    with papers.open("w") as file:
        for number, paper in enumerate(ids):
            title = f"word{number % 200} word{number // 200}"
            file.write(json.dumps({"paper_id": paper, "title": title, "abstract": None}) + "\n")
    words = ["--model", tiny_bert, "--input", papers, "--to", tmp_path / "v", "--quiet"]
    words = [*map(str, words), "--shard_size", "200", "--device", "cpu"]
    times = run_with_kills(words, tmp_path / "v", kills=5, seed=0, pause=0.1)
    assert len(times) == 5
    check_whole(tmp_path / "v", ids)
    st.embed(tiny_bert, papers, tmp_path / "alone", shard_size=200, device="cpu")
    assert contents(tmp_path / "v") == contents(tmp_path / "alone")


def test_the_job_of_an_array_gives_embed_its_words(tmp_path):
    (tmp_path / "train").write_text('#!/bin/bash\necho "$OMP_NUM_THREADS" "$@"\n')
    (tmp_path / "train").chmod(0o755)
    job = ROOT / "configs" / "machine" / "embed.sbatch"
    done = subprocess.run(
        ["bash", str(job), "--model", "a model", "--to", "v"],
        cwd=tmp_path,
        env={**os.environ, "SLURM_CPUS_PER_TASK": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "8 embed --model a model --to v\n"
    assert "#SBATCH --array=0-7" in job.read_text()


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
def test_the_same_command_under_torchrun_writes_one_folder(tiny_bert, papers, tmp_path):
    words = ["--model", tiny_bert, "--input", papers, "--to", tmp_path / "v", "--device", "cpu"]
    command = [sys.executable, *TORCHRUN, "-m", "sciembed_train.cli", "embed", *map(str, words)]
    done = subprocess.run(
        [*command, "--shard_size", "40"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    assert "Process 1 of 2 (torchrun): 2 of 4 shards" in done.stderr
    check_whole(tmp_path / "v", ids_of(papers))


@pytest.mark.parametrize("dtype", ["float16", "int8", "binary"])
def test_shards_of_several_processes_have_the_ranges_of_the_plan(
    dtype, tiny_bert, papers, tmp_path, monkeypatch
):
    from sciembed_train.inference import embedding

    alone = embed(tiny_bert, papers, tmp_path / "alone", dtype=dtype)
    assert alone.whole
    embed(tiny_bert, papers, tmp_path / "v", shards="2/2", dtype=dtype)
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "calibrate", lambda *_: pytest.fail("the plan has the ranges"))
        assert embed(tiny_bert, papers, tmp_path / "v", shards="1/2", dtype=dtype).whole
    assert contents(tmp_path / "v") == contents(tmp_path / "alone")
    stored = VectorFiles.open(tmp_path / "v")
    assert (stored.dim, stored.manifest["dtype"], len(stored.arrays)) == (32, dtype, 4)
    st.embed(tiny_bert, papers, tmp_path / "v.npy", device="cpu", dtype=dtype)
    one = VectorFiles.open(tmp_path / "v.npy")
    near = {"float16": 2e-3, "int8": 0.05, "binary": 0}[dtype]
    assert np.abs(stored.between(0, 150) - one.between(0, 150)).max() <= near
    with pytest.raises(UserError, match=rf"another dtype \(--dtype {dtype}\)"):
        embed(tiny_bert, papers, tmp_path / "v")
