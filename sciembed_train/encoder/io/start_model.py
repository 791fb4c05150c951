"""What a start encoder's own files, or its published name, say about how it is used.

`read_start` reads them into `StartConventions`; `resolve` settles them with the recipe and with
what the user set. Neither imports torch, except for the poolings of a sentence-transformers folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.encoder.io.published_models import published_model
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.encoder.settings import PROJECTED
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.prompts import named_prompt

# A start's own length is kept up to this one; more has to be set.
MOST_TOKENS = 512
# Settings of an encoder that a start may decide.
KEPT = ("pooling", "normalize", "projection", "max_length", "input_format", "prompts")


@dataclass(frozen=True)
class StartConventions:
    """How a start encoder is used; None, or no prompts, where it does not say.

    Args:
        start: folder or hub name.
        pooling: how its vectors are pooled.
        normalize: whether they are scaled to unit length.
        projection: how many numbers a linear layer after the pooling gives; None without one.
        max_length: most tokens of a text, special ones included, as recorded.
        similarity: by what they are compared.
        input_format: how title and abstract were joined.
        prompts: texts before others, by name (`prompts`).
        prompt: of these, the one before papers, where ``input_format`` does not have it.
        notes: what its files ask for that is not done here.
        sources: where each is from, by field: a file in the folder, a library's default, or the
            published model of that name.
        by_name: whether all of it is known by the name alone.
    """

    start: str
    pooling: str | None = None
    normalize: bool | None = None
    projection: int | None = None
    max_length: int | None = None
    similarity: str | None = None
    input_format: InputFormat | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is known of it, as of a plain language model."""
        return self.pooling is None and self.max_length is None


def published_start(*names: Any) -> StartConventions | None:
    """What is known of the published model with one of these names; None for any other."""
    published = published_model(*names)
    if published is None:
        return None
    start = str(names[0])
    if published.pooling is None:
        return StartConventions(start, sources={"model": published.model}, by_name=True)
    known: dict[str, Any] = {
        "pooling": published.pooling,
        "similarity": published.similarity,
        "max_length": MOST_TOKENS,
        "input_format": InputFormat(separator=published.separator),
    }
    sources = dict.fromkeys(known, f"known of {published.model}")
    return StartConventions(start, **known, sources=sources, by_name=True)


def read_start(name_or_folder: str | Path, pooling: str | None = None) -> StartConventions:
    """What ``sciembed.json``, a sentence-transformers layout, or else the name says of a start.

    Args:
        name_or_folder: a folder or hub name.
        pooling: what the user set instead of the recorded one, which may then be any.

    Raises:
        UserError: there is no such model, a file is malformed, or it asks for what is not built.
    """
    start = str(name_or_folder)
    folder = find_folder(name_or_folder)
    try:
        metadata = read_metadata(folder)
    except UserError:
        if pooling is None:
            raise
        metadata = read_metadata(folder, pooling)
    if not metadata.sources:
        return published_start(start, folder) or StartConventions(start)
    return StartConventions(
        start,
        pooling=metadata.pooling,
        normalize=metadata.normalize,
        projection=metadata.projection,
        max_length=metadata.max_length,
        similarity=metadata.similarity,
        input_format=metadata.input_format,
        prompts=metadata.prompts,
        prompt=metadata.prompt,
        notes=tuple(metadata.notes),
        sources=metadata.sources,
    )


