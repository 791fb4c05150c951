"""The encoder: token rows in, one embedding per text or per sentence out.

Shapes: ``T`` tokens, ``U`` texts, ``N`` texts of a list, ``S`` sentences of all texts, ``D`` width,
``K`` tokens whose states are wanted, ``J`` those of one micro-batch, ``H`` width of a state, ``V``
words, ``P`` vectors of one micro-batch, of its texts or of their sentences.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.adapters import format_adapters
from sciembed_train.encoder.adapters.adapter_choice import checkpoint_layers
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.adapters.control_codes import add_codes, code_ids, with_codes
from sciembed_train.encoder.heads import masked_lm_head
from sciembed_train.encoder.io import loading
from sciembed_train.encoder.io.encoder_folder import save_encoder
from sciembed_train.encoder.io.opening import open_parts
from sciembed_train.encoder.layer_mix import new_mix
from sciembed_train.encoder.microbatch.micro_batch_forward import (
    dummy_forwards,
    padded_forward,
    unpadded_forward,
)
from sciembed_train.encoder.microbatch.micro_batches import encode_micro_batches, plan_micro_batches
from sciembed_train.encoder.settings import EncoderSettings, position_limit
from sciembed_train.encoder.unpadded import attention
from sciembed_train.encoder.unpadded.bert import why_not_unpadded
from sciembed_train.encoder.unpadded.onednn_linear import faster_linear
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS, InputFormat
from sciembed_train.text.sentence_spans import truncate_sentences
from sciembed_train.text.tokenizer import TextTokenizer


class Encoder(nn.Module):
    """Backbone and pooling: `TokenRows` to embeddings; where wanted, a head that predicts tokens.

    Every parameter that the loss reaches gets a gradient; the pooler, which no embedding here
    passes through, is frozen.

    Args:
        settings: ``settings.backbone`` is loaded unless a backbone is given.
        backbone: a ready backbone, with ``tokenizer`` (for `checkpoint`).
        tokenizer: the backbone's tokenizer.
        original_dropouts: the given backbone's own dropouts where ``settings.dropout`` replaced
            them.
        masked_lm: load the backbone's masked-language-modelling head as well, or make a new one
            where its folder has none; ``auto`` loads it where there is one.
        head: the given backbone's head.

    Attributes:
        mix: with pooling ``mix`` the weights of the layers before the softmax, [1, layers + 1],
            the embeddings' first; else None. From the backbone's folder where it has them.
        original_dropouts: the backbone's own dropouts where other ones are trained with; put back
            on saving.

    Raises:
        UserError: the backbone cannot be loaded safely and wholly, or does not fit the settings;
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
        head: masked_lm_head.MaskedLMHead | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.original_dropouts = dict(original_dropouts or {})
        metadata: loading.ModelMetadata | None = None
        if backbone is None or tokenizer is None:
            backbone, head, tokenizer, self.original_dropouts, metadata = open_parts(
                settings, masked_lm
            )
        self.backbone: Any = backbone
        self.head = head
        self.tokenizer = tokenizer
        if settings.control_codes:
            self.tokenizer = add_codes(self.backbone, tokenizer)
            self._codes = code_ids(self.tokenizer)
        self.mix: nn.Parameter | None = None
        if settings.pooling == "mix":
            self.mix = new_mix(self.backbone.config, settings, metadata and metadata.mix)
        self._check()
        self.adapters: format_adapters.FormatAdapters | None = None
        reason = why_not_unpadded(backbone)
        if settings.adapters is not None:
            self.adapters = self._adapt(settings.adapters, metadata and metadata.adapters)
            reason = reason or self.adapters.why_not_unpadded
        if settings.forward == "unpadded" and reason is not None:
            raise UserError(
                f"encoder.forward is unpadded, but {settings.backbone} cannot run so: {reason}. "
                "Use auto or padded."
            )
        self.unpadded = reason is None and settings.forward != "padded"
        if settings.attention != "auto" and not self.unpadded:
            raise UserError(
                f"encoder.attention is {settings.attention}, but {settings.backbone} runs padded, "
                f"where the backbone attends by itself: {reason}. Use auto."
            )
        if settings.compile and not self.unpadded:
            raise UserError(
                f"encoder.compile is true, but {settings.backbone} runs padded, which is never "
                f"compiled: {reason}. Set it to false."
            )
        # Where weights are shared out among ranks: most micro-batches that any of them has.
        self.synced_forward_count: Callable[[int], int] | None = None
        # A loss on last hidden states leaves the pooler without gradient, and DDP waits for it.
        # Frozen, not removed: the export keeps the backbone's parameter names.
        if getattr(backbone, "pooler", None) is not None:
            self.backbone.pooler.requires_grad_(False)
        if settings.gradient_checkpointing and not self.unpadded and self.adapters is not None:
            checkpoint_layers(self.backbone)
        elif settings.gradient_checkpointing and not self.unpadded:
            # transformers 5 has given it another name, and warns of the old one.
            model = self.backbone
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        # transformers loads in evaluation mode, and Lightning keeps the modes it finds: without
        # this, training would run without dropout.
        self.train()

    def _adapt(
        self, wanted: AdapterSettings, held: AdapterSettings | None
    ) -> format_adapters.FormatAdapters:
        if self.head is not None:
            raise UserError(
                "encoder.adapters freezes the backbone, which masked language modelling trains: "
                "set one of them to null or false."
            )
        made = format_adapters.FormatAdapters(self.backbone, wanted, self.settings.backbone, held)
        self.register_state_dict_post_hook(format_adapters.leave_base_out)
        self.register_load_state_dict_pre_hook(format_adapters.put_base_in)
        return made

    def _check(self) -> None:
        settings, config = self.settings, self.backbone.config
        limit = position_limit(config)
        if limit is not None and settings.max_length > limit:
            raise UserError(
                f"encoder.max_length is {settings.max_length}, but {settings.backbone} has "
                f"positions for {limit} tokens; set encoder.max_length to {limit} or less."
            )
        extra = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        if settings.max_length <= extra:
            raise UserError(
                f"encoder.max_length is {settings.max_length}, but the special tokens alone take "
                f"{extra}; use {extra + 1} or more."
            )
        table = self.backbone.get_input_embeddings().weight.shape[0]
        largest = max(self.tokenizer.hf.get_vocab().values())
        if largest >= table:
            raise UserError(
                f"{settings.backbone}: the tokenizer has ids up to {largest}, but the backbone has "
                f"embeddings for {table} tokens only (ids up to {table - 1}); they do not belong "
                "together. Use the backbone's own tokenizer."
            )

    @property
    def dim(self) -> int:
        """Width of an embedding, ``D``."""
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.get_input_embeddings().weight.device

    @property
    def max_tokens_per_forward(self) -> int:
        """Token budget of one micro-batch on the present device."""
        return self.settings.max_tokens_per_forward or default_max_tokens_per_forward(
            self.device, self.unpadded
        )

    def attention_on(self, kind: str, dtype: torch.dtype) -> str:
        """How a training here keeps texts apart: the setting, or what ``auto`` means.

        Args:
            kind: type of the device.
            dtype: of the matrix products.

        Raises:
            UserError: the setting does not run there.
        """
        name = self.settings.attention
        if not self.unpadded:
            return name
        own = self.backbone.encoder.layer[0].attention.self
        given = kind, dtype, own.dropout.p, own.attention_head_size
        if name == "auto":
            name = attention.preferred(*given)
            again = self.settings.gradient_checkpointing
            return "padded" if name == "nested" and again else name
        attention.check(name, *given)
        return name

    def compose(self, title: str | None, abstract: str | Sequence[str] | None) -> str:
        """One text of a paper, in this encoder's input format."""
        return self.settings.input_format.compose(title, abstract, self.tokenizer.sep_token)

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """Token ids of composed texts, with special tokens, at most ``max_length`` each."""
        return TokenRows.from_lists(self.tokenizer.rows(texts, self.settings.max_length))

    @property
    def reads_formats(self) -> bool:
        """Whether what a text is read for makes a difference."""
        return self.settings.control_codes or self.adapters is not None

    def forward(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None = None
    ) -> Float[Tensor, "U D"]:
        """The embedding of each text, in the order of ``rows``.

        Args:
            rows: texts with special tokens.
            formats: what each text is read for, as its place in `inputs.FORMATS`, where the
                encoder `reads_formats`; may be left out where it has one adapter. On the host.

        Raises:
            ValueError: there is no text, or one is longer than ``max_length``; or the encoder
                has no vector of a whole text (pooling ``sentences``); or formats are given to an
                encoder that knows none, or not given to one that does.
        """
        return self._encode(rows, self.max_tokens_per_forward, None, formats=formats)[0]

    def sentence_vectors(self, rows: TokenRows, sentences: Sentences) -> Float[Tensor, "S D"]:
        """The vector of each sentence in its text, text after text: the mean over its tokens.

        Of the last layer's states, whatever the pooling (Aspire, Mysore et al. 2022, section 3.3).
        Tokens of no sentence, such as the title's, are read and have no vector.

        Args:
            rows: as for `forward`.
            sentences: of these texts; a sentence's start counts from its text's first token.

        Raises:
            ValueError: as for `forward`, or a sentence is empty or reaches out of its text.
        """
        return self._encode(rows, self.max_tokens_per_forward, None, sentences=sentences)[0]

    def with_token_states(
        self, rows: TokenRows, positions: Int[Tensor, " K"]
    ) -> tuple[Float[Tensor, "U D"], Float[Tensor, "K H"]]:
        """The embedding of each text, and the last hidden states of some tokens.

        Both come from one pass and carry gradients, to every parameter that a state depends on
        even where there is no position: a rank may have none.

        Args:
            rows: as for `forward`.
            positions: of the tokens in ``rows.ids``, on the host; may be none.

        Raises:
            ValueError: as for `forward`, or a position is outside of ``rows.ids``.
        """
        vectors, states = self._encode(rows, self.max_tokens_per_forward, None, positions)
        assert states is not None
        return vectors, states

    def token_logits(self, states: Float[Tensor, "K H"]) -> Float[Tensor, "K V"]:
        """The head's scores of every word of the vocabulary, for states of `with_token_states`.

        Raises:
            ValueError: the encoder was made without ``masked_lm``.
        """
        if self.head is None:
            raise ValueError("this encoder has no masked-language-modelling head")
        with faster_linear(states.device):
            return self.head(states)

    def _encode(
        self,
        rows: TokenRows,
        budget: int,
        done: Callable[[int], None] | None,
        positions: Int[Tensor, " K"] | None = None,
        sentences: Sentences | None = None,
        formats: Int[Tensor, " U"] | None = None,
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "K H"] | None]:
        if formats is not None and not self.reads_formats:
            raise ValueError("formats are given, and this encoder reads every text alike")
        if formats is None and self.settings.control_codes:
            raise UserError(
                f"{self.settings.backbone}: reads each text for a format, which was not given "
                "(--format-token). Sentences are compared by a model that reads all texts alike."
            )
        if sentences is None and self.settings.pooling == "sentences":
            raise ValueError(
                "this encoder has a vector for each sentence and none of a whole text (pooling "
                "sentences); call sentence_vectors or encode_sentences"
            )
        lengths = rows.lengths.numpy()
        if not len(lengths):
            raise ValueError("there is no text to encode")
        if lengths.min() < 1 or lengths.max() > self.settings.max_length:
            raise ValueError(
                f"texts have {lengths.min()} to {lengths.max()} tokens; expected 1 to max_length "
                f"{self.settings.max_length}"
            )
        if self.settings.control_codes and formats is not None:
            ends = len(self.tokenizer.prefix), len(self.tokenizer.suffix)
            given = rows, formats, self._codes, *ends, self.settings.max_length
            rows, positions = with_codes(*given)
            lengths = rows.lengths.numpy()
        if self.adapters is None:
            micro_batches = plan_micro_batches(lengths, budget, padded=not self.unpadded)
        else:
            micro_batches = self.adapters.plan(lengths, formats, budget, padded=not self.unpadded)
        encode = partial(unpadded_forward if self.unpadded else padded_forward, self)
        missing = 0
        if self.synced_forward_count is not None and self.training:
            missing = self.synced_forward_count(len(micro_batches.ends)) - len(micro_batches.ends)
        found = encode_micro_batches(rows, micro_batches, encode, done, positions, sentences)
        if missing:
            found = dummy_forwards(encode, missing, rows, found)
        if self.adapters is not None:
            vectors = self.adapters.reaching(self.backbone, found[0], padded=not self.unpadded)
            found = vectors, found[1]
        if self.settings.control_codes:
            assert found[1] is not None
            return found[1], None
        return found

    @contextlib.contextmanager
    def inferring(self, precision: str) -> Iterator[None]:
        """Evaluation mode without gradients, in the named precision."""
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        was_training = self.training
        self.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, kinds[precision], enabled=precision != "fp32"),
            ):
                yield
        finally:
            self.train(was_training)

    def place_of(self, format: str) -> int:
        """The number by which rows name a format (`inputs.FORMATS`).

        Raises:
            UserError: there is no such format, or no adapter for it.
        """
        if not self.reads_formats:
            raise UserError(
                f"{self.settings.backbone}: reads every text alike, so no format can be named "
                f"({format!r})."
            )
        if format not in FORMATS:
            raise UserError(f"{format!r} is no format; there are {', '.join(FORMATS)}.")
        return list(FORMATS).index(format) if self.adapters is None else self.adapters.place(format)

    def encode_rows(
        self,
        rows: TokenRows,
        batch_tokens: int | None = None,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        progress: Callable[[int], None] | None = None,
        format: str | None = None,
    ) -> Float[Tensor, "N D"]:
        """Embeddings without gradients, fp32 on the host, in the order of ``rows``.

        Args:
            rows: texts on any device.
            batch_tokens: token budget of a micro-batch; None takes ``max_tokens_per_forward``.
            precision: of the matrix products.
            progress: called with the number of texts just finished.
            format: whose adapter reads them, as `inputs.FORMATS` names it; may be left out where
                there is only one, or none.

        Raises:
            UserError: there is no adapter for it.
        """
        if not len(rows):
            return torch.empty(0, self.dim)
        formats = None
        if format is not None:
            formats = torch.full((len(rows),), self.place_of(format))
        with self.inferring(precision):
            vectors, _ = self._encode(
                rows.to(self.device),
                batch_tokens or self.max_tokens_per_forward,
                progress,
                formats=formats,
            )
        # A copy made outside inference mode is an ordinary tensor.
        return vectors.float().cpu().clone()

    def encode_texts(
        self,
        texts: Sequence[str],
        batch_tokens: int | None = None,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        progress: Callable[[int], None] | None = None,
        format: str | None = None,
    ) -> Float[Tensor, "N D"]:
        """Embeddings of composed texts (`compose`), as `encode_rows`.

        All texts are sorted by length together, so give many at once.
        """
        ids, lengths = [], []
        for start in range(0, len(texts), 4096):  # lists of Python integers are bulky
            part = self.rows(texts[start : start + 4096])
            ids.append(part.ids.numpy().astype(np.int32))
            lengths.append(part.lengths)
        if not lengths:
            return torch.empty(0, self.dim)
        rows = TokenRows(torch.from_numpy(np.concatenate(ids)).long(), torch.cat(lengths))
        return self.encode_rows(rows, batch_tokens, precision, progress, format)

    def sentence_rows(
        self, papers: Sequence[tuple[str | None, Sequence[str]]]
    ) -> tuple[TokenRows, Sentences]:
        """Token ids of some papers, and where the sentences of their abstracts stand in them.

        Args:
            papers: each one's title and sentences.

        Raises:
            UserError: a paper has neither a title nor a sentence.
        """
        made = [
            self.settings.input_format.compose_sentences(title, sentences, self.tokenizer.sep_token)
            for title, sentences in papers
        ]
        bodies = self.tokenizer.encode_sentences(*zip(*made, strict=True))
        for paper, body in zip(papers, bodies, strict=True):
            if not body.ids:
                raise UserError(f"A paper has neither title nor abstract to encode: {paper!r}.")
        prefix, suffix = self.tokenizer.prefix, self.tokenizer.suffix
        room = self.settings.max_length - len(prefix) - len(suffix)
        starts, lengths, counts = truncate_sentences(
            np.array([start for body in bodies for start in body.starts], np.int64),
            np.array([length for body in bodies for length in body.lengths], np.int64),
            np.array([len(body.starts) for body in bodies]),
            np.array([len(body.ids) for body in bodies]),
            room,
        )
        rows = TokenRows.from_lists([[*prefix, *body.ids[:room], *suffix] for body in bodies])
        places = torch.from_numpy(starts + len(prefix))
        return rows, Sentences(places, torch.from_numpy(lengths), torch.from_numpy(counts))

    def encode_sentences(
        self,
        papers: Sequence[tuple[str | None, Sequence[str]]],
        batch_tokens: int | None = None,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        progress: Callable[[int], None] | None = None,
    ) -> list[Float[Tensor, "S D"]]:
        """The vectors of each paper's sentences, without gradients, fp32 on the host.

        A paper that is a title alone has one vector, of all its tokens. Sentences beyond
        ``max_length`` have none, and the last may be shortened (`truncate_sentences`); nor has
        one without a token of its own.

        Args:
            papers: each one's title and the sentences of its abstract.
            batch_tokens: as for `encode_rows`.
            precision: of the matrix products.
            progress: called with the number of papers just finished.

        Raises:
            UserError: a paper has neither a title nor a sentence.
        """
        found: list[Tensor] = []
        for start in range(0, len(papers), 4096):
            rows, sentences = self.sentence_rows(papers[start : start + 4096])
            with self.inferring(precision):
                vectors, _ = self._encode(
                    rows.to(self.device),
                    batch_tokens or self.max_tokens_per_forward,
                    progress,
                    sentences=sentences,
                )
            found += vectors.float().cpu().clone().split(sentences.counts.tolist())
        return found

    def backbone_config(self) -> dict[str, Any]:
        """The backbone's configuration with its own dropouts, as plain values."""
        values = json.loads(self.backbone.config.to_json_string(use_diff=False))
        for key in ("_name_or_path", "_attn_implementation_internal"):
            values.pop(key, None)
        return {**values, **self.original_dropouts}

    def save(self, folder: str | Path, record: dict[str, Any] | None = None) -> None:
        """Write a Hugging Face folder: backbone, tokenizer, ``sciembed.json`` (`save_encoder`).

        Args:
            folder: made where it is missing; files of the same names are replaced.
            record: more entries of ``sciembed.json`` (method, training data, seed, ...).

        Raises:
            UserError: the encoder mixes layers or has adapters, and the folder holds a plain
                model already.
        """
        save_encoder(self, Path(folder), record or {})

    @classmethod
    def load(
        cls,
        folder: str | Path,
        pooling: Literal["cls", "mean", "mix", "sentences"] | None = None,
        max_length: int | None = None,
        input_format: InputFormat | None = None,
        masked_lm: bool | Literal["auto"] = False,
        **settings: Any,
    ) -> Encoder:
        """The encoder of a folder or hub name, in evaluation mode, with what it records of itself.

        ``sciembed.json`` comes first, then a sentence-transformers layout, then the defaults:
        CLS, at most 512 tokens, title and abstract joined by the separator token.

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
        found = loading.find_folder(folder)
        metadata = loading.read_metadata(found, pooling)
        for note in metadata.notes:
            loading.log.warning(note)
        if pooling == "mix" and metadata.mix is None:
            made = "equal" if settings.get("mix_init", "uniform") == "uniform" else "random"
            loading.log.warning(
                f"{folder}: has no learned mix of its layers, so one of {made} weights is made."
            )
        values: dict[str, Any] = {
            "pooling": pooling or metadata.pooling or "cls",
            "input_format": input_format or metadata.input_format or InputFormat(),
            "adapters": metadata.adapters and metadata.adapters.without_start(),
            "control_codes": metadata.control_codes,
            **settings,
        }
        config = loading.checked_config(metadata.backbone)
        limit = position_limit(config) or 512
        values["max_length"] = max_length or metadata.max_length or min(512, limit)
        settings_found = replace(EncoderSettings(str(folder)), **values)
        return cls(settings_found, masked_lm=masked_lm).eval()


def default_max_tokens_per_forward(device: torch.device, unpadded: bool) -> int:
    """The token budget of a micro-batch where the settings name none.

    CPU, unpadded: training steps of 48 real texts (11,625 tokens, MiniLM 6 x 384) took 10.6, 9.7,
    9.6, 9.6 and 9.9 CPU-seconds in fp32 at 512, 1024, 2048, 4096 and 16384 tokens, and 6.5, 6.1,
    6.0, 5.8 and 5.9 with bf16 autocast. Under autocast many small micro-batches also sum the
    weights' gradients in bf16: 1.4 % off the fp32 gradient at 512 tokens, 1.2 % at 4096.
    The numbers for other devices and for padded micro-batches are not measured.
    """
    if device.type == "cpu":
        return 4096
    return 65536 if unpadded else 32768
