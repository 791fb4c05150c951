"""Whether a tokenizer and a backbone go together in libraries that load an export."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from sciembed_train.errors import UserError


def check_model_inputs(backbone: nn.Module, tokenizer: Any, name: str) -> None:
    """Raise UserError where the tokenizer gives inputs that the backbone's forward does not take.

    This project gives a backbone only ids and a mask, so it would train all the same; but
    transformers and sentence-transformers give it everything that the tokenizer makes.

    Args:
        backbone: of transformers; one with ``**kwargs`` takes all inputs.
        tokenizer: of transformers.
        name: of the folder or model of the hub, for the message.
    """
    taken = inspect.signature(type(backbone).forward).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    extra = [key for key in tokenizer.model_input_names if key not in taken]
    if extra:
        kept = ", ".join(f'"{key}"' for key in tokenizer.model_input_names if key in taken)
        raise UserError(
            f"{name}: its tokenizer makes {', '.join(extra)}, which a {type(backbone).__name__} "
            "does not take: no other library could use what is trained or exported. Write "
            f'"model_input_names": [{kept}] into its tokenizer_config.json.'
        )
