"""Adapters of the AdapterHub library in a frozen backbone, one for each task format.

Shapes: ``U`` texts, ``P`` vectors of texts or of their sentences, ``D`` width, ``F`` bytes of a
fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.adapters.adapter_choice import Choice, checkpoint_layers
from sciembed_train.encoder.adapters.adapter_files import fingerprint, load_adapter, save_adapter
from sciembed_train.encoder.adapters.adapter_settings import (
    ADAPTERS_PLACE,
    FUSION_PLACE,
    AdapterSettings,
    configuration,
    library,
    one_forward,
)
from sciembed_train.encoder.adapters.fusion import add_fusions, fusion_code, save_fusion
from sciembed_train.encoder.format_reader import BASE_PLACE, FormatReader
from sciembed_train.encoder.microbatch.micro_batches import (
    MicroBatch,
    MicroBatches,
    plan_micro_batches,
    plan_micro_batches_by_format,
)
from sciembed_train.encoder.unpadded.family import RunEnd
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS


class FormatAdapters(FormatReader):
    """Runs the adapters in a frozen backbone, one for each format; it holds no weights itself.

    Puts new adapters into the backbone and freezes the rest of it.

    Args:
        backbone: in fp32, without adapters.
        settings: which adapters.
        base: folder or hub name of the backbone, for messages and records.
        held: the adapters and fusions stored with the backbone, to begin with;
            ``settings.start`` overrides them.

    Attributes:
        fingerprint: of the frozen backbone's weights (`fingerprint`).
        tensor_names: of the tensors that are new in the backbone's state.
        untrained: formats whose adapters are new.
        mixes: whether one unpadded forward may have texts of several formats.

    Raises:
        UserError: the library is absent, or the configuration or the backbone is not one it runs;
            or a trained adapter or fusion does not fit.
    """

    freezes_backbone = True
    export_layout = "adapters"
    backbone_place = BASE_PLACE

    def __init__(
        self,
        backbone: Any,
        settings: AdapterSettings,
        base: str,
        held: AdapterSettings | None = None,
    ) -> None:
        super().__init__(base)
        config = configuration(settings)
        self.settings, self.names = settings, settings.formats
        self.fingerprint, self.tensor_names = fingerprint(backbone.state_dict()), frozenset[str]()
        start = {**(held.start if held else {}), **settings.start}
        fusions = {**(held.fusion_start if held else {}), **settings.fusion_start}
        self.tensor_names = self._install(backbone, config, start, fusions)
        self.untrained = tuple(name for name in settings.adapted if name not in start)
        self.mixes = one_forward(config)
        if not self.mixes:
            self.why_not_unpadded = (
                f"adapters {settings.config} do not work on each token by itself"
            )
        elif getattr(backbone, "adapter_interface", None) is not None:
            self.why_not_unpadded = (
                f"the library adapters reaches into the own forward of a model of type "
                f"{backbone.config.model_type!r}"
            )

    def _install(
        self, backbone: Any, config: Any, start: Mapping[str, str], fusion_start: Mapping[str, str]
    ) -> frozenset[str]:
        """Put adapters and fusions into the backbone; the names of the tensors that are new in it.

        Args:
            backbone: in fp32, without adapters.
            config: the library's configuration of each adapter.
            start: folder of a trained adapter, by format; the others are new.
            fusion_start: folder of a trained fusion, by format; the others are new.
        """
        adapters, settings = library(), self.settings
        backbone.requires_grad_(False)
        try:
            original_names = set(backbone.state_dict())
            adapters.init(backbone)
            names_before = set(backbone.state_dict())
            self._check_unchanged(backbone, names_before - original_names)
            for name in settings.adapted:
                if name in start:
                    code = FORMATS[name]
                    load_adapter(backbone, code, start[name], config, self.fingerprint)
                else:
                    backbone.add_adapter(FORMATS[name], config)
            if settings.fusion is not None:
                backbone.requires_grad_(False)
                add_fusions(backbone, settings, fusion_start, self.fingerprint)
        except UserError:
            raise  # of a trained adapter; it names the folder
        except (ValueError, KeyError, AttributeError, AssertionError) as error:
            raise UserError(
                f"{self.model}: the library adapters cannot put {settings.config} into a model of "
                f"type {backbone.config.model_type!r} ({error})."
            ) from error
        return frozenset(backbone.state_dict()) - names_before

    def _check_unchanged(self, backbone: Any, added: set[str]) -> None:
        """See that the library only makes room for adapters; ``added`` are names of tensors.

        Raises:
            UserError: the backbone computes something else now.
        """
        # adapters 1.3 gives linear layers without a bias a random one (ModernBERT's Wqkv).
        changed = sorted(name for name in added if self.is_base(name))
        if changed:
            raise UserError(
                f"{self.model}: the library adapters adds {changed[0]} to a model of type "
                f"{backbone.config.model_type!r}, with random values, so that it computes "
                "something else. Train it with encoder.lora, or put adapters into another backbone."
            )

    def check_trained(self) -> None:
        """See that what is to be fused was trained.

        Raises:
            UserError: some adapters are new.
        """
        if self.settings.fusion is not None and self.untrained:
            raise UserError(
                f"encoder.adapters.fusion chooses among trained adapters, and there is none for "
                f"{', '.join(self.untrained)}: {self.model} holds none, and encoder.adapters.start "
                "names none. Name its folder there, or train it first."
            )

    def index_of(self, name: str) -> int:
        """See `FormatReader`.

        Raises:
            UserError: there is no adapter for it.
        """
        if name not in self.names:
            raise UserError(
                f"{self.model}: has no adapter for {name!r}, only for {', '.join(self.names)}."
            )
        return list(FORMATS).index(name)

    def prepare_rows(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None
    ) -> tuple[TokenRows, None]:
        """The same rows; `plan` checks the formats."""
        return rows, None

    def plan(
        self,
        lengths: np.ndarray,
        formats: Int[Tensor, " U"] | None,
        budget: int,
        padded: bool,
    ) -> MicroBatches:
        """How texts are split into micro-batches, each with its formats in order (see
        `plan_micro_batches`).

        Args:
            lengths: tokens of each text.
            formats: the format of each, as an index into `input_format.FORMATS`; None where
                there is one adapter, which then reads all.
            budget: most tokens of a micro-batch.
            padded: count slots, not tokens.

        Raises:
            UserError: there are several adapters, and no formats.
            ValueError: a text's format has no adapter.
        """
        places = self._places()
        if formats is None:
            if len(places) > 1:
                raise UserError(
                    f"{self.model}: has adapters for {', '.join(self.names)}; name the "
                    "format of each text (--format-token). To compare sentences, use a model of "
                    "one format, or one that reads all texts in the same way."
                )
            format_of_row = np.full(len(lengths), places[0])
        else:
            format_of_row = formats.numpy()
        if len(format_of_row) != len(lengths) or not np.isin(format_of_row, places).all():
            raise ValueError(
                f"{len(lengths)} texts are read by formats {np.unique(format_of_row).tolist()} "
                f"({len(format_of_row)} given); there are adapters for {places}"
            )
        if self._together(padded):
            return plan_micro_batches(lengths, budget, padded).by_format(format_of_row)
        return plan_micro_batches_by_format(lengths, format_of_row, budget, padded)

    def _together(self, padded: bool) -> bool:
        """Whether texts of several formats share a forward."""
        return self.mixes and not (padded and self.settings.fusion is not None)

    def _places(self) -> list[int]:
        return sorted(list(FORMATS).index(name) for name in self.settings.formats)

    def _reader(self, place: int) -> str:
        """The code of the adapter or fusion that reads a format."""
        name = list(FORMATS)[place]
        return FORMATS[name] if self.settings.fusion is None else fusion_code(self.settings, name)

    def choose(
        self, formats: Sequence[int], lengths: Sequence[int], padded: bool = False
    ) -> Choice:
        """The choice for a micro-batch.

        Args:
            formats: the format of each text, as its place in `input_format.FORMATS`; equal ones are
                neighbours, in rising order.
            lengths: tokens of each text.
            padded: whether it is for a padded forward.

        Raises:
            ValueError: there is no adapter for a format, or they are out of order, or the
                adapters cannot share a forward.
        """
        places = self._places()
        if list(formats) != sorted(formats) or not set(formats) <= set(places):
            raise ValueError(
                f"a micro-batch has texts of formats {list(formats)}; "
                f"expected rising ones of {places}"
            )
        if not self._together(padded):
            if len(set(formats)) > 1:
                raise ValueError(f"adapters {self.settings.config} read one format in a forward")
            places = [formats[0]]
        pairs = list(zip(formats, lengths, strict=True))
        return Choice(
            tuple(self._reader(place) for place in places),
            tuple(sum(f == place for f in formats) for place in places),
            tuple(sum(n for f, n in pairs if f == place) for place in places),
        )

    def layer_end(self, micro_batch: MicroBatch) -> RunEnd | None:
        """See `FormatReader`."""
        if micro_batch.formats is None:
            return None
        return self.choose(micro_batch.formats, micro_batch.sizes).unpadded

    def padded_context(self, micro_batch: MicroBatch) -> AbstractContextManager[Any]:
        """See `FormatReader`."""
        if micro_batch.formats is None:
            return nullcontext()
        return self.choose(micro_batch.formats, micro_batch.sizes, padded=True).padded()

    def enable_gradient_checkpointing(self, backbone: Any) -> None:
        """See `FormatReader`."""
        checkpoint_layers(backbone)

    def reach_trained(
        self, backbone: Any, vectors: Float[Tensor, "P D"], padded: bool
    ) -> Float[Tensor, "P D"]:
        """See `FormatReader`: every backward pass reaches the same parameters, as DDP expects."""
        if self._together(padded) or not vectors.requires_grad:
            return vectors
        trained = [p for p in backbone.parameters() if p.requires_grad]
        return vectors + sum(p.flatten()[:0].sum() for p in trained)

    def keeps_in_state(self, name: str) -> bool:
        """See `FormatReader`: the adapters' own, which are a few megabytes."""
        return name in self.tensor_names

    def is_base(self, name: str) -> bool:
        """Whether a tensor of the backbone's state belongs to the original frozen model."""
        # The library gives the word embeddings a second name.
        return name not in self.tensor_names and not name.startswith("prompt_tuning.")

    def save(self, backbone: Any, model: Any, place: Path, folder: Path) -> dict[str, Any]:
        """Write the frozen backbone, and a folder of AdapterHub's for each adapter."""
        from transformers import PreTrainedModel

        state = {k: v for k, v in backbone.state_dict().items() if self.is_base(k)}
        # The library's own `save_pretrained` would write the adapters into the same file.
        PreTrainedModel.save_pretrained(backbone, str(place), state_dict=state)
        # A folder's path tells others nothing, but reveals something about the machine.
        name = Path(self.model).name if Path(self.model).expanduser().exists() else self.model
        for format_name in self.settings.adapted:
            subfolder = folder / ADAPTERS_PLACE / FORMATS[format_name]
            save_adapter(backbone, FORMATS[format_name], subfolder, name, self.fingerprint)
        if self.settings.fusion is not None:
            for format_name in self.names:
                subfolder = folder / FUSION_PLACE / FORMATS[format_name]
                save_fusion(backbone, self.settings, format_name, subfolder, name, self.fingerprint)
        return {"adapters": self.settings.metadata()}

    def checkpoint_record(self) -> dict[str, Any]:
        """The frozen backbone and its weights' hash."""
        return {"base": self.model, "base_fingerprint": self.fingerprint}

    # Besides the trained weights, a state records the backbone they belong to.

    def get_extra_state(self) -> Int[Tensor, " F"]:
        """What identifies the frozen backbone; a tensor, as everything else in a state is."""
        return torch.tensor(list(bytes.fromhex(self.fingerprint)), dtype=torch.uint8)

    def set_extra_state(self, state: Int[Tensor, " F"]) -> None:
        """See that a state is one of adapters to this backbone.

        Raises:
            UserError: it is of adapters to another one.
        """
        if bytes(state.tolist()).hex() != self.fingerprint:
            raise UserError(
                f"The adapters were trained in a backbone whose weights are other ones than those "
                f"of {self.model}. Give the backbone that they were trained in."
            )


def adapters_of(encoder: Any) -> FormatAdapters:
    """The adapters of an encoder that has them."""
    assert isinstance(encoder.format_reader, FormatAdapters)
    return encoder.format_reader
