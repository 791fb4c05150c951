"""What a pooling is: a module that makes vectors of hidden states, saves and loads itself.

To add one, subclass `Pooling` in a file of its own, and either name the class by its import path
in ``encoder.pooling`` or give it a line in `registry.POOLINGS`. Nothing else has to change.

Shapes: ``T`` tokens of all texts end to end, ``U`` texts, ``L`` slots of a padded row, ``H`` width
of a hidden state, ``Z`` tokens of sentences, ``S`` sentences.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciembed_train.encoder.pooling.registry import expected_names, import_pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError

Reads = Literal["first_token", "first_token_of_layers", "last_token", "tokens"]
# Weights of a pooling that does not keep them elsewhere, in an encoder's folder.
WEIGHTS = "pooling.safetensors"


@dataclass(frozen=True)
class HiddenStates:
    """The hidden states of a micro-batch of texts.

    Args:
        first: of each text's first token: the embeddings' and then every layer's if the pooling
            reads ``first_token_of_layers``; only the last layer's if it reads ``first_token``;
            else none.
        tokens: the last layer's, of every token end to end or of padded rows; None where the
            pooling does not read them.
        sizes: tokens of each text, on the host.
        mask: 1 where a padded row has a token; None where nothing is padded.
        last: the last layer's of each text's last token; None where the pooling does not read it.
    """

    first: tuple[Float[Tensor, "U H"], ...]
    tokens: Float[Tensor, "T H"] | Float[Tensor, "U L H"] | None
    sizes: tuple[int, ...]
    lengths: Int[Tensor, " U"]
    mask: Int[Tensor, "U L"] | None = None
    last: Float[Tensor, "U H"] | None = None

    def padded(self) -> tuple[Float[Tensor, "U L H"], Int[Tensor, "U L"]]:
        """The tokens' states in padded rows, and the mask, however the backbone ran."""
        assert self.tokens is not None
        if self.mask is not None:
            return self.tokens, self.mask
        rows = nn.utils.rnn.pad_sequence(list(self.tokens.split(self.sizes)), batch_first=True)
        slots = torch.arange(rows.shape[1], device=rows.device)
        return rows, (slots < self.lengths.unsqueeze(1)).long()


class Pooling(nn.Module, ABC):
    """Makes one vector of each text from a backbone's hidden states.

    Args:
        settings: of the encoder.
        config: the backbone's configuration.

    Attributes:
        reads: which states `forward` gets: of the ``first_token`` (the last layer is then computed
            only for it), ``first_token_of_layers``, the ``last_token`` (in a decoder the only one
            computed), or of all ``tokens``.
        per_sentence: whether the encoder has a vector for each sentence, and none of a whole text.
        learned: whether it has weights.
        export_layout: what other libraries can load of an export: ``sentence_transformers`` (needs
            ``sentence_transformers_mode``), ``layer_mix``, ``sentences``, or ``backbone``: the
            backbone alone, whose states they have to pool themselves.
        sentence_transformers_mode: the name of the same pooling in sentence-transformers.
        backbone_place: sub-folder of an encoder's folder for the backbone, where the backbone alone
            would be taken for the whole model at the top.
        saved_config: entries of the backbone's configuration in that folder, for other libraries.
        description: what the vector is, for model cards.
        card_code: lines of a model card that make ``embeddings`` of ``hidden`` and ``batch``.
    """

    reads: ClassVar[Reads] = "tokens"
    per_sentence: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    export_layout: ClassVar[str] = "backbone"
    sentence_transformers_mode: ClassVar[str | None] = None
    backbone_place: ClassVar[str] = ""
    saved_config: ClassVar[Mapping[str, Any]] = {}
    description: ClassVar[str] = "pooled by a class of your own from the last layer"
    card_code: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: EncoderSettings, config: Any) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """The vector of each text."""

    def pool_sentences(
        self, tokens: Float[Tensor, "Z H"], lengths: Int[Tensor, " S"]
    ) -> Float[Tensor, "S H"]:
        """The vector of each sentence: the mean of its tokens' last states."""
        return mean_of_ranges(tokens, lengths)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights, and return the entries of ``sciembed.json`` that `load` reads.

        Args:
            folder: the encoder's.
        """
        state = {
            name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()
        }
        if state:
            from safetensors.torch import save_file

            save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        return {}

    @classmethod
    def load(
        cls, folder: Path, record: Mapping[str, Any], settings: EncoderSettings, config: Any
    ) -> Pooling:
        """The pooling that `save` wrote.

        Args:
            folder: the encoder's.
            record: the content of its ``sciembed.json``.
            settings: of the encoder.
            config: the backbone's configuration.

        Raises:
            UserError: the weights are missing, or do not fit.
        """
        pooling = cls(settings, config)
        if pooling.state_dict():
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                pooling.load_state_dict(load_file(folder / WEIGHTS))
            except (OSError, SafetensorError, RuntimeError) as error:
                raise UserError(
                    f"{folder / WEIGHTS}: is not the weights of the pooling {settings.pooling} "
                    f"({' '.join(str(error).split())}). Export the model again."
                ) from error
        return pooling


def mean_of_ranges(
    hidden: Float[Tensor, "T H"], lengths: Int[Tensor, " U"]
) -> Float[Tensor, "U H"]:
    """The mean state of each range of neighbouring tokens; the ranges follow one another."""
    return torch.segment_reduce(hidden, "mean", lengths=lengths, unsafe=True)


def pooling_class(name: str) -> type[Pooling]:
    """The class of a registered name or an import path.

    Raises:
        UserError: it cannot be imported, or is no pooling.
    """
    kind = import_pooling(name)
    if not (isinstance(kind, type) and issubclass(kind, Pooling)):
        raise UserError(
            f"encoder.pooling is {name!r}, which is no subclass of {Pooling.__module__}.Pooling; "
            f"expected {expected_names()}."
        )
    return kind
