import errno
import json

import pytest

from sciembed_train.errors import RunError, UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.layouts import plain_layout
from sciembed_train.export.target_folder import check_target, write_errors
from sciembed_train.export.verification import ExportError
from tests.helpers.exports import CARD, contents, encoder_of


def test_a_failed_replacement_leaves_the_earlier_export(tiny_bert, tmp_path, monkeypatch):
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    before = contents(tmp_path / "m")

    def fail(self, encoder, folder, record):
        raise ExportError("no")

    monkeypatch.setattr(plain_layout.PlainLayout, "verify", fail)
    with pytest.raises(ExportError):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", {}, overwrite=True)
    assert contents(tmp_path / "m") == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_earlier_export_is_replaced_only_when_asked(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    with pytest.raises(UserError, match="--overwrite"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD)
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", {**CARD, "seed": 8}, overwrite=True)
    assert json.loads((tmp_path / "m" / "sciembed.json").read_text())["seed"] == 8
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_of_something_else_is_never_overwritten(tiny_bert, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UserError, match="no earlier export"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "thesis", CARD, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "file", CARD)
    with pytest.raises(UserError, match="cannot be made"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "file" / "m", CARD)


def test_an_export_is_known_by_its_layouts_file(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "file").write_text("")
    with pytest.raises(UserError, match=r"holds no sciembed\.json"):
        check_target(folder, overwrite=True)
    check_target(folder, overwrite=True, marker="file")


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("I/O error: No space left on device (os error 28)"),  # as safetensors
    ],
)
def test_a_full_disk_is_no_mistake_of_the_command(tmp_path, full):
    expected = r"No space left on device\. .* GB are free there\..*Make room"
    with pytest.raises(RunError, match=expected), write_errors(tmp_path / "export"):
        raise full
