"""The folder of an encoder that reads control codes: a plain model for each format.

The vector is the state of the code, which stands behind ``[CLS]``; what other libraries take is
the first token's. A layer tells places apart by their positions alone, so in ``hf/CODE`` the code
comes first, and the table of positions is turned with it: the code has the position it was trained
at, and so has ``[CLS]`` behind it. The tokenizer puts both before every text; no code file is
needed. ``base/`` is what was trained, for this program.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.format_reader import BASE_PLACE
from sciembed_train.encoder.unpadded.bert import UNPADDED_TYPES, why_not_unpadded
from sciembed_train.export.card_usage import of_formats
from sciembed_train.export.sentence_transformers_layout import write_layout
from sciembed_train.text.input_format import FORMATS

_TABLE = "embeddings.position_embeddings.weight"
_SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def why_no_whole_models(encoder: Encoder) -> str | None:
    """Why there is no plain model for each format; None where there is."""
    reason = why_not_unpadded(encoder.backbone)
    return None if reason is None else f"positions are turned in BERT's family alone, and {reason}"


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Write ``hf/`` of a folder that `Encoder.save` wrote, where the backbone allows it.

    Args:
        encoder: with control codes, on the host, in fp32.
        folder: holds ``sciembed.json`` and ``base/``.
        similarity: ``euclidean`` or ``cosine``.
    """
    if why_no_whole_models(encoder) is not None:
        return
    base = folder / BASE_PLACE
    state = load_file(base / "model.safetensors")
    config = encoder.backbone.config
    first = config.pad_token_id + 1 if UNPADDED_TYPES[config.model_type] else 0
    (table,) = [key for key in state if key.endswith(_TABLE)]
    state[table] = turned(state[table], first, len(encoder.tokenizer.prefix))
    for code in FORMATS.values():
        place = folder / "hf" / code
        place.mkdir(parents=True)
        shutil.copyfile(base / "config.json", place / "config.json")
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        _tokenizer(encoder, code).save_pretrained(str(place))
        write_layout(
            place,
            dim=encoder.dim,
            pooling="cls",
            max_length=encoder.settings.max_length,
            similarity=similarity,
        )


def turned(table: Float[Tensor, "P H"], first: int, prefix: int) -> Float[Tensor, "P H"]:
    """A table of positions for texts whose code stands before the prefix, and not behind it.

    Args:
        table: a row for each position.
        first: that of a text's first token.
        prefix: special tokens at the beginning of a text, without the code.
    """
    found = table.clone()
    found[first] = table[first + prefix]
    found[first + 1 : first + prefix + 1] = table[first : first + prefix]
    return found


def _tokenizer(encoder: Encoder, code: str) -> Any:
    """A tokenizer of transformers that puts a code and the prefix before every text."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    own = encoder.tokenizer
    backend = Tokenizer.from_str(own.backend.to_str())
    names = own.hf.convert_ids_to_tokens
    before, after = [code, *names(list(own.prefix))], names(list(own.suffix))
    # A kind of tokenizer would put its own template in this one's place when it is loaded.
    backend.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, "$B:1", *(f"{token}:1" for token in after)],
        special_tokens=[(token, backend.token_to_id(token)) for token in {*before, *after}],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=encoder.settings.max_length,
        model_input_names=list(own.hf.model_input_names),
        **{name: getattr(own.hf, name) for name in _SPECIAL if getattr(own.hf, name) is not None},
    )


def probe_ids(encoder: Encoder, texts: Sequence[str], code: str) -> list[list[int]]:
    """Token ids of texts as the tokenizer of ``hf/CODE`` must give them."""
    number = encoder.tokenizer.hf.convert_tokens_to_ids(code)
    return [
        [number, *row] for row in encoder.tokenizer.rows(texts, encoder.settings.max_length - 1)
    ]


def card(encoder: Encoder) -> Iterator[str]:
    """The lines of the sections "Formats", "Folders" and "Use"."""
    whole = why_no_whole_models(encoder) is None
    yield from of_formats(
        list(FORMATS),
        "Every text is read with the code of what its vector is for before it, a token whose last\n"
        "state is the vector. The code of a format that no task of the training had is untrained.",
        "code",
    )
    yield "## Folders"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield (
        f"| `{BASE_PLACE}/` | what was trained, with a token for each code. As a plain model it "
        "gives other vectors: `[CLS]`, the code, the text, and the second token's state it is |"
    )
    if whole:
        yield (
            "| `hf/CODE/` | a plain model for transformers and sentence-transformers, whose "
            "tokenizer puts the code before every text; the first token's state is the vector |"
        )
    yield "| this folder | for sciembed_train, which reads `sciembed.json` |"
    yield ""
    yield "## Use"
    yield ""
    if whole:
        yield from _usage(encoder)
    yield "With sciembed_train:"
    yield ""
    yield (
        "    ./train embed --model FOLDER --format-token '[PRX]' --input papers.jsonl "
        "--to vectors.npy"
    )
    yield ""


def _usage(encoder: Encoder) -> Iterator[str]:
    separator = (
        "[tokenizer.sep_token]" if encoder.settings.input_format.separator == "sep" else "' '"
    )
    join = f"{separator.strip('[]')}.join(part for part in (p['title'], p['abstract']) if part)"
    papers = 'papers = [{"title": "A first title", "abstract": "What the paper says."}]'
    place = 'folder = "PATH_OF_THIS_MODEL/hf/[PRX]"'
    yield "```python"
    yield "from transformers import AutoModel, AutoTokenizer"
    yield ""
    yield place
    yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
    yield "model = AutoModel.from_pretrained(folder).eval()"
    yield papers
    yield f"texts = [{join} for p in papers]"
    yield 'batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")'
    yield "embeddings = model(**batch).last_hidden_state[:, 0]"
    yield "```"
    yield ""
    yield "```python"
    yield "from sentence_transformers import SentenceTransformer"
    yield ""
    yield place
    yield "model = SentenceTransformer(folder)"
    yield "tokenizer = model.tokenizer"
    yield papers
    yield f"texts = [{join} for p in papers]"
    yield "embeddings = model.encode(texts)"
    yield "```"
    yield ""