@dataclass(frozen=True)
class StartResolution:
    """Settings of the encoder after its start was read.

    Args:
        settings: of `KEPT`, those that differ from the recipe's; ``input_format`` as plain values.
        line: what was taken and from where; None if nothing was.
        warnings: what overrides the start, one line each.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    line: str | None = None
    warnings: tuple[str, ...] = ()


def resolve(
    recipe: Mapping[str, Any], explicit: Collection[str], start: StartConventions
) -> StartResolution:
    """Settings by precedence: what the user set, then what the start says, then the recipe.

    A pooling of sentences is what a method trains, so there the recipe's pooling, scaling and input
    format stay; so do pooling and scaling if the start's do not fit adapters or control codes.

    Args:
        recipe: the encoder's settings with what the user set, as plain values.
        explicit: keys that the user set, such as ``pooling`` and ``input_format.separator``.
        start: of ``recipe["backbone"]``.

    Raises:
        UserError: ``input_format.title_prompt`` names a prompt that the start does not have.
    """
    settings: dict[str, Any] = {}
    original_recipe, recipe = recipe, _with_title_prompt(recipe, explicit, start)
    if recipe is not original_recipe:
        settings["input_format"] = dict(recipe["input_format"])
    if start.empty:
        what = "records no pooling and no length"
        if start.by_name:
            what = f"is {start.sources['model']}, a language model"
        recipe_values = f"pooling {recipe['pooling']}, at most {recipe['max_length']} tokens"
        line = f"start encoder {start.start} {what}: {recipe_values}, by the recipe"
        return StartResolution(settings, line)
    taken: list[str] = []
    warnings: list[str] = list(start.notes)
    pooling, start_pooling = recipe["pooling"], start.pooling
    special = bool(recipe.get("adapters")) or bool(recipe.get("control_codes"))
    fits = start_pooling is None or not (
        gives_sentence_vectors(pooling) != gives_sentence_vectors(start_pooling)
        or (recipe.get("adapters") and start_pooling not in ("cls", "mean"))
        or (recipe.get("control_codes") and start_pooling != "cls")
    )

    def settle(key: str, value: Any, words: str, here: str, allowed: bool = True) -> None:
        current = recipe[key]
        source = start.sources.get(key, "modules.json")
        if key in explicit or not allowed:
            if current != value:
                who = "your setting" if key in explicit else "what the method trains"
                warnings.append(
                    f"encoder.{key} is {here}, by {who}; {start.start} is made for {words} "
                    f"({source})."
                )
            return
        if current != value:
            settings[key] = value
        replaced = f", instead of the recipe's {here}" if current != value else ""
        taken.append(f"{words} ({source}{replaced})")

    if start_pooling is not None:
        settle("pooling", start_pooling, f"pooling {start_pooling}", str(pooling), fits)
    if start.normalize is not None:
        final_pooling = settings.get("pooling", pooling)
        allowed = not special and final_pooling not in ("mix", "sentences")
        words = "unit length" if start.normalize else "vectors of any length"
        here = "true" if recipe["normalize"] else "false"
        settle("normalize", start.normalize, words, here, allowed or not start.normalize)
    if start.projection is not None:
        final_pooling = settings.get("pooling", pooling)
        words, here = f"a projection to {start.projection}", f"{recipe['projection']}"
        allowed = not special and final_pooling in PROJECTED
        settle("projection", start.projection, words, here, allowed)
    if start.max_length is not None:
        length = min(start.max_length, MOST_TOKENS)
        settle("max_length", length, f"at most {length} tokens", str(recipe["max_length"]))
    if fits:
        _settle_format(recipe["input_format"], explicit, start, settings, taken, warnings)
    if start.similarity is not None:
        taken.append(f"compared by {start.similarity} ({start.sources['similarity']})")
    if start.prompts:
        names = ", ".join(start.prompts)
        if "prompts" not in explicit:
            source = start.sources["prompts"]
            taken.append(f"prompts {names} ({source})")
            if recipe["prompts"] != dict(start.prompts):
                settings["prompts"] = dict(start.prompts)
    line = f"start encoder {start.start}: {', '.join(taken)}" if taken else None
    return StartResolution(settings, line, tuple(warnings))


def _with_title_prompt(
    recipe: Mapping[str, Any], explicit: Collection[str], start: StartConventions
) -> Mapping[str, Any]:
    """The settings with the text of the title prompt, if they name a prompt."""
    form = dict(recipe["input_format"])
    name = form.get("title_prompt") or ""
    if not name.isidentifier():  # a text ends in a blank or a colon
        return recipe
    prompts = recipe["prompts"] if "prompts" in explicit else start.prompts
    option = "model.encoder.input_format.title_prompt"
    form["title_prompt"] = named_prompt(prompts, name, start.start, option)
    return {**recipe, "input_format": form}


def _settle_format(
    recipe: Mapping[str, Any],
    explicit: Collection[str],
    start: StartConventions,
    settings: dict[str, Any],
    taken: list[str],
    warnings: list[str],
) -> None:
    """Settle each entry of the input format: the user's, else the start's."""
    start_entries = {} if start.input_format is None else start.input_format.as_dict()
    if start.by_name:
        start_entries = {key: start_entries[key] for key in ("separator",) if key in start_entries}
    source = start.sources.get("input_format") or start.sources.get("prompts")
    if start.prompt:
        start_entries["prompt"] = start.prompt
    merged = dict(recipe)
    for key, value in start_entries.items():
        if "input_format" in explicit or f"input_format.{key}" in explicit:
            if recipe[key] != value:
                warnings.append(
                    f"encoder.input_format.{key} is {recipe[key]!r}, by your setting; "
                    f"{start.start} is made for {value!r} ({source})."
                )
        elif recipe[key] != value:
            merged[key] = value
            taken.append(f"{key} {value!r} ({source}, instead of the recipe's {recipe[key]!r})")
    if merged != dict(recipe):
        settings["input_format"] = merged
