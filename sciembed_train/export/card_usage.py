"""The model card's code: what somebody runs who has the folder and not this project."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.text.input_format import FORMATS

# What an encoder that mixes its layers needs, since each library has a folder of its own in it.
_FETCH = "# from a hub: huggingface_hub.snapshot_download(NAME)"
_PAPERS = (
    "papers = [",
    '    {"title": "A first title", "abstract": "What the paper says."},',
    '    {"title": "A title without an abstract", "abstract": ""},',
    "]",
)
_TEXTS = {
    "any": ("A text of any length, such as a paragraph of a paper.", "Another one."),
    "sentences": ("A sentence of a paper, such as one of its abstract.", "Another one."),
}


_FOR = {
    "classification": "a classifier, such as a linear one, will read",
    "regression": "a regression, such as a linear one, will read",
    "proximity": "are compared with one another, and that searches find",
    "adhoc_query": "are queries of a search, compared with papers read by `[PRX]`",
}


def of_formats(names: Sequence[str], what: str, reader: str) -> Iterator[str]:
    """The lines of the section "Formats".

    Args:
        names: of the formats.
        what: of texts and their formats.
        reader: what stands for a format: an adapter, or a code.
    """
    yield "## Formats"
    yield ""
    yield what
    yield ""
    yield f"| format | {reader} | for texts that |"
    yield "|---|---|---|"
    yield from (f"| {name} | `{FORMATS[name]}` | {_FOR[name]} |" for name in names)
    yield ""


def usage(encoder: Encoder, similarity: str, texts: str) -> Iterator[str]:
    """The lines of the section "Use".

    Args:
        encoder: what is exported.
        similarity: what its vectors are compared by.
        texts: ``papers``, title and abstract; ``sentences``; or ``any``.
    """
    yield "## Use"
    yield ""
    if encoder.pooling.export_layout == "backbone":
        yield from _own_pooling(encoder)
    else:
        yield from _transformers(encoder, similarity, texts)
        yield from _sentence_transformers(encoder, similarity, texts)
    if encoder.head is not None:
        yield from _fill_mask(encoder)
    yield "With sciembed_train:"
    yield ""
    if texts == "sentences":
        yield "    ./train compare --model FOLDER --papers papers.jsonl ID_A ID_B"
        yield "    ./train evaluate --model FOLDER --scorer sentences ..."
    else:
        yield "    ./train embed --model FOLDER --input papers.jsonl --to vectors.npy"
    yield ""


def _own_pooling(encoder: Encoder) -> Iterator[str]:
    module, _, name = encoder.settings.pooling.rpartition(".")
    yield (
        f"The vectors are made by the pooling `{name}`"
        + (f" of the Python module `{module}`, which is not in this folder." if module else ".")
        + " `AutoModel` loads the backbone, whose states of tokens are what that pools; "
        "`sentence-transformers`, which has no such pooling, refuses the folder."
    )
    yield ""
    yield "```python"
    if module:
        yield f"import {module}"
    yield "from sciembed_train.encoder.encoder import Encoder"
    yield ""
    yield 'encoder = Encoder.load("PATH_OF_THIS_MODEL")'
    yield 'embeddings = encoder.encode_texts([encoder.compose("A title", "An abstract.")])'
    yield "```"
    yield ""


def _texts(encoder: Encoder, texts: str, tokenizer: str) -> Iterator[str]:
    if texts != "papers":
        yield "texts = ["
        yield from (f"    {json.dumps(text)}," for text in _TEXTS[texts])
        yield "]"
        return
    input_format = encoder.settings.input_format
    # Every text that the card's code makes of a paper goes through this one expression.
    text = "sep.join(part for part in (p['title'], p['abstract']) if part)"
    if input_format.control_code:
        text = f"{json.dumps(input_format.control_code + ' ')} + {text}"
    separator = f"{tokenizer}.sep_token" if input_format.separator == "sep" else '" "'
    yield from _PAPERS
    yield f"sep = {separator}"
    yield f"texts = [{text} for p in papers]"


def _transformers(encoder: Encoder, similarity: str, texts: str) -> Iterator[str]:
    yield "With `transformers`:"
    yield ""
    yield "```python"
    yield "import torch"
    yield "from transformers import AutoModel, AutoTokenizer"
    yield ""
    trust = ""
    if not encoder.pooling.backbone_place:
        yield 'folder = "PATH_OR_NAME_OF_THIS_MODEL"'
    else:
        yield f'folder = "PATH_OF_THIS_MODEL/hf"  {_FETCH}'
        trust = ", trust_remote_code=True"
    yield f"tokenizer = AutoTokenizer.from_pretrained(folder{trust})"
    yield f"model = AutoModel.from_pretrained(folder{trust}).eval()"
    yield from _texts(encoder, texts, "tokenizer")
    yield (
        "batch = tokenizer(texts, padding=True, truncation=True, "
        f'max_length={encoder.settings.max_length}, return_tensors="pt")'
    )
    yield "with torch.inference_mode():"
    yield "    hidden = model(**batch).last_hidden_state"
    yield from encoder.pooling.card_code
    if similarity == "cosine":
        yield "unit = torch.nn.functional.normalize(embeddings)"
        yield "similarities = unit @ unit.T"
    else:
        yield "distances = torch.cdist(embeddings, embeddings)"
    yield "```"
    yield ""


def _sentence_transformers(encoder: Encoder, similarity: str, texts: str) -> Iterator[str]:
    gives = {"cosine": "their cosine", "euclidean": "minus the Euclidean distance"}[similarity]
    yield "With `sentence-transformers` (5.2 or newer):"
    yield ""
    yield "```python"
    yield "from sentence_transformers import SentenceTransformer"
    yield ""
    if not encoder.pooling.backbone_place:
        yield 'model = SentenceTransformer("PATH_OR_NAME_OF_THIS_MODEL")'
    else:
        yield f'model = SentenceTransformer("PATH_OF_THIS_MODEL/st")  {_FETCH}'
    yield from _texts(encoder, texts, "model.tokenizer")
    yield "embeddings = model.encode(texts)"
    yield f"similarities = model.similarity(embeddings, embeddings)  # {gives}"
    yield "```"
    yield ""


def _fill_mask(encoder: Encoder) -> Iterator[str]:
    place = "PATH_OR_NAME_OF_THIS_MODEL"
    if encoder.pooling.backbone_place:
        place = f"PATH_OF_THIS_MODEL/{encoder.pooling.backbone_place}"
    yield "The head that predicts masked words, for `fill-mask` and further pretraining:"
    yield ""
    yield "```python"
    yield "from transformers import pipeline"
    yield ""
    yield f'fill = pipeline("fill-mask", model="{place}")'
    yield 'words = fill(f"We train a {fill.tokenizer.mask_token} on the citations of papers.")'
    yield "```"
    yield ""
