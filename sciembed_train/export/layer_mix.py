"""An encoder whose vector of a text is a learned mix of all its layers' first-token states.

This file lies beside an exported model, and ``transformers`` runs it with
``trust_remote_code=True``. Without it the model does not load, since the backbone's last layer
alone is another vector. The states of each token are mixed by the same weights,
``sum_l softmax(mix)_l h_l`` with the embeddings' states as ``h_0`` and the backbone's last hidden
states as the last ``h_l``, so the vector of a text is ``last_hidden_state[:, 0]``, which is
``pooler_output`` too.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class LayerMixConfig(PretrainedConfig):
    """The configuration of the backbone, as plain values, and entries that libraries read."""

    model_type = "sciembed_layer_mix"

    def __init__(self, backbone=None, **kwargs):
        self.backbone = dict(backbone or {"model_type": "bert"})
        super().__init__(**kwargs)


class LayerMixModel(PreTrainedModel):
    """The backbone without its pooler, and a weight for each of its layers."""

    config_class = LayerMixConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        backbone = AutoConfig.for_model(**config.backbone)
        self.backbone = AutoModel.from_config(backbone)
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        self.mix = nn.Parameter(torch.zeros(1, backbone.num_hidden_layers + 1))
        self.post_init()

    def get_input_embeddings(self):
        """The word embeddings."""
        return self.backbone.get_input_embeddings()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        output_hidden_states=None,
        return_dict=None,
        **kwargs,
    ):
        """Mixed states of every token, and of the first one as ``pooler_output``."""
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            **kwargs,
        }
        inputs = {name: value for name, value in inputs.items() if value is not None}
        outputs = self.backbone(**inputs, output_hidden_states=True, return_dict=True)
        last = outputs.last_hidden_state
        wide = torch.promote_types(last.dtype, torch.float32)
        shares = torch.softmax(self.mix.to(wide), 1)[0]
        mixed: Any = torch.zeros_like(last, dtype=wide)
        # In transformers 4 ModernBERT's list ends before the norm above its layers.
        layers = (*outputs.hidden_states[:-1], last)
        for share, states in zip(shares, layers, strict=True):
            mixed = mixed + share * states.to(wide)
        mixed = mixed.to(last.dtype)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        output = BaseModelOutputWithPooling(
            last_hidden_state=mixed,
            pooler_output=mixed[:, 0],
            hidden_states=outputs.hidden_states if output_hidden_states else None,
        )
        return output.to_tuple() if return_dict is False else output
