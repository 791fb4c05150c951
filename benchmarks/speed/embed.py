"""Papers embedded per second by torch, by graphs, and by sentence-transformers with its backends.

All sides embed the same papers with the same encoder, from texts to vectors, tokenisation among
it, on as many threads as torch takes (OMP_NUM_THREADS). The sides take turns in one process, so
that a busy moment of the machine falls on all of them; the first turn of each is not counted.

``torch``        this project, its defaults: texts without padding, fp32
``torch bf16``   the same in bf16; left out where the processor has no units for it
``onnx``         the graph of ``export --onnx`` in onnxruntime
``openvino``     that of ``export --openvino``, weights of 8 bits
``st torch``     sentence-transformers with its defaults, batches of 32 texts sorted by length
``st onnx``, ``st openvino``  its backends, on the same files; they need the packages optimum-onnx
                 and optimum-intel, and are left out without

    python -m benchmarks.speed.embed --data ../shared/data [--model FOLDER] [--texts 512]

Prints one table: papers per second (median over the rounds, with the range), the ratio to
``torch``, the size of what is loaded, and the smallest cosine with the vectors of ``torch``. With
``--profile`` two more: the seconds of ``torch`` and ``st torch`` by operation, by torch's profiler,
and how fast MKL (``F.linear``) and oneDNN with packed weights make the encoder's matrix products.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sciembed_train as st
from benchmarks import command_line
from benchmarks.encoders import minilm
from benchmarks.texts import real_papers
from sciembed_train.diagnostics.machine import BF16_FLAGS, cores, cpu
from sciembed_train.encoder.backends.graph_files import FILES
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.export_folder import export_encoder

PEERS = ("sentence-transformers", "onnxruntime", "openvino")
PROFILED = ("torch", "st torch")
Side = Callable[[], Any]  # vectors


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def our_sides(folder: Path, papers: list[dict], tokens: int | None) -> dict[str, Side]:
    """How this project embeds the papers, by the names of the sides."""
    ways: dict[str, dict[str, Any]] = {"torch": {}, "torch bf16": {"precision": "bf16"}}
    if not set(BF16_FLAGS) & set(cpu()[1]):
        del ways["torch bf16"]
    ways |= {backend: {"backend": backend} for backend in FILES}
    encoders = {
        name: st.load_encoder(folder, device="cpu", batch_tokens=tokens, **settings)
        for name, settings in ways.items()
    }
    return {name: partial(encoder.encode, papers) for name, encoder in encoders.items()}


def their_sides(folder: Path, texts: list[str]) -> tuple[dict[str, Side], list[str]]:
    """How sentence-transformers embeds the texts, and the names of what cannot be run here."""
    from sentence_transformers import SentenceTransformer

    needs = {"torch": None, "onnx": "optimum.onnxruntime", "openvino": "optimum.intel"}
    sides, left_out = {}, []
    backend: Any
    for backend, module in needs.items():
        if module is not None and not is_installed(module):
            left_out.append(f"st {backend}")
            continue
        options: dict[str, Any] = {}
        if backend != "torch":
            options["model_kwargs"] = {"file_name": f"{backend}/{FILES[backend]}"}
        model = SentenceTransformer(str(folder), device="cpu", backend=backend, **options)
        sides[f"st {backend}"] = partial(model.encode, texts, show_progress_bar=False)
    return sides, left_out


def size_of(folder: Path, side: str) -> float:
    """MiB of the weights' files that a side loads."""
    backend = side.split()[-1]
    files = [folder / "model.safetensors"]
    if backend in FILES:
        files = list((folder / backend).glob(f"{Path(FILES[backend]).stem}.*"))
    return sum(path.stat().st_size for path in files) / 2**20


