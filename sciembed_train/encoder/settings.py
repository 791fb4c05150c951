"""What makes an encoder, apart from its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.pooling.registry import expected_names, is_pooling_name
from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES
from sciembed_train.text.input_format import InputFormat

Attention = Literal["auto", "by_text", "varlen", "nested", "padded"]
# Poolings whose vectors a projection may take, as other libraries have them too.
PROJECTED = ("cls", "mean", "last")
# Model types whose positions count from padding_idx + 1, so that many fewer fit in the table.
_OFFSET_POSITIONS = {
    "camembert",
    "data2vec-text",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
}


@dataclass(frozen=True)
class EncoderSettings:
    """What makes an encoder, apart from its weights.

    Args:
        backbone: folder or hub name of a Hugging Face encoder.
        pooling: ``cls`` is the first token's last state, ``mean`` the mean over all tokens,
            ``last`` the last token's last state, as of decoders, whose first tokens see nothing of
            a text, ``mix`` a learned mix of the first token's states after every layer
            (`layer_mix.mix_layers`). ``sentences`` is a vector for each sentence, the mean over its
            tokens, and none of a whole text: compared by best match or by transport. The import
            path of a subclass of `pooling.base.Pooling` names one of your own.
        max_length: most tokens of a text, special tokens included.
        input_format: how title and abstract become one text.
        forward: ``unpadded`` multiplies no padding and needs a backbone of a family that has it
            (`unpadded.forward`), ``padded`` runs any, ``auto`` is unpadded where that is possible.
        max_tokens_per_forward: token budget of one micro-batch (slots, where it is padded). It
            changes speed and memory, not results. None takes the device's default.
        attention: how an unpadded forward keeps texts apart: ``by_text``, ``varlen``, ``nested`` or
            ``padded`` (`attention.attend`). It changes speed, not results. ``auto`` takes what
            suits the device, the type of the numbers and the dropout (`attention.preferred`).
        gradient_checkpointing: compute each layer again in the backward instead of keeping its
            inner states: far less memory, about a third more time.
        compile: in training, compile what an unpadded layer does after attention
            (`compiled_layer.compiled_on`): the same values and gradients but for rounding, other
            dropout masks of hidden states. Off unless set: on a CPU it was slower or no faster,
            and no GPU has been measured.
        dropout: for hidden states and attention weights alike; None keeps the backbone's own.
        control_codes: put the code of its format before each text, as a token of its own whose
            last state is the text's vector (`control_codes`); with pooling ``cls``.
        mix_init: a new mix's weights where the backbone's folder has none: ``uniform`` (all
            equal) or ``linear`` (drawn as those of a torch linear layer, as published).
        normalize: scale the vector of a text to unit length, as sentence-transformers' module
            Normalize; with a pooling of the last layer and without adapters and codes.
        projection: the width of a linear layer without bias between pooling and scaling, which is
            trained along and starts as the first numbers of the pooled vector; null for none.
            With pooling ``cls``, ``mean`` or ``last``, and without adapters and codes.
        prompts: texts to put before others, by name, as ``query`` and ``document``, which embedding
            and evaluating may choose from, and the export keeps (`prompts`). Training reads papers
            behind ``input_format.prompt``, which a start's prompt of documents is taken for.
        keep_start: of a recipe, take pooling, scaling, length, input format and prompts from the
            files of the backbone where they say so and the user sets no other
            (`start_model.resolve`); ``false`` takes the recipe's. A run's config.yaml has what was
            settled, and false.
        adapters: freeze the backbone and train an adapter for each format of task in it; null
            trains the backbone. The frozen backbone's dropout is as ``dropout`` says.
        lora: freeze the backbone and train low-rank updates of its linear layers; they are merged
            into its weights for the export. Null trains the weights themselves.

    Raises:
        UserError: a value is out of its range.
    """

    backbone: str = ""
    pooling: str = "cls"
    max_length: int = 512
    input_format: InputFormat = field(default_factory=InputFormat)
    forward: Literal["auto", "unpadded", "padded"] = "auto"
    max_tokens_per_forward: int | None = None
    attention: Attention = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    dropout: float | None = None
    control_codes: bool = False
    mix_init: Literal["uniform", "linear"] = "uniform"
    normalize: bool = False
    projection: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    keep_start: bool = True
    adapters: AdapterSettings | None = None
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        def refuse(key: str, wanted: str) -> UserError:
            return UserError(f"encoder.{key} is {getattr(self, key)!r}; expected {wanted}.")

        if not self.backbone:
            raise refuse("backbone", "the folder or hub name of a Hugging Face encoder")
        if not is_pooling_name(self.pooling):
            raise refuse("pooling", expected_names())
        if self.forward not in ("auto", "unpadded", "padded"):
            raise refuse("forward", "auto, unpadded or padded")
        if self.attention not in get_args(Attention):
            raise refuse("attention", " or ".join(get_args(Attention)))
        if self.forward == "padded" and self.attention != "auto":
            raise refuse("attention", "auto, since encoder.forward is padded")
        if self.attention == "nested" and self.gradient_checkpointing:
            raise refuse("attention", "another way, since encoder.gradient_checkpointing is true")
        if self.compile and self.forward == "padded":
            raise refuse("compile", "false, since encoder.forward is padded")
        if self.compile and self.adapters is not None:
            # A layer would be compiled anew for each choice of adapters and their texts.
            raise refuse("compile", "false, since it has adapters")
        if self.max_length < 3:
            raise refuse("max_length", "3 or more tokens")
        if self.max_tokens_per_forward is not None and self.max_tokens_per_forward < 1:
            raise refuse("max_tokens_per_forward", "1 or more tokens, or null for the device's own")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise refuse("dropout", "at least 0 and below 1, or null for the backbone's own")
        if self.mix_init not in ("uniform", "linear"):
            raise refuse("mix_init", "uniform or linear")
        if self.mix_init != "uniform" and self.pooling != "mix":
            raise refuse("mix_init", f"uniform, since encoder.pooling is {self.pooling}, not mix")
        if self.control_codes and self.pooling != "cls":
            raise refuse("control_codes", f"false, since encoder.pooling is {self.pooling}")
        if self.normalize and self.pooling in ("mix", "sentences"):
            raise refuse("normalize", f"false, since encoder.pooling is {self.pooling}")
        if self.normalize and (self.control_codes or self.adapters is not None):
            raise refuse("normalize", "false, since it has adapters or control codes")
        if self.projection is not None:
            if self.projection < 1:
                raise refuse("projection", "1 or more numbers, or null")
            if self.pooling not in PROJECTED:
                raise refuse("projection", f"null, since encoder.pooling is {self.pooling}")
            if self.control_codes or self.adapters is not None:
                raise refuse("projection", "null, since it has adapters or control codes")
        if self.adapters is not None and self.pooling not in ("cls", "mean"):
            raise refuse("pooling", "cls or mean, since it has adapters")
        if self.lora is not None:
            for key in ("adapters", "control_codes", "compile"):
                if getattr(self, key):
                    raise refuse("lora", f"null, since encoder.{key} is set")
        if self.adapters is not None and self.control_codes:
            # The codes' vectors would stay random in the frozen backbone, as once published.
            raise refuse("control_codes", "false, since encoder.adapters freezes their vectors")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderSettings:
        """The settings that `as_dict` wrote."""
        adapters, lora = values["adapters"], values.get("lora")
        return cls(
            **{
                **values,
                "input_format": InputFormat.recorded(values["input_format"]),
                "adapters": None if adapters is None else AdapterSettings.from_dict(adapters),
                "lora": None if lora is None else LoraSettings.from_dict(lora),
            }
        )


def is_causal(config: Any) -> bool:
    """Whether a backbone is a decoder: its tokens do not attend to later ones."""
    family = FAMILIES.get(config.model_type)
    return family is not None and family.causal


def position_limit(config: Any) -> int | None:
    """Most tokens of a text that the backbone's position table holds; None without a table."""
    table = getattr(config, "max_position_embeddings", None)
    if not isinstance(table, int) or table < 1:
        return None
    return table - (config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0)
