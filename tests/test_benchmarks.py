"""The scripts in benchmarks/ that can be tried small."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from sciembed_train.batch import LabelPart, TaskBatch, TaskKind, TokenRows, TripletPart
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.methods.task_heads import TaskHeads
from sciembed_train.sampling.span_positions import Rule
from sciembed_train.sampling.span_slicing import span_batch
from sciembed_train.sampling.token_masking import Masking
from tests.helpers.graph_models import needs_openvino

ROOT = Path(__file__).resolve().parents[1]


GPU_TABLES = (
    *("throughput", "families", "declutr", "gradient_cache", "cocitation", "mixed_formats"),
    *("loss_memory", "throughput_fp32"),
)


def on_gpu(*words):
    script = ["bash", "benchmarks/gpu.sh", *map(str, words)]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_backends_are_compared_small(tiny_bert, capsys):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    needs_openvino()
    from benchmarks.speed import embed

    embed.main(["--dry", "--model", str(tiny_bert)])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    cosines = {row[0].strip("| "): float(row[-1].strip(" |")) for row in rows[1:]}
    assert {"torch", "onnx", "openvino", "st torch"} <= set(cosines)
    assert min(cosines.values()) > 0.999


@pytest.mark.slow
def test_every_table_of_the_gpu_script_runs_small_without_a_gpu(shared_data, tmp_path):
    done = on_gpu("--dry", shared_data, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^== (\w+)$", done.stdout, re.MULTILINE) == list(GPU_TABLES)
    for name in GPU_TABLES:
        rows = [line for line in (tmp_path / f"{name}.txt").read_text().splitlines() if "|" in line]
        assert len(rows) > 2, f"{name} has no row"


@pytest.mark.slow
def test_a_table_that_fails_leaves_the_next_ones_to_run(tmp_path):
    done = on_gpu("--dry", tmp_path, tmp_path / "to", "mixed_formats", "loss_memory")
    assert done.returncode == 1
    assert "failed or cut: mixed_formats\n" in done.stderr  # there are no data
    assert "| 1,024 |" in (tmp_path / "to" / "loss_memory.txt").read_text()


def test_the_tables_of_the_gpu_script_are_chosen_by_name_and_take_nine_minutes(tmp_path):
    done = on_gpu("--dry", tmp_path, tmp_path / "to", "loss")
    assert done.returncode == 2
    assert f"there is no table loss; there are: {' '.join(GPU_TABLES)}" in done.stderr
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    limits = re.search(r"limit=\((.*?)\)", script, re.DOTALL)
    assert sum(map(int, re.findall(r"=(\d+)", limits[1]))) == 540


@pytest.mark.parametrize("masked", [True, False])
def test_padded_sides_have_our_loss_and_gradients(tmp_path, masked):
    from benchmarks.speed.gpu_declutr import RandomDocuments, backbone
    from benchmarks.speed.span_steps import FORWARDS, Side, loss_difference

    folder, words = backbone(tmp_path, dry=True)
    tokens = RandomDocuments(count=6, words=words, longest=64)
    rule = Rule(2, 2, 64, 8, "any")
    masking = Masking(0.3, 4, np.arange(words) < 5) if masked else None
    batch = span_batch(tokens, np.arange(6), rule, masking, 62, key=(0, 0, 0), step=0)
    settings = EncoderSettings(str(folder), "mean", 64, dropout=0.0)
    encoder = Encoder(settings, masked_lm=True).double()
    gradients = {}
    sides = {name: Side(encoder, forward, "fp32") for name, forward in FORWARDS.items()}
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    for name, side in sides.items():
        encoder.load_state_dict(before)
        side.step(batch)
        reached = [p for p in encoder.parameters() if p.grad is not None]
        gradients[name] = torch.cat([p.grad.flatten() for p in reached])
    assert loss_difference(sides)[0] < 1e-12
    for found in gradients.values():
        torch.testing.assert_close(found, gradients["ours"], rtol=1e-9, atol=1e-12)


def test_random_documents_are_sliced_as_a_token_store_does(tmp_path):
    from benchmarks.speed.gpu_declutr import RandomDocuments

    tokens = RandomDocuments(count=3, words=50, longest=8)
    ids, lengths = tokens.slices(np.array([2, 0]), np.array([1, 0]), np.array([4, 3]))
    first = int(tokens.lengths[:2].sum())
    assert lengths.tolist() == [6, 5]
    assert ids.tolist() == [2, *tokens.ids[first + 1 : first + 5], 3, 2, *tokens.ids[:3], 3]


def test_the_operations_counted_are_those_of_the_matrix_products(tmp_path):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.speed.gpu_declutr import RandomDocuments, backbone, needed

    folder, words = backbone(tmp_path, dry=True)
    tokens = RandomDocuments(count=2, words=words, longest=64)
    masking = Masking(0.15, 4, np.arange(words) < 5)
    rule = Rule(2, 2, 64, 8, "any")
    batch = span_batch(tokens, np.arange(2), rule, masking, 62, key=(0, 0, 0), step=0)
    encoder = Encoder(EncoderSettings(str(folder), "mean", 64, dropout=0.0), masked_lm=True)
    # Of attention the counter knows the plain form alone.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, states = encoder.with_token_states(batch.rows, batch.masked)
        encoder.token_logits(states)
    assert counter.get_total_flops() == pytest.approx(needed(batch, encoder.backbone.config) / 3)


def test_a_picture_of_loss_curves_is_a_drawing_of_every_run():
    from benchmarks.quality.loss_curves import Curve, picture

    runs = [
        {
            loss: Curve(f"run-{i}", [(s, 5 / s + i) for s in range(1, 41)], [(0, 6.0), (40, 1.0)])
            for loss in ("contrastive_loss", "mlm_loss")
        }
        for i in range(3)
    ]
    drawn = ElementTree.fromstring(picture(runs))
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"run-0", "run-1", "run-2", "MLM loss", "40"} <= set(words)
    dots = list(drawn.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 3 * 2 * 2 + 1  # and one in the legend


def test_every_way_to_encode_several_formats_has_the_same_loss_and_gradients(tiny_bert):
    pytest.importorskip("adapters")
    from benchmarks.speed.mixed_formats import SIDES, Counted, encoding, loss_of

    torch.manual_seed(0)
    settings = EncoderSettings(
        str(tiny_bert), max_length=24, dropout=0.0, adapters=AdapterSettings(reduction=4)
    )
    encoder = Encoder(settings).double()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    for parameter in trained:
        torch.nn.init.normal_(parameter, std=0.2)
    kinds = (
        TaskKind("level", "number"),
        TaskKind("field", "class", 3),
        TaskKind("near", "triplet"),
    )
    heads = TaskHeads(kinds, encoder.dim, 0.0).double()
    # Two triplets of one query; the positive of one is the other's negative.
    given = [(1, [5, 24]), (0, [9, 3]), (3, [4]), (2, [17, 8, 11])]
    lengths = torch.tensor([n for _, several in given for n in several])
    batch = TaskBatch(
        TokenRows(torch.arange(int(lengths.sum())) % 40 + 5, lengths),
        torch.tensor([place for place, several in given for _ in several]),
        (
            LabelPart("level", torch.tensor([0, 1]), torch.tensor([0.5, -1.0])),
            LabelPart("field", torch.tensor([3, 2]), torch.tensor([0, 2])),
            TripletPart("near", *map(torch.tensor, ([4, 4], [5, 7], [6, 5]))),
        ),
        0,
    )
    found, counted = {}, {}
    for side in SIDES:
        encoder.zero_grad()
        counted[side] = Counted()
        columns = encoding(side)(encoder, batch, counted[side])
        loss = loss_of(heads, {kind.name: kind for kind in kinds}, batch, columns)
        loss.backward()
        found[side] = loss.detach(), torch.cat([p.grad.flatten() for p in trained])
    assert found[SIDES[0]][1].abs().max() > 1e-3
    for side in SIDES[1:]:
        torch.testing.assert_close(found[side], found[SIDES[0]], rtol=1e-9, atol=1e-12)
    assert [counted[side].slots for side in SIDES] == [81, 81, 121, 10 * 24]
    assert [counted[side].real for side in SIDES] == [81, 81, 81, 102]


def test_the_projection_counts_the_work_in_plain_loops():
    from benchmarks.calculators.training_hours import abstracts, forward, stages

    d, layers = 768, 12
    # Of a layer: query, key, value and output, then four times the width and back.
    weights = layers * (4 * d * d + 2 * d * 4 * d)
    scores_and_sums = layers * 2 * 2 * 240 * d
    assert forward(240) == 2 * weights + scores_and_sums
    mean, attended = abstracts()
    assert mean == pytest.approx(200, abs=1)
    assert attended == pytest.approx(240, abs=1)
    base, grouped, adapters, declutr, _ = stages(papers=1.5)
    whole_head = 3 * 2 * d * 31_090  # at every token; of anchors, nearly half, 15 % are masked
    assert declutr.more == pytest.approx(whole_head * 0.15 * 352 / (352 + 2 * 192), rel=0.01)
    assert base.flops == pytest.approx(6e6 * 2 * 3 * mean * 3 * forward(attended))
    assert grouped.flops == pytest.approx(base.flops / 2)
    assert adapters.flops / adapters.all_tokens == pytest.approx(2 * forward(attended))


def test_the_projection_reads_the_rate_of_a_row(tmp_path, capsys, monkeypatch):
    from benchmarks.calculators import training_hours

    table = tmp_path / "table.md"
    table.write_text(
        "machine\n\n| row | precision | real tokens/s |\n|---|---|---|\n"
        "| scibert-shape-32 | bf16 | 400,000 |\n| scibert-shape-1024 | bf16 | 1,000,000 (0.98) |\n"
    )
    assert training_hours.read_rate(table, "scibert-shape-1024") == ("tokens", 1e6)
    with pytest.raises(SystemExit, match="has no row 'other'"):
        training_hours.read_rate(table, "other")
    monkeypatch.setattr(sys, "argv", ["calculators/training_hours.py", "--output", str(table)])
    training_hours.main()
    said = capsys.readouterr().out
    assert "| SPECTER2 base, shuffled | 3.6e+07 | 7.2e+09 | 3.86e+18 | 2.00 | 0.25 |" in said
    monkeypatch.setattr(sys, "argv", ["calculators/training_hours.py"])
    training_hours.main()
    assert "still to be measured" in capsys.readouterr().out


def test_the_projection_takes_a_share_of_the_peak_that_was_measured_with_it(
    tmp_path, capsys, monkeypatch
):
    from benchmarks.calculators import training_hours

    table = tmp_path / "table.md"
    table.write_text(
        "a GPU; bf16 peak 395 TFLOP/s\n\n| row | side | share of bf16 peak |\n|---|---|---|\n"
        "| scibert-shape-1024 | ours | 0.50 |\n"
    )
    monkeypatch.setattr(sys, "argv", ["calculators/training_hours.py", "--output", str(table)])
    training_hours.main()
    hours = training_hours.stages(2.2)[0].flops / (0.5 * 395e12) / 3600
    assert f"| 3.86e+18 | {hours:.2f} |" in capsys.readouterr().out
    table.write_text(table.read_text().replace("bf16 peak 395 TFLOP/s", ""))
    with pytest.raises(SystemExit, match="does not tell the bf16 peak"):
        training_hours.main()


def test_the_throughput_table_can_leave_this_project_out(tmp_path, monkeypatch):
    from benchmarks.speed import throughput

    order = tmp_path / "order.npy"
    np.save(order, np.arange(12).reshape(4, 3))
    monkeypatch.setattr(throughput, "texts_of", lambda job: [""] * 12)
    monkeypatch.setattr(throughput, "lengths_of", lambda job, texts: np.full(12, 100))
    job = {"order": order, "batch": 2, "steps": 1, "precision": "fp32", "dropout": 0.0}
    result = {"triplets_per_second": 8.0, "useful": None, "peak_gb": 1.0, "losses": [1.0]}
    made = throughput.summary("scibert-shape-8", job, {"st": [result], "best": [result]}, None)
    assert [line.split("|")[3:6] for line in made] == [
        [f" {side} ", " 8.00 ", " - "] for side in ("st", "best")
    ]
