import torch

from sciembed_train.diagnostics import machine


def test_a_file_where_the_folder_should_be_is_found(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    (finding,) = machine.disk(tmp_path / "checkpoints")
    assert finding.state == "bad"
    (finding,) = machine.disk(tmp_path / "new" / "folder")
    assert finding.state == "ok"


def test_the_machine_and_what_torch_sees_of_it_are_named():
    names = {finding.name: finding for finding in [*machine.machine(), *machine.accelerators()]}
    assert {"python", "system", "cpu", "memory", "torch", "fit", "bf16", "gloo", "nccl"} <= set(
        names
    )
    assert torch.__version__ in names["torch"].detail
    assert f"{machine.cores()} cores" in names["cpu"].detail
    assert names["gloo"].state == "ok"  # every build of the locked version has it
