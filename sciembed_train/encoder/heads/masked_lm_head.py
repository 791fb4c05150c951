"""The masked-language-modelling head of a backbone: states of tokens in, scores of words out.

The head is the one that ``transformers`` has for the model type, module by module, so that a
published head is continued and an exported one is loaded by others. Its last weights are those of
the token embeddings where the configuration ties them: one parameter under two names.

Shapes: ``K`` tokens, ``H`` width of a hidden state, ``V`` words of the vocabulary.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train.encoder.io.load_backbone import load_model, refuse_missing
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear
from sciembed_train.errors import UserError

log = logging.getLogger("sciembed_train")

# Of each model type, the attributes of its ``...ForMaskedLM`` that make the logits of the
# backbone's last states, applied in this order.
HEADS: dict[str, tuple[str, ...]] = {
    "bert": ("cls",),
    "camembert": ("lm_head",),
    "distilbert": ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
    "electra": ("generator_predictions", "generator_lm_head"),
    "modernbert": ("head", "decoder"),
    "mpnet": ("lm_head",),
    "roberta": ("lm_head",),
    "xlm-roberta": ("lm_head",),
}


class MaskedLMHead(nn.ModuleDict):
    """The modules of a head, by the names they have in ``transformers``."""

    def forward(self, states: Float[Tensor, "K H"]) -> Float[Tensor, "K V"]:
        """The logits of every word of the vocabulary for each token."""
        with faster_linear(states.device):
            for part in self.values():
                states = part(states)
        return states

    def joined_to(self, backbone: Any) -> Any:
        """The ``...ForMaskedLM`` of a backbone and this head; it shares their parameters."""
        from transformers import AutoModelForMaskedLM

        with torch.device("meta"):  # every parameter is replaced: none needs memory
            model: Any = AutoModelForMaskedLM.from_config(
                copy.deepcopy(backbone.config), trust_remote_code=False
            )
        setattr(model, model.base_model_prefix, backbone)
        for name, part in self.items():
            setattr(model, name, part)
        return model

    @classmethod
    def split(cls, model: Any) -> tuple[nn.Module, MaskedLMHead]:
        """Backbone and head of a ``...ForMaskedLM`` of a known type."""
        names = HEADS[model.config.model_type]
        head = cls({name: getattr(model, name) for name in names})
        return getattr(model, model.base_model_prefix), head

    @classmethod
    def new(cls, config: Any) -> tuple[nn.Module, MaskedLMHead]:
        """Backbone and head of a configuration, with random weights, tied as it says."""
        from transformers import AutoModelForMaskedLM

        model = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
        return cls.split(model.float())

    @classmethod
    def load(
        cls, folder: Path, config: Any, make: bool = True
    ) -> tuple[nn.Module, MaskedLMHead] | tuple[None, None]:
        """Backbone and head of a checked folder in fp32.

        A new head's layers before the output are random, as the configuration's
        ``initializer_range`` says; its output weights are the token embeddings, its biases zero.

        Args:
            folder: holds the weights.
            config: the folder's configuration, checked.
            make: make a new head where the folder has none; otherwise both are None then.

        Raises:
            UserError: the model type's head is not known; the weights are unreadable or of other
                shapes; the backbone or half a head is missing.
        """
        from transformers import AutoModelForMaskedLM

        check_type(config, str(folder))
        model, missing = load_model(AutoModelForMaskedLM, folder, config)
        backbone, head = cls.split(model)
        prefix = f"{model.base_model_prefix}."
        refuse_missing(folder, [name for name in missing if name.startswith(prefix)])
        backbone_ids = {id(p) for p in backbone.parameters()}
        names: dict[int, list[str]] = {}  # by parameter of only the head, tied ones once
        for name, parameter in head.named_parameters(remove_duplicate=False):
            if id(parameter) not in backbone_ids:
                names.setdefault(id(parameter), []).append(name)
        absent = [tied[0] for tied in names.values() if all(name in missing for name in tied)]
        if absent and len(absent) < len(names):
            raise UserError(
                f"{folder}: of its masked-language-modelling head {len(absent)} of {len(names)} "
                f"tensors are missing ({', '.join(absent[:3])}, ...). They would be random; give a "
                "folder with the whole head, or with none."
            )
        if absent and not make:
            return None, None
        if absent:
            log.warning(
                f"{folder}: has no masked-language-modelling head, so a new one is made: random "
                "layers before the output, and the token embeddings as its output weights."
            )
        return backbone, head


def check_type(config: Any, where: str) -> None:
    """Raise unless the model type's head is known.

    Raises:
        UserError: it is not.
    """
    if config.model_type not in HEADS:
        raise UserError(
            f"{where}: the masked-language-modelling head of model type {config.model_type!r} is "
            f"not known here; known are those of {', '.join(HEADS)}. Choose a backbone of one of "
            "these, or train without masked language modelling."
        )
