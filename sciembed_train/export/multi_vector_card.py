"""The part of the model card that tells how a multi-vector model is used, and its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sciembed_train.encoder.encoder import Encoder

_PAPERS = (
    "papers = [",
    '    {"title": "A first title", "abstract": ["What the paper does.", "What it finds."]},',
    '    {"title": "A second title", "abstract": ["Another finding.", "Its method.", "More."]},',
    "]",
)
COMPARED = {
    "best_match": "the smallest Euclidean distance of a sentence of one to a sentence of the "
    "other, smaller is closer",
    "transport": "optimal transport between their sentences over Euclidean distances, smaller is "
    "closer",
}


def usage(encoder: Encoder, record: dict[str, Any]) -> Iterator[str]:
    """The lines of the section "Use".

    Args:
        encoder: what is exported, with pooling ``sentences``.
        record: what goes into ``sciembed.json``.
    """
    yield "## Use"
    yield ""
    yield (
        "**This is a multi-vector model: it has no vector of a whole text.** The first token's "
        "state and the mean over all tokens were not trained, and rank otherwise. What was "
        "trained are the means over the tokens of each sentence, read with its whole paper."
    )
    yield ""
    yield from _matching(record)
    yield from _transformers(encoder, record)
    yield (
        "`sentence-transformers` refuses this folder, since it would take the mean over all "
        "tokens: none of its modules gives several vectors of a text."
    )
    yield ""


def _matching(record: dict[str, Any]) -> Iterator[str]:
    transports = record["similarity"] == "transport"
    yield "With sciembed_train:"
    yield ""
    yield "```python"
    yield "from sciembed_train.inference.matching import Matcher, picture"
    yield ""
    yield 'matcher = Matcher.load("PATH_OR_NAME_OF_THIS_MODEL")'
    yield from _PAPERS
    yield "a, b = matcher.encode(papers)  # an abstract may be one text, too"
    yield "match = matcher.best_match(a, b)"
    yield "nearest = a.sentences[match.first], b.sentences[match.second], match.distance"
    if transports:
        yield "plan = matcher.transport(a, b)  # plan.cost is what papers are ranked by"
        yield 'picture(plan, "plan.svg")  # which sentence goes where'
    else:
        yield "# Optimal transport is not what this model was trained for:"
        yield 'picture(matcher.transport(a, b, temperature=5000), "plan.svg")'
    yield "```"
    yield ""
    yield "    ./train compare --model FOLDER --papers papers.jsonl ID_A ID_B --picture plan.svg"
    yield "    ./train embed --model FOLDER --input papers.jsonl --to vectors.jsonl"
    yield f"    ./train evaluate --model FOLDER --scorer {record['similarity']} ..."
    yield ""


def _transformers(encoder: Encoder, record: dict[str, Any]) -> Iterator[str]:
    input_format, length = encoder.settings.input_format, encoder.settings.max_length
    gap = "tokenizer.sep_token" if input_format.sentences == "sep" else '" "'
    between = "tokenizer.sep_token" if input_format.separator == "sep" else '" "'
    code = json.dumps(f"{input_format.control_code} ") + " + " if input_format.control_code else ""
    yield "With `transformers` alone:"
    yield ""
    yield "```python"
    yield "import torch"
    yield "from transformers import AutoModel, AutoTokenizer"
    yield ""
    yield 'folder = "PATH_OR_NAME_OF_THIS_MODEL"'
    yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
    yield "model = AutoModel.from_pretrained(folder).eval()"
    yield ""
    yield "def sentence_vectors(title, sentences):"
    yield f"    gap = {gap}"
    yield f"    text = {code}{between}.join(t for t in (title, gap.join(sentences)) if t)"
    yield (
        f'    batch = tokenizer(text, truncation=True, max_length={length}, return_tensors="pt", '
        "return_offsets_mapping=True)"
    )
    yield "    last = batch.pop('offset_mapping')[0, :, 1] - 1  # each token's last character"
    yield "    with torch.inference_mode():"
    yield "        states = model(**batch).last_hidden_state[0]"
    yield "    vectors, end = [], len(text)"
    yield "    for sentence in reversed(sentences):"
    yield "        inside = (last >= end - len(sentence)) & (last < end)"
    yield f"        if inside.any():  # not beyond {length} tokens"
    yield "            vectors.insert(0, states[inside].mean(0))"
    yield "        end -= len(sentence) + len(gap)"
    yield "    # Of a title alone: the mean over its tokens."
    yield "    return torch.stack(vectors or [states[last >= 0].mean(0)])"
    yield ""
    yield from _PAPERS
    yield 'embeddings = [sentence_vectors(p["title"], p["abstract"]) for p in papers]'
    yield "distances = torch.cdist(*embeddings)"
    yield "nearest = distances.min()"
    yield "```"
    yield ""
    if record["similarity"] == "transport":
        yield (
            "These distances are what optimal transport is computed of; "
            "`sciembed_train/losses/transport.py` is short and needs torch alone."
        )
        yield ""


def limitations(record: dict[str, Any]) -> Iterator[str]:
    """What is particular to these models of the section "Limitations"."""
    yield (
        "- No vector of a whole text was trained: neither `pooler_output`, nor the first token's "
        "state, nor a mean over the text."
    )
    if record["similarity"] == "transport":
        temperature = record["transport"]["temperature"]
        yield (
            f"- The transport distance is that of temperature {temperature:g}, with which all "
            "rankings of this model should be made: another one weighs sentences otherwise."
        )
    yield (
        "- A paper has as many vectors as sentences: an index of single vectors holds them only "
        "for best matches, and transport is for ranking again what such an index finds."
    )
