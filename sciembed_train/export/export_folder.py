"""A trained encoder as a folder that other libraries load, proved by loading it back.

The folder is a Hugging Face model (``AutoModel``, ``AutoTokenizer``), a sentence-transformers
model, and says in ``sciembed.json`` and ``README.md`` how it was made. (That of an encoder which
mixes its layers holds the two in folders of their own: `mix_folder`.) It is written under a
temporary name and appears only when what the libraries compute from it equals what the encoder
in memory computes.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.encoder_folder import backbone_place
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.errors import UserError
from sciembed_train.export import adapter_folder, code_folder, mix_folder, multi_vector
from sciembed_train.export.model_card import model_card
from sciembed_train.export.pooled import pooled
from sciembed_train.export.published import OF_TEXTS
from sciembed_train.export.run_custom_code import with_custom_codes
from sciembed_train.export.sentence_transformers_layout import (
    REFUSED_POOLING,
    write_layout,
    write_refusal,
)
from sciembed_train.text.input_format import FORMATS

# Largest allowed difference of an entry, times the largest entry where that is above 1.
TOLERANCE = 1e-5
# What saved tokenizers may carry of the lengths of somebody's training.
_LEFTOVERS = (
    "max_length",
    "padding",
    "padding_strategy",
    "pad_to_multiple_of",
    "stride",
    "truncation",
    "truncation_strategy",
    "name_or_path",
)
_VERSIONS = (
    "sciembed_train",
    "torch",
    "transformers",
    "tokenizers",
    "pytorch-lightning",
    "numpy",
)


class ExportError(RuntimeError):
    """The exported folder does not give the encoder's embeddings; nothing was left behind."""


def export_encoder(
    encoder: Encoder, folder: str | Path, card: dict[str, Any], *, overwrite: bool = False
) -> dict[str, float | None]:
    """Write ``folder``, and prove it by loading it back.

    Args:
        encoder: on any device, in any mode; it is not changed.
        folder: made here.
        card: what is known of the training: ``method``, ``recipe``, ``base_model``, ``training``
            (counts), ``seed`` and whatever else a checkpoint keeps; all of it goes into
            ``sciembed.json``. ``similarity`` is ``euclidean`` (where absent) or ``cosine``;
            ``texts`` is ``papers`` (where absent), ``sentences`` for an encoder of these, or
            ``any`` for one of any text. Of a multi-vector model ``similarity`` is ``best_match``,
            or ``transport`` with the settings of that name.
        overwrite: replace a model that is already there.

    Returns:
        The largest difference of an embedding's entry, for ``AutoModel`` (with the folder's own
        code where the encoder mixes layers) and for ``SentenceTransformer`` (None where
        sentence-transformers is not installed); where the encoder has a head, the largest one of
        a logit, for ``AutoModelForMaskedLM``.

    Raises:
        UserError: the folder cannot be written, or holds something already.
        ExportError: a library computes something else from the folder, or takes for a plain
            model what is none.
    """
    folder = Path(folder).expanduser().absolute()
    check_target(folder, overwrite)
    encoder = on_host(encoder)
    settings = encoder.settings
    if card.get("base_model"):
        # A folder's place says nothing to others, and something about the machine.
        base = Path(str(card["base_model"])).expanduser()
        card = {**card, "base_model": _known_as(base) if base.exists() else card["base_model"]}
    similarity = card.get("similarity") or "euclidean"
    if encoder.pooling.per_sentence:
        multi_vector.check_record(card)
    elif similarity not in OF_TEXTS:
        raise ValueError(f"similarity is {similarity!r}; expected {' or '.join(OF_TEXTS)}")
    record = {**card, "similarity": similarity, "dim": encoder.dim, "versions": versions()}
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            encoder.save(partial, record)
            backbone = partial / backbone_place(encoder.parts)
            _clean_tokenizer(backbone / "tokenizer_config.json", settings.max_length)
            _write_for_others(encoder, partial, similarity)
            text = model_card(encoder, record, _known_as(folder))
            (partial / "README.md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror or error}).") from error
        differences = verify(encoder, partial)
        put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return differences


def _layout(encoder: Encoder) -> str:
    """What of an export other libraries can load."""
    return encoder.format_reader.export_layout or encoder.pooling.export_layout


