"""An encoder whose vectors a graph computes: no weights of torch are loaded.

Texts are composed, tokenised, cut and sorted as by `Encoder`.

Shapes: ``U`` texts, ``P`` vectors, ``D`` width, ``K`` tokens whose states are wanted, ``H`` width
of a state.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.adapters.control_codes import ControlCodes
from sciembed_train.encoder.backends.graph_files import FILES, Backend, graph_path, graphs_in
from sciembed_train.encoder.backends.runtimes import Graph, open_graph
from sciembed_train.encoder.format_reader import FormatReader
from sciembed_train.encoder.io.load_backbone import checked_config, load_tokenizer
from sciembed_train.encoder.io.model_metadata import ModelMetadata, read_metadata
from sciembed_train.encoder.io.opening import check_length, pooling_of, recorded_settings
from sciembed_train.encoder.microbatch.micro_batches import (
    MicroBatch,
    MicroBatches,
    encode_micro_batches,
    plan_micro_batches_by_format,
)
from sciembed_train.encoder.pooling.base import Pooling
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.encoder.text_interface import TextInterface
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder
from sciembed_train.safety.weights import WEIGHTS
from sciembed_train.text.input_format import FORMATS
from sciembed_train.text.tokenizer import TextTokenizer

READ = mmap.ACCESS_READ


class GraphFormats(FormatReader):
    """Reads each text by the graph of its format.

    Args:
        model: name of the encoder, for messages.
        names: the formats that have a graph.
    """

    def __init__(self, model: str, names: tuple[str, ...]) -> None:
        super().__init__(model)
        self.names = names

    def index_of(self, name: str) -> int:
        """See `FormatReader`."""
        if name not in self.names:
            raise UserError(
                f"{self.model}: has no graph for {name!r}, only for {', '.join(self.names)}."
            )
        return super().index_of(name)

    def prepare_rows(
        self, rows: TokenRows, formats: Int[Tensor, " U"] | None
    ) -> tuple[TokenRows, None]:
        """The same rows; `plan` checks the formats."""
        return rows, None

    def plan(
        self, lengths: np.ndarray, formats: Int[Tensor, " U"] | None, budget: int, padded: bool
    ) -> MicroBatches:
        """See `FormatReader`; no micro-batch has texts of two formats.

        Raises:
            UserError: there are several formats, and none is named.
        """
        if formats is None and len(self.names) > 1:
            raise UserError(
                f"{self.model}: has a graph for each of {', '.join(self.names)}; name the format "
                "of each text (--format-token)."
            )
        only_format = self.index_of(next(iter(self.names)))
        format_of_row = np.full(len(lengths), only_format) if formats is None else formats.numpy()
        return plan_micro_batches_by_format(lengths, format_of_row, budget, padded)


class GraphEncoder(TextInterface):
    """An encoder for embedding and evaluating, like `Encoder`, with the vectors of a graph.

    Args:
        settings: of the encoder.
        config: the backbone's configuration.
        tokenizer: the backbone's.
        pooling: describes the pooling inside the graph.
        format_reader: distinguishes the formats of texts.
        paths: the graph's file; with adapters one for each format.
        backend: what runs them.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        config: Any,
        tokenizer: TextTokenizer,
        pooling: Pooling,
        format_reader: FormatReader,
        paths: dict[str | None, Path],
        backend: Backend,
    ) -> None:
        super().__init__()
        self.settings, self.tokenizer, self.backend = settings, tokenizer, backend
        self.pooling, self.format_reader = pooling, format_reader
        self.unpadded = False
        self._config, self._paths = config, paths
        self._graphs: dict[str | None, Graph] = {}
        self.eval()
        self._graph(next(iter(paths)))  # a faulty graph raises now

    @classmethod
    def load(
        cls, name: str | Path, backend: Backend, max_length: int | None = None
    ) -> GraphEncoder:
        """The encoder of a folder or a hub name that has a graph.

        Args:
            name: the folder that holds ``onnx`` or ``openvino``.
            backend: which of them is run.
            max_length: most tokens of a text, instead of the recorded one.

        Raises:
            UserError: there is no such model, it has no such graph, or that cannot be opened.
        """
        pattern = f"{Path(FILES[backend]).stem}.*"  # not the other variants in a hub's folder
        others = (f"{backend}/{pattern}", f"{backend}/*/{pattern}")
        folder = find_folder(name, weights=False, others=others)
        metadata = read_metadata(folder)
        settings = recorded_settings(folder, max_length=max_length)
        config, tokenizer = checked_config(metadata.backbone), load_tokenizer(metadata.backbone)
        pooling = pooling_of(settings, config, metadata)
        settings = replace(settings, backbone=str(name))
        check_length(settings, config, tokenizer)
        if pooling.per_sentence:
            raise UserError(
                f"{name}: gives a vector for each sentence of a paper, which no graph does. Leave "
                "--backend out."
            )
        paths = _paths(folder, backend, metadata)
        if not all(path.is_file() for path in paths.values()):
            others = graphs_in(folder)
            has = f"it has one for {' and '.join(others)}" if others else "it has none"
            option = {"onnx": "--onnx", "openvino": "--openvino"}[backend]
            raise UserError(
                f"{name}: has no graph for --backend {backend} "
                f"({graph_path(Path(), backend)}); {has}. Write one by export or import with "
                f"{option}, or leave --backend out."
            )
        reader = FormatReader(str(name))
        if metadata.control_codes:
            reader = ControlCodes(str(name), tokenizer, settings.max_length)
        elif metadata.adapters is not None:
            reader = GraphFormats(str(name), metadata.adapters.formats)
        return cls(settings, config, tokenizer, pooling, reader, paths, backend)

    @property
    def config(self) -> Any:
        """See `TextInterface`."""
        return self._config

    @property
    def device(self) -> torch.device:
        """The host, where both runtimes compute."""
        return torch.device("cpu")

    def backbone_config(self) -> dict[str, Any]:
        """See `TextInterface`."""
        values = json.loads(self._config.to_json_string(use_diff=False))
        for key in ("_name_or_path", "_attn_implementation_internal"):
            values.pop(key, None)
        return values

    def weights(self) -> Iterator[tuple[str, Any]]:
        """The bytes of the graphs' files, and of the weight files beside them."""
        for graph in self._paths.values():
            # model.onnx and model.onnx.data; or .xml and .bin
            for path in sorted(graph.parent.glob(f"{graph.stem}.*")):
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=READ) as content:
                    yield f"{graph.parent.name}/{path.name}", content

    def encode_tokens(
        self,
        rows: TokenRows,
        budget: int | None = None,
        progress: Callable[[int], None] | None = None,
        positions: Int[Tensor, " K"] | None = None,
        sentences: Sentences | None = None,
        formats: Int[Tensor, " U"] | None = None,
    ) -> tuple[Float[Tensor, "P D"], Float[Tensor, "K H"] | None]:
        """See `TextInterface`.

        Raises:
            UserError: states of tokens or of sentences are wanted, which a graph does not give.
        """
        if positions is not None or sentences is not None:
            raise UserError(
                f"{self.settings.backbone}: its graph gives one vector of a text, and none of its "
                "sentences. Leave --backend out."
            )
        # The graph knows the positions of control codes.
        rows, _ = self.format_reader.prepare_rows(rows, formats)
        plan = self.format_reader.plan(
            rows.lengths.numpy(), formats, budget or self.max_tokens_per_forward, True
        )
        return encode_micro_batches(rows, plan, self._encode, progress)

    def _encode(self, micro_batch: MicroBatch) -> tuple[Float[Tensor, "P D"], None]:
        ids = nn.utils.rnn.pad_sequence(
            list(micro_batch.rows.ids.split(micro_batch.sizes)),
            batch_first=True,
            padding_value=self.tokenizer.pad_id,
        )
        mask = torch.arange(ids.shape[1]) < micro_batch.rows.lengths.unsqueeze(1)
        name = None
        if isinstance(self.format_reader, GraphFormats):
            assert micro_batch.formats is not None
            name = list(FORMATS)[micro_batch.formats[0]]
        vectors = self._graph(name).vectors(ids.numpy(), mask.long().numpy())
        return torch.from_numpy(vectors), None

    def _graph(self, name: str | None) -> Graph:
        if name not in self._graphs:
            self._graphs[name] = open_graph(self._paths[name], self.backend)
        return self._graphs[name]


def backend_of(name: str | Path, asked: Backend | None) -> Backend:
    """What runs a model: ``asked``, else torch, or the first graph of a folder without weights."""
    folder = Path(name).expanduser()
    if asked is not None or not folder.is_dir():
        return asked or "torch"
    graphs = graphs_in(folder)
    backbone_folder = read_metadata(folder).backbone if graphs else folder
    if not graphs or any((backbone_folder / weights).is_file() for weights in WEIGHTS):
        return "torch"
    return graphs[0]


def _paths(folder: Path, backend: Backend, metadata: ModelMetadata) -> dict[str | None, Path]:
    """The files of the graphs that a folder should have."""
    names = (None,) if metadata.adapters is None else metadata.adapters.formats
    return {name: graph_path(folder, backend, name) for name in names}
