"""A whole encoder as one ONNX graph: from token ids to the final vectors.

Backbone, pooling, layer mix and normalisation are inside, so that a program in any language needs
a tokenizer and an ONNX runtime, and nothing else. Number and length of texts are free.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a state, ``D`` of a vector.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from sciembed_train.encoder.adapters.adapter_settings import library
from sciembed_train.encoder.adapters.control_codes import ControlCodes
from sciembed_train.encoder.adapters.fusion import fusion_code
from sciembed_train.encoder.backends.graph_files import IDS, MASK, TOKENS, VECTORS
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.microbatch.micro_batch_forward import padded_states
from sciembed_train.encoder.pooling.base import HiddenStates
from sciembed_train.encoder.pooling.last_token import last_of_rows
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

OPSET = 17  # read by onnxruntime from 1.12 on
LARGEST = 2_000_000_000  # bytes of one ONNX file


class WholeEncoder(nn.Module):
    """An encoder as a function of padded rows.

    Args:
        encoder: one with a vector of a whole text.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.backbone, self.pooling = encoder.backbone, encoder.pooling
        self.projection, self.normalize = encoder.projection, encoder.settings.normalize
        reader = encoder.format_reader
        # The vector is the state of a control code, which follows the special tokens.
        self.place = reader.prefix if isinstance(reader, ControlCodes) else None

    def forward(
        self, ids: Int[Tensor, "U L"], mask: Int[Tensor, "U L"]
    ) -> tuple[Float[Tensor, "U L H"], Float[Tensor, "U D"]]:
        """The last hidden states of all slots, and the vector of each text."""
        inputs = {"input_ids": ids, "attention_mask": mask}
        reads = "tokens" if self.place is not None else self.pooling.reads
        hidden, first = padded_states(self.backbone, inputs, reads)
        if self.place is not None:
            return hidden, hidden[:, self.place]
        # No lengths of texts on the host: a pooling takes them from the mask.
        last = last_of_rows(hidden, mask) if reads == "last_token" else None
        vectors = self.pooling(HiddenStates(first, hidden, (), mask.sum(1), mask, last))
        if self.projection is not None:
            vectors = self.projection(vectors)
        return hidden, normalize(vectors) if self.normalize else vectors


def check_size(encoder: Encoder) -> None:
    """Raise a UserError if the weights are more than an ONNX file can hold."""
    size = sum(p.numel() for p in encoder.parameters()) * 4
    if size > LARGEST:
        raise UserError(
            f"The encoder has {size:,} bytes of weights in fp32, and one ONNX file holds less than "
            f"{LARGEST:,}. Leave --onnx and --openvino out."
        )


def write_onnx(encoder: Encoder, path: Path, format: str | None = None) -> None:
    """Write the graph of an encoder, in fp32.

    Args:
        encoder: on the host in fp32; its mode is left as it was.
        path: of the file; its folder is made.
        format: whose adapter reads the texts, where the encoder has adapters.

    Raises:
        UserError: the exporter cannot follow the backbone, or a pooling of the user's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = encoder.tokenizer
    # Two texts of different lengths, so that padding takes part.
    mask = (torch.arange(7) < torch.tensor([[7], [4]])).long()
    body = (torch.arange(7) % tokenizer.vocab_size).repeat(2, 1)
    ids = torch.where(mask.bool(), body, tokenizer.pad_id)
    free = {0: "batch", 1: "sequence"}
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings(), _reading(encoder, format):
            # Tracing warns of what comparing vectors checks. The exporter warns of its age: the
            # newer exporter took 5 to 9 seconds a model of two layers where this takes 0.2, needs
            # onnxscript, and wrote files of twice as many operators, with the same vectors.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                WholeEncoder(encoder),
                (ids, mask),
                str(path),
                input_names=[IDS, MASK],
                output_names=[TOKENS, VECTORS],
                dynamic_axes={IDS: free, MASK: free, TOKENS: free, VECTORS: {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0][:300].rstrip(".")
        raise UserError(
            f"The encoder (pooling {encoder.settings.pooling}, model type "
            f"{encoder.config.model_type}) cannot be written as an ONNX graph: {reason}. Leave "
            "--onnx and --openvino out."
        ) from error
    finally:
        encoder.train(was_training)


def _reading(encoder: Encoder, format: str | None) -> AbstractContextManager[Any]:
    """The context in which a forward for a format runs, for any number of texts."""
    settings = encoder.settings.adapters
    if format is None or settings is None:
        return nullcontext()
    adapters, setup = library(), FORMATS[format]
    if settings.fusion is not None:
        setup = adapters.Fuse(*fusion_code(settings, format).split(","))
    return adapters.AdapterSetup(setup)
