"""Put adapters, and fusions of them, into a backbone, which is frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.encoder.adapters.adapter_files import load_adapter
from sciembed_train.encoder.adapters.adapter_settings import (
    AdapterSettings,
    configuration,
    library,
)
from sciembed_train.encoder.adapters.fusion import add_fusions
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS


def install_adapters(
    backbone: Any,
    settings: AdapterSettings,
    base: str,
    start: Mapping[str, str],
    fusion_start: Mapping[str, str],
    fingerprint: str,
) -> frozenset[str]:
    """The names of the tensors that are new in the backbone's state.

    Args:
        backbone: in fp32, without adapters.
        settings: which adapters and fusions.
        base: folder or hub name of the backbone, for messages.
        start: folder of a trained adapter, by format; the others are new.
        fusion_start: folder of a trained fusion, by format; the others are new.
        fingerprint: of the backbone's weights.

    Raises:
        UserError: the library is absent, or the configuration or the backbone is not one it runs;
            or a trained adapter or fusion does not fit.
    """
    adapters, config = library(), configuration(settings)
    backbone.requires_grad_(False)
    try:
        adapters.init(backbone)
        before = set(backbone.state_dict())
        for name in settings.adapted:
            if name in start:
                load_adapter(backbone, FORMATS[name], start[name], config, fingerprint)
            else:
                backbone.add_adapter(FORMATS[name], config)
        if settings.fusion is not None:
            backbone.requires_grad_(False)
            add_fusions(backbone, settings, fusion_start, fingerprint)
    except UserError:
        raise  # of a trained adapter; it names the folder
    except (ValueError, KeyError, AttributeError, AssertionError) as error:
        raise UserError(
            f"{base}: the library adapters cannot put {settings.config} into a model of type "
            f"{backbone.config.model_type!r} ({error})."
        ) from error
    return frozenset(backbone.state_dict()) - before