def measure(sides: dict[str, Side], rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each side in each round, and its vectors."""
    vectors = {name: run() for name, run in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds, vectors


def smallest_cosine(actual: np.ndarray, expected: np.ndarray) -> float:
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (actual, expected)]
    return float((unit[0] * unit[1]).sum(1).min())


def table(
    seconds: dict[str, list[float]], vectors: dict[str, Any], folder: Path, papers: int
) -> list[str]:
    """The lines of the table."""
    lines = [
        "| side | papers/s | range | x torch | range | MiB | smallest cosine |",
        "|---|--:|---|--:|---|--:|--:|",
    ]
    for name, own in seconds.items():
        rates = [papers / s for s in own]
        ratios = [base / s for base, s in zip(seconds["torch"], own, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(rates):.1f} | {min(rates):.1f} to {max(rates):.1f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} "
            f"| {size_of(folder, name):.0f} "
            f"| {smallest_cosine(vectors[name], vectors['torch']):.5f} |"
        )
    return lines


def profile(sides: dict[str, Side], kinds: int = 6) -> list[str]:
    """Lines of a table: seconds and share of the operations that take longest, by side."""
    lines = ["| side | operation | calls | s | share |", "|---|---|--:|--:|--:|"]
    for name, run in sides.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            run()
        events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
        whole = sum(e.self_cpu_time_total for e in events)
        for event in events[:kinds]:
            own = event.self_cpu_time_total
            lines.append(
                f"| {name} | `{event.key}` | {event.count} | {own / 1e6:.2f} | {own / whole:.1%} |"
            )
        lines.append(f"| {name} | all | | {whole / 1e6:.2f} | |")
    return lines


def products(hidden: int, between: int, repeats: int = 8) -> list[str]:
    """Lines of a table: GFLOP/s of the products of a layer, the best of some repeats, fp32.

    Args:
        hidden: the encoder's width.
        between: width inside its feed-forward network.
        repeats: of each product.
    """

    def rate(run: Callable[[], Any], operations: int) -> float:
        run()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return operations / min(times) / 1e9

    lines = ["| tokens | product | MKL | oneDNN, packed |", "|--:|---|--:|--:|"]
    ops: Any = torch.ops.mkldnn
    for tokens in (1024, 2048, 4096):
        for left, right in ((hidden, hidden), (hidden, between), (between, hidden)):
            states, weight = torch.randn(tokens, left), torch.randn(right, left)
            bias, operations = torch.randn(right), 2 * tokens * left * right
            packed = ops._reorder_linear_weight(weight, tokens)
            rates = [
                rate(partial(torch.nn.functional.linear, states, weight, bias), operations),
                rate(
                    partial(ops._linear_pointwise, states, packed, bias, "none", [], ""),
                    operations,
                ),
            ]
            lines.append(f"| {tokens} | {left} x {right} | {rates[0]:.0f} | {rates[1]:.0f} |")
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of real papers (benchmarks.texts)")
    parser.add_argument("--model", type=Path, help="an encoder's folder; all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_tokens", type=int, help="of our sides; each one's default")
    parser.add_argument("--profile", action="store_true", help="seconds by operation as well")
    parser.add_argument("--dry", action="store_true", help="invented papers: to try the script")
    options = parser.parse_args(argv)
    if options.dry:
        papers = [{"title": f"word{n}", "abstract": "word3 " * (n % 90)} for n in range(12)]
    elif options.data is None:
        parser.error("give --data, or --dry")
    else:
        every = real_papers(options.data)
        order = np.random.default_rng(0).permutation(len(every))[: options.texts]
        papers = [every[n] for n in order]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        encoder = Encoder.load(options.model or minilm())
        export_encoder(encoder, folder, {"similarity": "cosine"}, graphs=tuple(FILES))
        texts = [encoder.compose(paper["title"], paper["abstract"]) for paper in papers]
        tokens = encoder.rows(texts).tokens / len(texts)
        sides = our_sides(folder, papers, options.batch_tokens)
        theirs, left_out = their_sides(folder, texts)
        seconds, vectors = measure(sides | theirs, 1 if options.dry else options.rounds)
        packages = ("torch", "transformers", *PEERS)
        installed = [f"{name} {importlib.metadata.version(name)}" for name in packages]
        name, flags = cpu()
        print(
            f"{len(papers)} papers of {tokens:.0f} tokens. {torch.get_num_threads()} threads on "
            f"{cores()} cores of {name} ({', '.join(flags)}). Python {platform.python_version()}, "
            f"{', '.join(installed)}. Not installed: {', '.join(left_out) or 'nothing'}.\n"
        )
        print("\n".join(table(seconds, vectors, folder, len(papers))))
        if options.profile:
            both = {name: side for name, side in (sides | theirs).items() if name in PROFILED}
            print("\n" + "\n".join(profile(both)))
            widths = encoder.config.hidden_size, encoder.config.intermediate_size
            print("\n" + "\n".join(products(*widths, repeats=1 if options.dry else 8)))


if __name__ == "__main__":
    main()
