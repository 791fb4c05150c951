"""The start encoder's weights and the trained one's, mixed: WiSE-FT (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.start_model import read_start
from sciembed_train.export.merge import weighted_mean
from sciembed_train.export.merge_checks import optional

State = Mapping[str, Tensor]


class StartMixture:
    """A trained encoder whose weights are mixed with its start's.

    Args:
        start: settings of the start encoder, as it is used by itself.
        trained: the encoder, which `give` changes and moves to the host.
    """

    def __init__(self, start: EncoderSettings, trained: Encoder) -> None:
        encoder = Encoder(start, masked_lm="auto" if trained.head is not None else False)
        if trained.settings.projection == encoder.dim:
            encoder.add_projection(encoder.dim)  # which leaves its vectors as they are
        self.refused = no_interpolation(encoder, trained)
        self._trained = trained.cpu()
        self._start = encoder.state_dict()
        self._own = {key: value.clone() for key, value in trained.state_dict().items()}

    def give(self, alpha: float) -> None:
        """Set the weights to ``alpha`` of the trained ones and ``1 - alpha`` of the start's.

        Not where mixing is ``refused``.
        """
        assert self.refused is None
        self._trained.cpu().load_state_dict(interpolated(self._start, self._own, alpha))


def why_as_trained(trained: EncoderSettings) -> str | None:
    """Why the start's weights are not mixed in unless the user asks for it; None if they are."""
    if trained.adapters is not None:
        return "adapters were trained"
    if read_start(trained.backbone, trained.pooling).empty:
        return "the start is a language model, no encoder"
    return None


def no_interpolation(start: Encoder, trained: Encoder) -> str | None:
    """Why the weights of a start and a trained encoder cannot be mixed; None if they can.

    Poolings may differ: what only the trained encoder has stays as it was trained.
    """
    if trained.settings.adapters is not None:
        return "adapters were trained, and their backbone is the start's"
    if trained.settings.control_codes and not start.settings.control_codes:
        return "control codes were added to the start's vocabulary"
    states = start.state_dict(), trained.state_dict()
    shapes = [
        {key: tuple(value.shape) for key, value in state.items() if _of_backbone(key)}
        for state in states
    ]
    for key in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(key) != shapes[1].get(key):
            return f"start and trained encoder have different weights, such as {key}"
    return None


def interpolated(start: State, trained: State, alpha: float) -> dict[str, Tensor]:
    """``(1 - alpha) start + alpha trained``, of the weights that both have; others as trained."""
    common = {
        key: value
        for key, value in start.items()
        if key in trained and value.shape == trained[key].shape
    }
    tuned = {key: trained[key].to(value.device) for key, value in common.items()}
    return {**trained, **weighted_mean([common, tuned], [1 - alpha, alpha])}


def _of_backbone(key: str) -> bool:
    return key.startswith("backbone.") and not optional(key)
