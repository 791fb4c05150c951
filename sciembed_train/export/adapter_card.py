"""The part of the model card that tells how an encoder with adapters is used."""

from __future__ import annotations

from collections.abc import Iterator

from sciembed_train.encoder.adapters.adapter_settings import (
    ADAPTERS_PLACE,
    FUSION_PLACE,
    AdapterSettings,
)
from sciembed_train.encoder.adapters.format_adapters import adapters_of
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.format_reader import BASE_PLACE
from sciembed_train.export.card_usage import of_formats
from sciembed_train.text.input_format import FORMATS


def usage(encoder: Encoder, whole: bool) -> Iterator[str]:
    """The lines of the sections "Folders" and "Use".

    Args:
        encoder: what is exported, with adapters.
        whole: whether there is a whole model for each format.
    """
    settings = adapters_of(encoder).settings
    names, fused = settings.formats, settings.fusion is not None
    code = FORMATS["proximity" if "proximity" in names else names[0]]
    reader = "adapter"
    if fused:
        reader = "fusion of adapters"
    yield from of_formats(
        names,
        f"Every text is read by the {reader} of what its vector is for; without one, vectors are\n"
        "those of the base, which this is not.",
        "adapter",
    )
    yield "## Folders"
    yield ""
    yield "| | |"
    yield "|---|---|"
    places = [BASE_PLACE, f"{ADAPTERS_PLACE}/CODE", *([f"{FUSION_PLACE}/CODE"] if fused else [])]
    yield (
        f"| {', '.join(f'`{place}/`' for place in places)} | the frozen backbone, a plain model, "
        f"and the adapters{' and their fusions' if fused else ''} in the layout of the library "
        "`adapters`, as `.bin` and safetensors |"
    )
    if whole:
        yield (
            "| `hf/CODE/` | a whole model for transformers and sentence-transformers, without "
            f"that library; `adapted_model.py` puts the adapter{'s' if fused else ''} in, so "
            "loading it needs `trust_remote_code=True`, and is refused without |"
        )
    yield "| this folder | for sciembed_train, which reads `sciembed.json` and runs no code of it |"
    yield ""
    yield "## Use"
    yield ""
    yield "With `transformers` 4.57 and `adapters` 1.3:"
    yield ""
    yield "```python"
    yield "from adapters import AutoAdapterModel"
    yield "from transformers import AutoTokenizer"
    yield ""
    yield 'folder = "PATH_OF_THIS_MODEL"'
    yield f'tokenizer = AutoTokenizer.from_pretrained(folder + "/{BASE_PLACE}")'
    yield f'model = AutoAdapterModel.from_pretrained(folder + "/{BASE_PLACE}").eval()'
    yield from _put_in(settings, code)
    yield from _vectors(encoder)
    yield "```"
    yield ""
    if whole:
        yield "With `transformers` alone, 4.57 or 5:"
        yield ""
        yield "```python"
        yield "from transformers import AutoModel, AutoTokenizer"
        yield ""
        yield f'folder = "PATH_OF_THIS_MODEL/hf/{code}"'
        yield "tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)"
        yield "model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()"
        yield from _vectors(encoder)
        yield "```"
        yield ""
        yield "With `sentence-transformers` (5.2 or newer):"
        yield ""
        yield "```python"
        yield "from sentence_transformers import SentenceTransformer"
        yield ""
        yield f'folder = "PATH_OF_THIS_MODEL/hf/{code}"'
        yield "model = SentenceTransformer(folder, trust_remote_code=True)"
        yield from _papers(encoder, "model.tokenizer")
        yield "embeddings = model.encode(texts)"
        yield "```"
        yield ""
    yield "With sciembed_train:"
    yield ""
    yield (
        f"    ./train embed --model FOLDER --format-token '{code}' --input papers.jsonl "
        "--to vectors.npy"
    )
    yield ""


def _put_in(settings: AdapterSettings, code: str) -> Iterator[str]:
    if settings.fusion is None:
        yield f'model.load_adapter(folder + "/{ADAPTERS_PLACE}/{code}", set_active=True)'
        return
    yield f"for code in {[FORMATS[name] for name in settings.adapted]}:"
    yield f'    model.load_adapter(folder + "/{ADAPTERS_PLACE}/" + code)'
    yield f'model.load_adapter_fusion(folder + "/{FUSION_PLACE}/{code}", set_active=True)'


def _papers(encoder: Encoder, tokenizer: str) -> Iterator[str]:
    input_format = encoder.settings.input_format
    text = "sep.join(part for part in (p['title'], p['abstract']) if part)"
    if input_format.control_code:
        text = f"{input_format.control_code + ' '!r} + {text}"
    yield 'papers = [{"title": "A first title", "abstract": "What the paper says."}]'
    yield "sep = " + (f"{tokenizer}.sep_token" if input_format.separator == "sep" else '" "')
    yield f"texts = [{text} for p in papers]"


def _vectors(encoder: Encoder) -> Iterator[str]:
    yield from _papers(encoder, "tokenizer")
    yield (
        "batch = tokenizer(texts, padding=True, truncation=True, "
        f'max_length={encoder.settings.max_length}, return_tensors="pt")'
    )
    yield "hidden = model(**batch).last_hidden_state"
    yield from encoder.pooling.card_code
