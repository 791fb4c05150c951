import pytest
import torch

from sciembed_train.errors import UserError
from sciembed_train.export.export_layout import (
    ExportLayout,
    known_as,
    on_host,
    public_name,
    write_export,
)
from sciembed_train.export.verification import ExportError
from tests.helpers.exports import encoder_of


class Noted(ExportLayout):
    """A layout of one file that notes what is asked of it."""

    marker = "note.txt"

    def __init__(self, wrong=False):
        self.wrong, self.calls = wrong, []

    def check(self, encoder, record):
        self.calls.append("check")
        if record.get("method") == "other":
            raise UserError("not this method")

    def write(self, encoder, folder, record):
        self.calls.append("write")
        (folder / self.marker).write_text("note")

    def verify(self, encoder, folder, record):
        self.calls.append("verify")
        assert ".partial-" in folder.name
        if self.wrong:
            raise ExportError("it computes something else")
        return {"AutoModel": 0.0}


@pytest.fixture
def encoder(tiny_bert):
    return encoder_of(tiny_bert)


def test_a_folder_gets_its_name_when_it_was_verified(encoder, tmp_path):
    layout = Noted()
    assert write_export(layout, encoder, tmp_path / "m", {}) == {"AutoModel": 0.0}
    assert layout.calls == ["check", "write", "verify"]
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["note.txt"]
    with pytest.raises(UserError, match="not empty"):
        write_export(Noted(), encoder, tmp_path / "m", {})
    write_export(Noted(), encoder, tmp_path / "m", {}, overwrite=True)


def test_a_wrong_folder_or_record_leaves_nothing(encoder, tmp_path):
    with pytest.raises(ExportError):
        write_export(Noted(wrong=True), encoder, tmp_path / "m", {})
    layout = Noted()
    with pytest.raises(UserError, match="not this method"):
        write_export(layout, encoder, tmp_path / "m", {"method": "other"})
    assert layout.calls == ["check"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_above_is_named_only_for_a_runs_own_export(tmp_path):
    assert known_as(tmp_path / "run" / "export") == "run"
    assert known_as(tmp_path / "my_encoder") == "my_encoder"
    (tmp_path / "my_encoder").mkdir()
    assert public_name(str(tmp_path / "my_encoder")) == "my_encoder"
    assert public_name("allenai/specter") == "allenai/specter"


def test_an_encoder_in_half_precision_is_copied_to_fp32(encoder):
    assert on_host(encoder) is encoder
    half = encoder.half()
    assert {p.dtype for p in on_host(half).parameters()} == {torch.float32}
    assert {p.dtype for p in half.parameters()} == {torch.float16}
