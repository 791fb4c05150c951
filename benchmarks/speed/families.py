"""Training and embedding of each family of backbones: unpadded against padded.

    python -m benchmarks.speed.families [--families modernbert ...] [--rounds 5] [--to FILE]

``unpadded``  this project's forward over the tokens alone
``padded``    the backbone's own forward, texts sorted by length and padded in micro-batches of the
              same budget (``encoder.forward padded``)
``plain``     the backbone's own forward on the whole batch, padded to its longest text, as trainers
              and loops do that do not sort

One process, random weights in published shapes, equal for all sides; texts of random ids whose
lengths are those of titles with abstracts. The sides take turns, and a ratio is that of two sides
in one round: the median over the rounds, with the range. Time is that of the processor, on a GPU
the clock's. Before that every side computes vectors and a loss once, and the largest difference to
the plain side's is in the table.

``work``: ``cls`` trains first-token vectors (triplets and pairs of texts), ``mean`` mean vectors
(contrast of pairs), ``mlm`` mean vectors and masked tokens (DeCLUTR); ``embed`` is inference of
mean vectors.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from benchmarks import command_line
from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings

LONGEST = 512
MASKED = 0.15
SIDES: dict[str, dict[str, Any]] = {
    "unpadded": {"forward": "unpadded"},
    "padded": {"forward": "padded"},
    "plain": {"forward": "padded", "max_tokens_per_forward": 10**9},
}
WORK = ("cls", "mean", "mlm", "embed")
_MINILM = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 514,
    "vocab_size": 30522,
}
# name: the model type, a published shape, and what it is
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("bert", _MINILM, "MiniLM, 6 x 384"),
    "bert-base": ("bert", {}, "BERT base, 12 x 768"),
    "roberta": ("roberta", _MINILM, "RoBERTa in MiniLM's shape"),
    "modernbert": (
        "modernbert",
        {
            "hidden_size": 256,
            "num_hidden_layers": 7,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "vocab_size": 50368,
        },
        "Ettin 17M, 7 x 256, window 128",
    ),
    "modernbert-base": ("modernbert", {}, "ModernBERT base, 22 x 768, window 128"),
}


def write(folder: Path, name: str) -> Path:
    """A folder with the family's random weights and a tokenizer that is never asked."""
    from tokenizers import Tokenizer, models, processors
    from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

    kind, shape, _ = FAMILIES[name]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{n[1:-1].lower()}_token": n for n in names}
    own = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], **special
    )
    own.save_pretrained(folder)
    ids = {"pad_token_id": 0, **dict.fromkeys(("bos_token_id", "cls_token_id"), 2)}
    ids |= dict.fromkeys(("eos_token_id", "sep_token_id"), 3)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **shape, **ids)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    return folder


def drawn(texts: int) -> TokenRows:
    """Texts of random ids: mean 180 tokens, 300 at the 90th percentile, cut."""
    generator = np.random.default_rng(0)
    sizes = generator.lognormal(np.log(165), 0.45, texts).clip(16, LONGEST).astype(np.int64)
    ids = torch.from_numpy(generator.integers(1000, 20000, int(sizes.sum())))
    return TokenRows(ids, torch.from_numpy(sizes))


def step(encoder: Encoder, rows: TokenRows, work: str, precision: str) -> list[torch.Tensor]:
    """Vectors and the loss; in training its gradients are made too."""
    kind = encoder.device.type
    encoder.train(work != "embed")
    with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
        if work == "embed":
            with torch.inference_mode():
                return [encoder(rows)]
        encoder.zero_grad(set_to_none=False)
        if work == "mlm":
            masked = torch.arange(0, rows.tokens, round(1 / MASKED))
            vectors, states = encoder.with_token_states(rows, masked)
            logits = encoder.token_logits(states).float()
            loss = cross_entropy(logits, rows.ids[masked.to(rows.ids.device)])
        else:
            vectors, loss = encoder(rows), torch.zeros((), device=rows.ids.device)
        loss = loss + vectors.float().square().mean()
    loss.backward()
    return [vectors.detach().float(), loss.detach()]


def timed(call: Callable[[], Any]) -> float:
    """Seconds of the processor, or on a GPU of the clock."""
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    start = clock()
    call()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def measure(folder: Path, work: str, rows: TokenRows, rounds: int, precision: str) -> str:
    """The rest of a row of the table: texts a second, both ratios, the largest difference."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = TokenRows(rows.ids.to(device), rows.lengths)
    pooling = "cls" if work == "cls" else "mean"
    encoders: dict[str, Encoder] = {}
    for side, values in SIDES.items():
        settings = EncoderSettings(str(folder), pooling, LONGEST, dropout=0.0, **values)
        encoders[side] = Encoder(settings, masked_lm=work == "mlm").to(device)
    outputs = {side: step(own, rows, work, precision) for side, own in encoders.items()}
    off = max(
        float((one - other).abs().max() / other.abs().max())
        for side in ("unpadded", "padded")
        for one, other in zip(outputs[side], outputs["plain"], strict=True)
    )
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, encoder in encoders.items():
            seconds[side].append(timed(lambda own=encoder: step(own, rows, work, precision)))
    cells = [f"{len(rows) / statistics.median(seconds['unpadded']):.1f}"]
    for other in ("padded", "plain"):
        ratios = [b / a for a, b in zip(seconds["unpadded"], seconds[other], strict=True)]
        low, high = min(ratios), max(ratios)
        cells.append(f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")
    return " | ".join([*cells, f"{off:.0e}"])


def heading(rows: TokenRows, rounds: int, precision: str) -> list[str]:
    """What the numbers were measured on."""
    sizes = rows.lengths.numpy()
    slots = len(sizes) * sizes.max()
    where = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s)"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.is_file() else []
        model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
        where = f"{model or where}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"{where}; load {load} before the first row. Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}. {precision}, "
        f"{len(sizes)} texts, {rows.tokens} tokens (16 to {sizes.max()}), {rounds} rounds; of the "
        f"plain side's slots {rows.tokens / slots:.0%} hold a token.",
        "",
        "| family | work | texts/s unpadded | against padded | against plain | difference |",
        "|---|---|---|---|---|---|",
    ]


def main() -> None:
    """Print the table, and write it where asked for."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--families", nargs="+", choices=FAMILIES, default=["bert", "roberta", "modernbert"]
    )
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--to", type=Path, help="write the table there too")
    given = parser.parse_args()
    rows = drawn(given.texts)
    table = heading(rows, given.rounds, given.precision)
    print("\n".join(table), flush=True)
    with tempfile.TemporaryDirectory() as place:
        for name in given.families:
            folder = write(Path(place) / name, name)
            for work in given.work:
                cells = measure(folder, work, rows, given.rounds, given.precision)
                table.append(f"| {FAMILIES[name][2]} | {work} | {cells} |")
                print(table[-1], flush=True)
    if given.to is not None:
        given.to.write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
