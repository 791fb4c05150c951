"""A BERT-family encoder with the adapter of one format of task in each of its layers.

This file lies beside an exported model, and ``transformers`` runs it with
``trust_remote_code=True``. Without it the model does not load, since the backbone without its
adapter gives another vector. In each layer, with ``x`` the attention's states, ``h`` what the
feed-forward part makes of them and ``LN`` the layer's own norm (Pfeiffer et al. 2021):
``z = LN(h + x)``, ``a = W_up relu(W_down z + b_down) + b_up + h``, and ``LN(a + x)`` is the
layer's output. The library ``adapters`` calls it ``seq_bn``; it is not needed here.
"""

from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class AdaptedConfig(PretrainedConfig):
    """The configuration of the backbone, as plain values, and the width of the adapter."""

    model_type = "sciembed_adapted"

    def __init__(self, backbone=None, bottleneck=48, task_format=None, **kwargs):
        self.backbone = dict(backbone or {"model_type": "bert"})
        self.bottleneck = bottleneck
        self.task_format = task_format
        super().__init__(**kwargs)


class AdaptedOutput(nn.Module):
    """The end of a layer, with the adapter in it."""

    def __init__(self, output, bottleneck):
        super().__init__()
        self.dense, self.dropout, self.LayerNorm = output.dense, output.dropout, output.LayerNorm
        width = output.dense.out_features
        self.adapter_down = nn.Sequential(nn.Linear(width, bottleneck), nn.ReLU())
        self.adapter_up = nn.Linear(bottleneck, width)

    def forward(self, hidden_states, input_tensor):
        """The layer's states, of the feed-forward part's inner ones and of the attention's."""
        hidden = self.dropout(self.dense(hidden_states))
        normed = self.LayerNorm(hidden + input_tensor)
        adapted = self.adapter_up(self.adapter_down(normed)) + hidden
        return self.LayerNorm(adapted + input_tensor)


class AdaptedModel(PreTrainedModel):
    """The backbone without its pooler, and an adapter in each layer."""

    config_class = AdaptedConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.backbone = AutoModel.from_config(AutoConfig.for_model(**config.backbone))
        if hasattr(self.backbone, "pooler"):
            self.backbone.pooler = None
        for layer in self.backbone.encoder.layer:
            layer.output = AdaptedOutput(layer.output, config.bottleneck)
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
        """States of every token, and of the first one as ``pooler_output``."""
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            **kwargs,
        }
        inputs = {name: value for name, value in inputs.items() if value is not None}
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        found = self.backbone(**inputs, output_hidden_states=output_hidden_states, return_dict=True)
        output = BaseModelOutputWithPooling(
            last_hidden_state=found.last_hidden_state,
            pooler_output=found.last_hidden_state[:, 0],
            hidden_states=found.hidden_states if output_hidden_states else None,
        )
        return output.to_tuple() if return_dict is False else output