def _write_for_others(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Add to a folder that `Encoder.save` wrote what other libraries load, or are refused by."""
    layout = _layout(encoder)
    if layout == "layer_mix":
        mix_folder.write_parts(encoder, folder, similarity)
    elif layout == "adapters":
        adapter_folder.write_parts(encoder, folder, similarity)
    elif layout == "control_codes":
        code_folder.write_parts(encoder, folder, similarity)
    elif layout == "sentences":
        write_refusal(folder, encoder.dim)
    elif layout == "backbone":
        write_refusal(folder, encoder.dim, REFUSED_POOLING)
    else:
        write_layout(
            folder,
            dim=encoder.dim,
            pooling=str(encoder.pooling.sentence_transformers_mode),
            max_length=encoder.settings.max_length,
            similarity=similarity,
        )


def _known_as(folder: Path) -> str:
    """The name of a model's folder; a run's own export is known by the run's name."""
    return folder.parent.name if folder.name == "export" else folder.name


def on_host(encoder: Encoder) -> Encoder:
    """The encoder itself or a copy: on the host in fp32, since others multiply less precisely."""
    if encoder.device.type != "cpu" or any(p.dtype != torch.float32 for p in encoder.parameters()):
        return copy.deepcopy(encoder).cpu().float()
    return encoder


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; an earlier one of that name goes last."""
    if not folder.exists():
        partial.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)


def check_target(folder: Path, overwrite: bool, mark: str = "sciembed.json") -> None:
    """Make the parent folder, and see that ``folder`` may be written.

    Args:
        folder: the target.
        overwrite: whether an earlier export may be replaced.
        mark: the file that an earlier export holds.

    Raises:
        UserError: it is a file, holds something, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder that does not exist yet.")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(
                f"{folder}: exists and is not empty. Give another folder, or --overwrite to "
                "replace it."
            )
        if not (folder / mark).is_file():
            raise UserError(
                f"{folder}: holds no {mark}, so it is no earlier export and is not "
                "overwritten. Give another folder."
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be made ({error.strerror}).") from error
    if not os.access(folder.parent, os.W_OK):
        raise UserError(f"{folder.parent}: is not writable. Give a folder elsewhere.")


def versions() -> dict[str, str]:
    """Versions of the packages that an embedding depends on, as far as installed."""
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def probe_texts(encoder: Encoder) -> list[str]:
    """Texts to compare with: a title alone, and papers of a few to over 512 tokens."""
    sentence = (
        "We study how graphs of citations relate to the words of papers, and measure (n = 1,024) "
        "what a model of both gains over either: 3.5% on average. "
    )
    title = "Naïve baselines for document-level representation"
    abstracts = [None, "One short sentence.", sentence * 3, sentence * 8, sentence * 40]
    texts = [encoder.compose(title, abstract) for abstract in abstracts]
    return [*texts, encoder.compose("A", None)]


def verify(encoder: Encoder, folder: Path) -> dict[str, float | None]:
    """Compare ``encoder`` with what is loaded from ``folder``; see `export_encoder`.

    Raises:
        ExportError: token ids, embeddings or logits differ, or a part of the folder loads as what
            it is not.
    """
    layout = _layout(encoder)
    if layout == "sentences":
        return {"AutoModel": _several_with_transformers(encoder, folder)}
    texts = probe_texts(encoder)
    if layout == "adapters":
        return _each_format(encoder, folder, texts)
    if layout == "control_codes":
        return _each_code(encoder, folder, texts)
    expected = encoder.encode_texts(texts)
    differences: dict[str, float | None] = {}
    if layout == "layer_mix":
        found = {
            "AutoModel with trust_remote_code": _with_own_code(encoder, folder, texts),
            "SentenceTransformer": _with_sentence_transformers(folder / "st", texts),
        }
    elif layout == "backbone":
        found = {"sciembed_train": _with_own_pooling(encoder, folder, texts)}
    else:
        found = {
            "AutoModel": _with_transformers(encoder, folder, texts),
            "SentenceTransformer": _with_sentence_transformers(folder, texts),
        }
    folder = folder / backbone_place(encoder.parts)
    for library, vectors in found.items():
        differences[library] = None
        if vectors is not None:
            differences[library] = compare(library, "embeddings", vectors, expected)
    if encoder.head is not None:
        rows, positions = _masked(encoder, texts)
        with encoder.inferring("fp32"):
            _, states = encoder.with_token_states(rows, positions)
            wanted = encoder.token_logits(states).float().clone()
        found = _masked_with_transformers(encoder, folder, rows)[positions]
        library = "AutoModelForMaskedLM"
        differences[library] = compare(library, "logits of masked tokens", found, wanted)
    return differences


def compare(
    library: str, what: str, found: Float[Tensor, "N D"], expected: Float[Tensor, "N D"]
) -> float:
    """The largest difference of an entry, which must be small."""
    if found.shape != expected.shape:
        raise ExportError(
            f"{library} loads the export with {what} of {tuple(found.shape)}; expected "
            f"{tuple(expected.shape)}. The export was removed."
        )
    difference = float((found - expected).abs().max())
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= limit:  # also when it is not a number
        raise ExportError(
            f"{library} computes other {what} from the export: they differ by "
            f"{difference:.2g}, and at most {limit:.2g} is allowed. The export was removed."
        )
    return difference


def _masked(encoder: Encoder, texts: Sequence[str]) -> tuple[Any, Int[Tensor, " K"]]:
    """Rows of the shorter texts with every third word-piece masked, and where these stand."""
    tokenizer = encoder.tokenizer
    by_length = encoder.rows(texts).lengths.argsort(stable=True)
    rows = encoder.rows([str(texts[i]) for i in by_length[:4].tolist()])
    special = torch.tensor([*tokenizer.prefix, *tokenizer.suffix], dtype=torch.int64)
    ordinary = torch.nonzero(~torch.isin(rows.ids, special))[:, 0]
    positions = ordinary[::3]
    ids = rows.ids.clone()
    if tokenizer.mask_id is not None:
        ids[positions] = tokenizer.mask_id
    return replace(rows, ids=ids), positions


def _masked_with_transformers(encoder: Encoder, folder: Path, rows: Any) -> Float[Tensor, "T V"]:
    """Logits of all tokens as a user of ``transformers`` gets them from the folder."""
    from transformers import AutoModelForMaskedLM

    with quiet_transformers():
        loaded: Any = AutoModelForMaskedLM.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
    model, info = loaded
    if info["missing_keys"]:
        raise ExportError(
            f"AutoModelForMaskedLM does not find {sorted(info['missing_keys'])[0]} in the export. "
            "The export was removed."
        )
    slots = torch.arange(int(rows.lengths.max()))
    mask = slots < rows.lengths.unsqueeze(1)
    ids = torch.full(mask.shape, encoder.tokenizer.pad_id).masked_scatter(mask, rows.ids)
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids, attention_mask=mask.long()).logits
    return logits[mask].float().clone()


