"""What adapters a backbone is to have, and the AdapterHub library that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

# Where a folder of this project keeps a folder for each adapter and for each fusion of adapters.
ADAPTERS_PLACE = "adapters"
FUSION_PLACE = "fusion"
# Kinds whose first token's last state is not one of the text, or which need a task besides the
# adapter.
_REFUSED = {
    "prompt_tuning": "puts its own vectors before the text, so the text has no first state",
    "mtl_lora": "is chosen by a task's number inside the library, and not by an adapter",
}


@dataclass(frozen=True)
class AdapterSettings:
    """Small trained parts of a frozen backbone, one for each format of task.

    Args:
        formats: what has an adapter, as `input_format.FORMATS` names it.
        config: the library's name of a configuration, with options in brackets, such as
            ``double_seq_bn`` or ``seq_bn[dropout=0.1]``.
        reduction: the backbone's width divided by that of the adapter; null keeps the
            configuration's own (``seq_bn``: 16).
        start: folder or hub name of a trained adapter to begin with, by format. The others begin
            with the one that the backbone's folder holds, if any, else near the identity.
        fusion: freeze the adapters too, and train for each of ``formats`` a fusion of them, which
            weighs what they say of each token (`fusion`): the library's name of a configuration,
            ``dynamic`` or ``static``. Every adapter must then be a trained one.
        fused: formats whose adapters each fusion reads, with all of ``formats`` among them; none
            stands for these alone.
        fusion_start: folder of a trained fusion to begin with, by format, as ``start``.

    Raises:
        UserError: a value is out of its range.
    """

    formats: tuple[str, ...] = tuple(FORMATS)
    config: str = "seq_bn"
    reduction: int | None = None
    start: dict[str, str] = field(default_factory=dict)
    fusion: str | None = None
    fused: tuple[str, ...] = ()
    fusion_start: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = ", ".join(FORMATS)
        self._check_fusion(known)
        if not self.formats or len(set(self.formats)) < len(self.formats):
            raise UserError(
                f"encoder.adapters.formats is {list(self.formats)}; expected some of {known}, each "
                "once."
            )
        for name in self.formats:
            if name not in FORMATS:
                raise UserError(f"encoder.adapters.formats has {name!r}; expected some of {known}.")
        for key, names in (("start", self.adapted), ("fusion_start", self.formats)):
            for name in getattr(self, key):
                if name not in names:
                    field_name = "fused" if key == "start" and self.fused else "formats"
                    raise UserError(
                        f"encoder.adapters.{key} names {name!r}, which is none of "
                        f"encoder.adapters.{field_name} ({', '.join(names)})."
                    )
        if self.reduction is not None and self.reduction < 1:
            raise UserError(
                f"encoder.adapters.reduction is {self.reduction}; expected 1 or more, or null for "
                "the configuration's own."
            )

    def _check_fusion(self, known: str) -> None:
        if self.fusion is None:
            for key in ("fused", "fusion_start"):
                if getattr(self, key):
                    raise UserError(
                        f"encoder.adapters.{key} is given, but encoder.adapters.fusion is null, so "
                        f"nothing is fused: leave {key} out, or set fusion to dynamic."
                    )
            return
        if len(set(self.fused)) < len(self.fused) or not set(self.fused) <= set(FORMATS):
            raise UserError(
                f"encoder.adapters.fused is {list(self.fused)}; expected some of {known}, each "
                "once."
            )
        if not set(self.formats) <= set(self.adapted):
            raise UserError(
                f"encoder.adapters.fused is {list(self.fused)}, without all of encoder.adapters."
                f"formats ({', '.join(self.formats)}): a fusion is known by its own format's "
                "adapter, the first that it reads. Add them."
            )
        if len(self.adapted) < 2:
            raise UserError(
                f"encoder.adapters.fusion chooses among adapters, and there is only that of "
                f"{', '.join(self.adapted)}: name more in encoder.adapters.fused, or set fusion to "
                "null."
            )

    @property
    def codes(self) -> tuple[str, ...]:
        """The formats' names in files and in the backbone: the published codes."""
        return tuple(FORMATS[name] for name in self.formats)

    @property
    def adapted(self) -> tuple[str, ...]:
        """The formats that have an adapter; those of ``formats``, unless others are fused."""
        return self.fused or self.formats

    def metadata(self) -> dict[str, Any]:
        """What ``sciembed.json`` says of the adapters that lie beside it."""
        left_out = {"start", "fusion_start"}
        if self.fusion is None:
            left_out |= {"fusion", "fused"}
        return {k: v for k, v in asdict(self).items() if k not in left_out}

    @classmethod
    def from_folder(cls, content: Mapping[str, Any], folder: Path) -> AdapterSettings:
        """The settings from what `metadata` gave, beginning with the folder's adapters.

        Raises:
            TypeError, KeyError, UserError: the entry is not what `metadata` gives.
        """
        formats, fused = tuple(content["formats"]), tuple(content.get("fused", ()))
        fusion = content.get("fusion")
        start = {n: str(folder / ADAPTERS_PLACE / FORMATS[n]) for n in fused or formats}
        fusions = {n: str(folder / FUSION_PLACE / FORMATS[n]) for n in formats if fusion}
        config, reduction = str(content["config"]), content["reduction"]
        return cls(formats, config, reduction, start, fusion, fused, fusions)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AdapterSettings:
        """The settings from plain values, where a tuple may have become a list."""
        tuples = {key: tuple(values[key]) for key in ("formats", "fused") if key in values}
        return cls(**{**values, **tuples})

    def without_start(self) -> AdapterSettings:
        """The same, without trained adapters and fusions to begin with."""
        return replace(self, start={}, fusion_start={})


def library() -> Any:
    """The package ``adapters``.

    Raises:
        UserError: it is not installed, or does not run with this transformers.
    """
    try:
        import adapters
    except ImportError as error:
        import transformers

        raise UserError(
            "Adapters are trained and run through the library adapters 1.3, which cannot be "
            f"imported here ({error}); it needs transformers 4.57.6, and here is "
            f"{transformers.__version__}. Install sciembed_train[adapters] into an environment "
            "of its own. Without the library, use the folders that `export` writes to hf/, one "
            "for each format."
        ) from error
    return adapters


def configuration(settings: AdapterSettings) -> Any:
    """The library's configuration of each adapter.

    Raises:
        UserError: the library has none of this name, or it is one that is not run here.
    """
    adapters = library()
    where = f"encoder.adapters.config is {settings.config!r}"
    try:
        config = adapters.AdapterConfig.load(settings.config)
        if settings.reduction is not None:
            if "reduction_factor" not in config:
                raise UserError(f"{where}, which has no reduction: set it to null.")
            config = config.replace(reduction_factor=settings.reduction)
    except (ValueError, TypeError, KeyError, SyntaxError, AttributeError) as error:
        names = ", ".join(sorted(adapters.ADAPTER_CONFIG_MAP))
        raise UserError(
            f"{where}, which the library adapters cannot make ({error}); it has {names}."
        ) from error
    kind = config.architecture
    if kind in _REFUSED:
        raise UserError(f"{where}; {kind} {_REFUSED[kind]}. Use another configuration.")
    return config


def one_forward(config: Any) -> bool:
    """Whether texts of several formats can share a forward, and the forward can be unpadded.

    True of bottleneck adapters whose output at a token depends on that token alone.
    """
    return (
        config.architecture is None
        and not config["use_gating"]
        and not config["phm_layer"]
        and config["inv_adapter"] is None
        and not config["stochastic_depth"]
    )
