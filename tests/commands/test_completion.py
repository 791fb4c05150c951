import subprocess

import pytest

from sciembed_train import cli
from sciembed_train.commands import completion


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """Completes words as bash would with the script loaded."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert completion.main(["bash"]) == 0
    script = tmp_path_factory.mktemp("completion") / "script.bash"
    script.write_text(out.getvalue())

    def complete(*words):
        line = " ".join(words)
        code = (
            f"source {script}\n"
            f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
            f"COMP_LINE={line!r}; COMP_POINT={len(line)}\n"
            "_shtab_sciembed_train; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()

    return complete


def test_commands_options_and_choices_are_completed(bash):
    assert bash("sciembed-train", "pre") == ["prepare"]
    assert set(bash("sciembed-train", "")) >= set(cli.COMMANDS)
    assert "--data.batch_size" in bash("sciembed-train", "fit", "--data.ba")
    assert "--papers" in bash("sciembed-train", "prepare", "--pa")
    assert bash("sciembed-train", "prepare", "--format", "s2") == ["s2orc"]


def test_zsh_has_a_script_too(capsys):
    assert cli.main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#compdef sciembed-train")
    assert "--trainer.max_steps" in out


def test_another_shell_is_refused(capsys):
    assert cli.main(["completion", "fish"]) == 2
    assert "bash" in capsys.readouterr().err