def _with_transformers(
    encoder: Encoder, folder: Path, texts: Sequence[str], ids: list[list[int]] | None = None
) -> Float[Tensor, "N D"]:
    """Embeddings as a user of ``transformers`` gets them from the folder.

    Args:
        encoder: what was exported.
        folder: a plain model.
        texts: what to embed.
        ids: their tokens, where these are not the encoder's own.
    """
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    _compare_ids(encoder, texts, tokenizer(list(texts), truncation=True)["input_ids"], ids)
    vectors, layout = [], _layout(encoder)
    with torch.inference_mode():
        # Two at a time, so that padding takes part.
        for start in range(0, len(texts), 2):
            batch = tokenizer(
                list(texts[start : start + 2]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            if layout == "control_codes":
                vectors.append(hidden[:, 0])
            else:
                vectors.append(pooled(encoder, hidden, batch["attention_mask"]))
    return torch.cat(vectors).float().clone()


def _several_with_transformers(encoder: Encoder, folder: Path) -> float:
    """The largest difference of a sentence vector's entry; nothing may give one of a text."""
    if multi_vector.sentence_transformers_refuses(folder) is False:
        raise ExportError(
            "SentenceTransformer does not refuse the export of a multi-vector model as it should, "
            "and so would give other embeddings and say nothing. The export was removed."
        )
    papers = multi_vector.probe_papers()
    ids, found = multi_vector.with_transformers(folder, encoder.settings.input_format, papers)
    _compare_ids(encoder, [encoder.compose(*paper) for paper in papers], ids)
    expected = encoder.encode_sentences(papers)
    return compare("AutoModel", "sentence vectors", torch.cat(found), torch.cat(expected))


def _with_own_pooling(encoder: Encoder, folder: Path, texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """Embeddings as this program gives them from the folder; sentence-transformers must refuse."""
    if multi_vector.sentence_transformers_refuses(folder, REFUSED_POOLING) is False:
        raise ExportError(
            "SentenceTransformer does not refuse the export of a model whose pooling it lacks. "
            "The export was removed."
        )
    pooling = encoder.settings.pooling
    return Encoder.load(folder, pooling, forward="padded").encode_texts(texts)


def _with_own_code(encoder: Encoder, folder: Path, texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """The same where the encoder mixes layers; without the code nothing may load."""
    _check_refusal(mix_folder.loads_without_warning(folder), "the code that mixes its layers")
    try:
        ids, vectors = mix_folder.with_custom_code(folder, texts)
    except RuntimeError as error:
        raise ExportError(
            f"AutoModel does not load hf/ with its own code: {error}. The export was removed."
        ) from error
    _compare_ids(encoder, texts, ids)
    return vectors


def _each_format(encoder: Encoder, folder: Path, texts: Sequence[str]) -> dict[str, float | None]:
    """The largest difference over the formats, for each way to load an export with adapters."""
    _check_refusal(adapter_folder.loads_without_warning(folder), "its adapter")
    formats = encoder.format_reader.names
    found = {"AutoModel and adapters": adapter_folder.with_adapterhub(encoder, folder, texts)}
    if adapter_folder.why_no_own_code(encoder) is None:
        places = [folder / "hf" / FORMATS[name] for name in formats]
        try:
            read = with_custom_codes(places, texts, str(encoder.pooling.sentence_transformers_mode))
        except RuntimeError as error:
            raise ExportError(
                f"AutoModel does not load hf/ with its own code: {error}. The export was removed."
            ) from error
        for ids, _ in read:
            _compare_ids(encoder, texts, ids)
        found["AutoModel with trust_remote_code"] = [vectors for _, vectors in read]
    differences: dict[str, float | None] = {}
    for way, vectors in found.items():
        differences[way] = max(
            compare(
                f"{way} ({FORMATS[name]})",
                "embeddings",
                own,
                encoder.encode_texts(texts, format=name),
            )
            for name, own in zip(formats, vectors, strict=True)
        )
    return differences


def _each_code(encoder: Encoder, folder: Path, texts: Sequence[str]) -> dict[str, float | None]:
    """The largest difference over the formats, for each library, of an export with codes."""
    if (folder / "config.json").exists():
        _check_refusal("the folder itself", "its control code")
    differences: dict[str, float | None] = {}
    if code_folder.why_no_whole_models(encoder) is not None:
        return differences
    for name, code in FORMATS.items():
        place, expected = folder / "hf" / code, encoder.encode_texts(texts, format=name)
        ids = code_folder.probe_ids(encoder, texts, code)
        found = {
            "AutoModel": _with_transformers(encoder, place, texts, ids),
            "SentenceTransformer": _with_sentence_transformers(place, texts),
        }
        for library, vectors in found.items():
            known = differences.get(library)
            if vectors is None:
                differences[library] = None
                continue
            own = compare(f"{library} ({code})", "embeddings", vectors, expected)
            differences[library] = max(own, known or 0.0)
    return differences


def _check_refusal(part: str | None, without: str) -> None:
    if part is not None:
        raise ExportError(
            f"AutoModel loads {part} without {without}, and so would give other embeddings and "
            "say nothing. The export was removed."
        )


def _compare_ids(
    encoder: Encoder,
    texts: Sequence[str],
    found: list[list[int]],
    expected: list[list[int]] | None = None,
) -> None:
    if found != (expected or encoder.tokenizer.rows(texts, encoder.settings.max_length)):
        raise ExportError(
            "The exported tokenizer gives other token ids than the one trained with. "
            "The export was removed."
        )


def _with_sentence_transformers(folder: Path, texts: Sequence[str]) -> Float[Tensor, "N D"] | None:
    """Embeddings as a user of sentence-transformers gets them; None where it is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    # With WANDB_MODE=offline, importing it prints a line; a command's own output may be JSON.
    with contextlib.redirect_stdout(sys.stderr):
        from sentence_transformers import SentenceTransformer
    with quiet_transformers():
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        vectors = model.encode(
            list(texts), batch_size=2, convert_to_tensor=True, show_progress_bar=False
        )
    return vectors.float().cpu().clone()


def _clean_tokenizer(path: Path, max_length: int) -> None:
    """Take lengths of the base model's past and its place out of a saved tokenizer's settings."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key in _LEFTOVERS:
        content.pop(key, None)
    content["model_max_length"] = max_length
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
