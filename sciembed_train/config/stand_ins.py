"""Types that stand for a class without importing it, so that a parser is made without torch."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.optim_settings import OptimSettings


class StandIn(abc.ABCMeta):
    """Counts subclasses of the classes named in ``stands_for`` as its own.

    The class itself is imported only when a recipe names it as ``class_path``.
    """

    stands_for: tuple[str, ...]

    def __subclasscheck__(cls, subclass: type) -> bool:
        bases = getattr(subclass, "__mro__", ())
        return super().__subclasscheck__(subclass) or any(
            f"{base.__module__}.{base.__qualname__}" in cls.stands_for for base in bases
        )

    def __instancecheck__(cls, instance: Any) -> bool:
        return cls.__subclasscheck__(type(instance))


class Method(metaclass=StandIn):
    """A training method, with what every method has.

    Commands that train nothing read a recipe that names no method as this, and a machine file may
    stand before the recipe that names one.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        max_tokens_per_backward: most tokens of one backward pass; ``auto`` for as many as fit,
            null for no limit.
    """

    stands_for: ClassVar[tuple[str, ...]] = ("sciembed_train.methods.base.Method",)

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        max_tokens_per_backward: int | Literal["auto"] | None = "auto",
    ) -> None:
        self.encoder, self.optim = encoder, optim
        self.max_tokens_per_backward = max_tokens_per_backward


class Callback(metaclass=StandIn):
    """A callback of Lightning's."""

    stands_for: ClassVar[tuple[str, ...]] = ("pytorch_lightning.callbacks.callback.Callback",)


class Logger(metaclass=StandIn):
    """A logger of Lightning's."""

    stands_for: ClassVar[tuple[str, ...]] = ("pytorch_lightning.loggers.logger.Logger",)


class Strategy(metaclass=StandIn):
    """A strategy of Lightning's."""

    stands_for: ClassVar[tuple[str, ...]] = ("pytorch_lightning.strategies.strategy.Strategy",)


class Profiler(metaclass=StandIn):
    """A profiler of Lightning's."""

    stands_for: ClassVar[tuple[str, ...]] = ("pytorch_lightning.profilers.profiler.Profiler",)


class Plugin(metaclass=StandIn):
    """A plugin of Lightning's: a precision, an environment, an I/O or a layer synchronisation."""

    stands_for: ClassVar[tuple[str, ...]] = (
        "lightning_fabric.plugins.environments.cluster_environment.ClusterEnvironment",
        "lightning_fabric.plugins.io.checkpoint_io.CheckpointIO",
        "lightning_fabric.plugins.precision.precision.Precision",
        "pytorch_lightning.plugins.layer_sync.LayerSync",
    )


# The class path of the method where no recipe names one.
NO_METHOD = f"{Method.__module__}.{Method.__name__}"
