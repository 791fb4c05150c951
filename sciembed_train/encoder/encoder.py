"""The encoder: token rows in, one embedding per text or per sentence out.

Shapes: ``U`` texts, ``S`` sentences of all texts, ``D`` width, ``K`` tokens whose states are
wanted, ``H`` width of a state, ``V`` words, ``P`` vectors of texts or of their sentences.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.adapters.lora import merge_lora
from sciembed_train.encoder.heads.masked_lm_head import MaskedLMHead
from sciembed_train.encoder.heads.projection import new_projection
from sciembed_train.encoder.io.encoder_folder import save_encoder
from sciembed_train.encoder.io.opening import assemble, open_parts, recorded_settings
from sciembed_train.encoder.microbatch.micro_batch_forward import encode_rows
from sciembed_train.encoder.parts import EncoderParts, rename_for_state, rename_from_state
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.encoder.text_interface import TextInterface
from sciembed_train.encoder.unpadded.forward import attention_on, runs_unpadded
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


class Encoder(TextInterface):
    """Backbone and pooling: `TokenRows` to embeddings; optionally a head that predicts tokens.

    Every parameter that the loss reaches gets a gradient; the pooler, which no embedding here
    passes through, is frozen.

    Args:
        settings: ``settings.backbone`` is loaded unless a backbone is given.
        backbone: a loaded backbone, such as a checkpoint's; given with ``tokenizer``.
        tokenizer: the backbone's tokenizer.
        original_dropouts: the backbone's own dropouts where ``settings.dropout`` replaced them.
        masked_lm: load the backbone's masked-language-modelling head as well, or make a new one
            where its folder has none; ``auto`` loads it where there is one.
        head: the given backbone's head.

    Attributes:
        pooling: makes the vectors from the backbone's states, and holds its own weights.
        format_reader: how the format of a text is taken into account: not at all, by control
            codes, or by adapters.
        projection: a linear layer after the pooling.
        unpadded: whether texts are encoded end to end, without padding.
        max_forwards_over_ranks: set where the weights are sharded among ranks: maps this rank's
            number of forwards to the largest of any rank.

    Raises:
        UserError: the backbone cannot be loaded safely and completely or does not fit the settings;
            or ``masked_lm`` is asked of a tokenizer without a mask token.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        backbone: nn.Module | None = None,
        tokenizer: TextTokenizer | None = None,
        original_dropouts: dict[str, float] | None = None,
        *,
        masked_lm: bool | Literal["auto"] = False,
        head: MaskedLMHead | None = None,
    ) -> None:
        super().__init__()
        if backbone is None or tokenizer is None:
            parts = open_parts(settings, masked_lm)
        else:
            parts = assemble(settings, backbone, tokenizer, head, original_dropouts)
        self.settings, self.original_dropouts = settings, parts.original_dropouts
        self.tokenizer = parts.tokenizer
        # This sets the order of the parameters, which a checkpoint's optimiser relies on.
        self.pooling = parts.pooling
        self.backbone: Any = parts.backbone
        self.head = parts.head
        self.projection = parts.projection
        self.format_reader = parts.format_reader
        self.unpadded = runs_unpadded(settings, self.backbone, self.format_reader.why_not_unpadded)
        self.max_forwards_over_ranks: Callable[[int], int] | None = None
        self.register_state_dict_post_hook(rename_for_state)
        self.register_load_state_dict_pre_hook(rename_from_state)
        # A loss on last hidden states leaves the pooler without gradient, and DDP waits for it.
        # Frozen, not removed: the export keeps the backbone's parameter names.
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler.requires_grad_(False)
        if settings.gradient_checkpointing and not self.unpadded:
            self.format_reader.enable_gradient_checkpointing(self.backbone)
        # transformers loads in evaluation mode, and Lightning keeps the modes it finds: without
        # this, training would run without dropout.
        self.train()

    @property
    def parts(self) -> EncoderParts:
        """What it is made of, for functions that run, save or describe it."""
        return EncoderParts(
            self.settings,
            self.backbone,
            self.tokenizer,
            self.pooling,
            self.format_reader,
            self.head,
            self.original_dropouts,
            self.projection,
        )

    def forward(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None = None
    ) -> Float[Tensor, "U D"]:
        """The embedding of each text, in the order of ``rows``.

        Args:
            rows: texts with special tokens.
            formats: the format of each text, as an index into `input_format.FORMATS`, if the
                `format_reader` distinguishes formats; optional if it has one adapter. On the
                host.

        Raises:
            ValueError: there is no text, or one is longer than ``max_length``; or the encoder
                has no vector of a whole text (pooling ``sentences``); or formats are given to an
                encoder that takes none, or not given to one that needs them.
        """
        return self.encode_tokens(rows, formats=formats)[0]

    def sentence_vectors(self, rows: TokenRows, sentences: Sentences) -> Float[Tensor, "S D"]:
        """The vector of each sentence in its text, text after text: the mean over its tokens.

        Of the last layer's states, whatever the pooling (Aspire, Mysore et al. 2022, section 3.3).
        Tokens outside sentences, such as the title's, are encoded but have no vector.

        Args:
            rows: as for `forward`.
            sentences: of these texts; a sentence's start counts from its text's first token.

        Raises:
            ValueError: as for `forward`, or a sentence is empty or reaches beyond its text.
        """
        return self.encode_tokens(rows, sentences=sentences)[0]

    def with_token_states(
        self, rows: TokenRows, positions: Int[Tensor, " K"]
    ) -> tuple[Float[Tensor, "U D"], Float[Tensor, "K H"]]:
        """The embedding of each text, and the last hidden states of chosen tokens.

        Both come from one pass and carry gradients, to every parameter that a state depends on
        even where there is no position: a rank may have none.

        Args:
            rows: as for `forward`.
            positions: of the tokens in ``rows.ids``, on the host; may be none.

        Raises:
            ValueError: as for `forward`, or a position is outside of ``rows.ids``.
        """
        vectors, states = self.encode_tokens(rows, positions=positions)
        assert states is not None
        return vectors, states

    def token_logits(self, states: Float[Tensor, "K H"]) -> Float[Tensor, "K V"]:
        """The head's scores of every word of the vocabulary, for states of `with_token_states`.

        Raises:
            ValueError: the encoder was made without ``masked_lm``.
        """
        if self.head is None:
            raise ValueError("this encoder has no masked-language-modelling head")
        return self.head(states)

    def encode_probe(self, rows: TokenRows) -> Float[Tensor, "U D"]:
        """One vector of each text by the code path of training, for measurements.

        A text counts as one sentence if the encoder has vectors of sentences, and has the first
        format if it distinguishes formats.
        """
        if self.pooling.per_sentence:
            ones = torch.ones_like(rows.lengths)
            return self.sentence_vectors(rows, Sentences(ones * 0, rows.lengths, ones))
        names = self.format_reader.names
        formats = None
        if names:
            formats = torch.full_like(rows.lengths, self.format_reader.index_of(names[0]))
        return self(rows, formats)

    def encode_tokens(
        self,
        rows: TokenRows,
        budget: int | None = None,
        progress: Callable[[int], None] | None = None,
        positions: Int[Tensor, " K"] | None = None,
        sentences: Sentences | None = None,
        formats: Int[Tensor, " U"] | None = None,
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "K H"] | None]:
        """Vectors of the rows or of their sentences, and the last states of chosen tokens.

        Args:
            rows: as for `forward`.
            budget: most tokens of a micro-batch; None takes ``max_tokens_per_forward``.
            progress: called with the number of texts just finished.
            positions: as for `with_token_states`.
            sentences: as for `sentence_vectors`.
            formats: as for `forward`.
        """
        return encode_rows(
            self.parts,
            rows,
            budget or self.max_tokens_per_forward,
            self.unpadded,
            progress,
            positions,
            sentences,
            formats,
            self.max_forwards_over_ranks if self.training else None,
        )

    @property
    def config(self) -> Any:
        """See `TextInterface`."""
        return self.backbone.config

    @property
    def device(self) -> torch.device:
        """See `TextInterface`."""
        return self.backbone.get_input_embeddings().weight.device

    def weights(self) -> Iterator[tuple[str, Any]]:
        """See `TextInterface`."""
        for name, value in sorted(self.state_dict().items()):
            yield name, value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()

    def attention_on(self, kind: str, dtype: torch.dtype) -> str:
        """How training keeps texts apart: the setting, or what ``auto`` means (`attention_on`)."""
        if not self.unpadded:
            return self.settings.attention
        return attention_on(self.settings, self.backbone, kind, dtype)

    def backbone_config(self) -> dict[str, Any]:
        """See `TextInterface`."""
        values = json.loads(self.backbone.config.to_json_string(use_diff=False))
        for key in ("_name_or_path", "_attn_implementation_internal"):
            values.pop(key, None)
        return {**values, **self.original_dropouts}

    def save(self, folder: str | Path, record: dict[str, Any] | None = None) -> None:
        """Write a Hugging Face folder: backbone, tokenizer, ``sciembed.json`` (`save_encoder`)."""
        save_encoder(self.merged().parts, Path(folder), record or {})

    def merged(self) -> Encoder:
        """The encoder itself; with LoRA a copy, whose weights have the updates added."""
        if self.settings.lora is None:
            return self
        plain = copy.deepcopy(self)
        merge_lora(plain.backbone)
        plain.settings = replace(self.settings, lora=None)
        return plain

    def add_projection(self, dim: int) -> None:
        """Add a projection after the pooling unless there is one.

        Until it is trained, it gives the first ``dim`` numbers of a pooled vector unchanged.
        """
        if self.projection is None:
            self.settings = replace(self.settings, projection=dim)
            projection = new_projection(int(self.config.hidden_size), dim)
            self.projection = projection.to(self.device)

    def without_projection(self) -> Encoder:
        """An encoder of the same backbone without the projection.

        Its vectors are scaled where this one's are, which a projection of unit vectors allows.
        In evaluation mode; its weights are this encoder's, whose low-rank updates are merged.
        """
        parts = self.parts
        plain = Encoder(
            replace(self.settings, projection=None),
            parts.backbone,
            parts.tokenizer,
            parts.original_dropouts,
            head=parts.head,
        )
        return plain.to(self.device).eval()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        pooling: str | None = None,
        max_length: int | None = None,
        input_format: InputFormat | None = None,
        masked_lm: bool | Literal["auto"] = False,
        **settings: Any,
    ) -> Encoder:
        """The encoder of a folder or hub name, in evaluation mode, with its recorded settings.

        ``sciembed.json`` comes first, then a sentence-transformers layout, then the defaults:
        CLS (of a decoder the last token), at most 512 tokens, title and abstract joined by the
        separator token, behind the prompt of documents where the folder has one.

        Args:
            folder: an exported encoder, a sentence-transformers or plain Hugging Face folder.
            pooling: instead of the recorded one.
            max_length: instead of the recorded one.
            input_format: instead of the recorded one.
            masked_lm: as for `Encoder`.
            settings: other fields of `EncoderSettings`.

        Raises:
            UserError: as for `Encoder`.
        """
        recorded = recorded_settings(folder, pooling, max_length, input_format, **settings)
        return cls(recorded, masked_lm=masked_lm).eval()
