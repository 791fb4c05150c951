"""A BERT-family encoder with the adapter of one format of task in each of its layers.

This file lies beside an exported model, and ``transformers`` runs it with
``trust_remote_code=True``. Without it the model does not load, since the backbone without its
adapter gives another vector. In each layer, with ``x`` the attention's states, ``h`` what the
feed-forward part gives for them and ``LN`` the layer's own norm (Pfeiffer et al. 2021):
``z = LN(h + x)``, ``a = W_up relu(W_down z + b_down) + b_up + h``, and ``LN(a + x)`` is the
layer's output. The library ``adapters`` calls it ``seq_bn``; it is not needed here. Where a fusion
reads several adapters, with ``u_n`` the output of the ``n``-th, which is ``a`` without ``h``, it
is ``LN(sum_n s_n V u_n + h + x)``, with ``s_n = softmax_n(Q(z) . K(u_n))``.
"""

import torch
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
        """The layer's states, from the feed-forward part's inner ones and the attention's."""
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
            layer.output = self.adapted(layer.output)
        self.post_init()

    def adapted(self, output) -> nn.Module:
        """The end of a layer, with its trained parts."""
        return AdaptedOutput(output, self.config.bottleneck)

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
        outputs = self.backbone(
            **inputs, output_hidden_states=output_hidden_states, return_dict=True
        )
        output = BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=outputs.last_hidden_state[:, 0],
            hidden_states=outputs.hidden_states if output_hidden_states else None,
        )
        return output.to_tuple() if return_dict is False else output


class FusedConfig(AdaptedConfig):
    """The configuration of the backbone, the width and number of the adapters."""

    model_type = "sciembed_fused"

    def __init__(self, adapters=2, values=True, **kwargs):
        self.adapters = adapters
        self.values = values
        super().__init__(**kwargs)


class Adapter(nn.Module):
    """The output of one adapter for each token."""

    def __init__(self, width, bottleneck):
        super().__init__()
        self.adapter_down = nn.Sequential(nn.Linear(width, bottleneck), nn.ReLU())
        self.adapter_up = nn.Linear(bottleneck, width)

    def forward(self, states):
        """The output for the states of each token."""
        return self.adapter_up(self.adapter_down(states))


class Fusion(nn.Module):
    """The weighted mean of several adapters' outputs for each token, with learned weights."""

    def __init__(self, width, values):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=False) if values else nn.Identity()

    def forward(self, states, outputs):
        """The mean, from the states that the adapters read and their outputs, one in a row."""
        scores = (self.key(outputs) @ self.query(states).unsqueeze(-1)).squeeze(-1)
        return (scores.softmax(-1).unsqueeze(-1) * self.value(outputs)).sum(-2)


class FusedOutput(nn.Module):
    """The end of a layer, with the adapters and their fusion in it."""

    def __init__(self, output, config):
        super().__init__()
        self.dense, self.dropout, self.LayerNorm = output.dense, output.dropout, output.LayerNorm
        width = output.dense.out_features
        self.adapters = nn.ModuleList(
            [Adapter(width, config.bottleneck) for _ in range(config.adapters)]
        )
        self.fusion = Fusion(width, config.values)

    def forward(self, hidden_states, input_tensor):
        """The layer's states, from the feed-forward part's inner ones and the attention's."""
        hidden = self.dropout(self.dense(hidden_states))
        normed = self.LayerNorm(hidden + input_tensor)
        outputs = torch.stack([adapter(normed) for adapter in self.adapters], dim=-2)
        return self.LayerNorm(self.fusion(normed, outputs) + hidden + input_tensor)


class FusedModel(AdaptedModel):
    """The backbone without its pooler, and adapters with their fusion in each layer."""

    config_class = FusedConfig

    def adapted(self, output) -> nn.Module:
        """The end of a layer, with its trained parts."""
        return FusedOutput(output, self.config)
