"""The part of a foreign tokenizer that ``transformers`` sees: known files, with known entries.

Its vocabulary and rules are data for a parser without code (``tokenizers``). Its small JSON files
name the class that is made and become arguments of that class, so they are written anew.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES, TOKENIZERS
from sciembed_train.safety.json_files import read_json
from sciembed_train.safety.model_config import check_keys, say_left_out
from sciembed_train.safety.values import (
    Check,
    flag,
    number,
    one_of,
    optional,
    several,
    table,
    text,
)

CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
# One of these holds the vocabulary.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
_COPIED = (*VOCABULARIES, "merges.txt", "bpe.codes", "dict.txt")
_SIDE = one_of("left", "right")
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


def token(value: Any) -> str | None:
    """A token: its text, or an object with the text and how it is found."""
    if isinstance(value, dict):
        known = {"content": text, "__type": text, "id": optional(number(-1, 1e9))}
        known |= dict.fromkeys(_FLAGS, flag)
        inside = all(key in known and known[key](inner) is None for key, inner in value.items())
        return None if inside and "content" in value else "a token"
    return text(value) and "a token"


def _tokens(value: Any) -> str | None:
    """A list of tokens, or tokens by name or by id."""
    return several(token, 1_000_000)(list(value.values()) if isinstance(value, dict) else value)


_SPECIAL: dict[str, Check] = {
    **{
        f"{name}_token": optional(token)
        for name in ("bos", "cls", "eos", "mask", "pad", "sep", "unk")
    },
    "additional_special_tokens": optional(_tokens),
    "extra_special_tokens": optional(_tokens),
}
_ENTRIES: dict[str, Check] = {
    **_SPECIAL,
    "added_tokens_decoder": _tokens,
    "tokenizer_class": optional(one_of(*sorted(TOKENIZERS))),
    "model_max_length": optional(number(0, 1e40)),  # without a limit it is huge
    "model_input_names": several(text),
    **dict.fromkeys(("padding_side", "truncation_side"), _SIDE),
    **dict.fromkeys(
        (
            *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"),
            *("do_basic_tokenize", "do_lower_case", "keep_accents", "legacy", "remove_space"),
            *("split_by_punct", "split_special_tokens", "strip_accents", "tokenize_chinese_chars"),
            "trim_offsets",
        ),
        optional(flag),
    ),
    "never_split": optional(several(text)),
    **dict.fromkeys(("errors", "vocab_type", "wordpieces_prefix"), text),
    "sp_model_kwargs": optional(table(lambda value: text(value) and number(-1e9, 1e9)(value))),
}
# What other programs write there and is not used here: a text is never padded or cut by the
# tokenizer, nor put into a chat.
_UNUSED = frozenset(
    {
        *("backend", "chat_template", "fix_mistral_regex", "init_inputs", "is_local"),
        *(
            "local_files_only",
            "max_len",
            "max_length",
            "merges_file",
            "model_specific_special_tokens",
        ),
        *("name_or_path", "pad_to_multiple_of", "pad_token_type_id", "processor_class"),
        *("special_tokens_map_file", "stride", "tokenizer_file", "truncation", "padding"),
        *("truncation_strategy", "use_fast", "vocab_file"),
        # Of decoders: how tokens become text again, and pictures, which are none of their texts.
        *("spaces_between_special_tokens", "use_default_system_prompt"),
        *("boi_token", "eoi_token", "image_token"),
    }
)


def copy_clean(folder: Path, to: Path) -> None:
    """Copy a tokenizer's files, its JSON files with known entries alone.

    Args:
        folder: of a model, or with the files of its tokenizer alone.
        to: an empty folder.

    Raises:
        UserError: it holds no tokenizer; or a file is not JSON, asks for code, or holds a value
            that no tokenizer has.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise UserError(
            f"{folder}: holds no tokenizer; expected one of {', '.join(VOCABULARIES)}. "
            "Give the backbone's folder, with its tokenizer files beside its weights."
        )
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
    for name, known in ((CONFIG, _ENTRIES), (SPECIAL_TOKENS, _SPECIAL)):
        if (folder / name).is_file():
            _write(to / name, _kept(folder / name, known))
    if (folder / ADDED_TOKENS).is_file():
        _write(to / ADDED_TOKENS, _added(folder / ADDED_TOKENS))
    if (folder / "config.json").is_file():
        _write(to / "config.json", _model_type(folder / "config.json"))


def _kept(path: Path, known: dict[str, Check]) -> dict[str, Any]:
    content = read_json(path)
    check_keys(content, str(path))
    entries, unknown = {}, []
    for key, value in content.items():
        check = known.get(key)
        if check is None:
            if key not in _UNUSED:
                unknown.append(key)
            continue
        expected = check(value)
        if expected:
            shown = json.dumps(value)
            raise UserError(f"{path}: `{key}` is {shown[:80]}; expected {expected}.")
        entries[key] = value
    if unknown:
        why = "not among the entries of a tokenizer that are read"
        say_left_out(str(path), tuple(sorted(unknown)), why)
    return entries


def _added(path: Path) -> dict[str, int]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(i, int) for i in content.values()):
        raise UserError(f"{path}: expected an object of tokens and their ids.")
    return content


def _model_type(path: Path) -> dict[str, str]:
    """Entries of a model's configuration that choose a tokenizer's class if its files do not."""
    content = read_json(path)
    check_keys(content, str(path))
    entries = (
        {"model_type": content.get("model_type")} if content.get("model_type") in FAMILIES else {}
    )
    if content.get("tokenizer_class") in TOKENIZERS:
        entries["tokenizer_class"] = content["tokenizer_class"]
    return entries


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
