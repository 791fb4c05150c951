"""The command ``push``: an export as a repository of the Hugging Face hub."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.export.push import PushSettings


def command_line() -> CommandLine:
    """The options of ``train push``."""
    line = CommandLine(
        "push",
        "Upload an exported encoder to the Hugging Face hub, in one commit. The metadata of its "
        "model card is checked first. It needs the token of an account that may write there "
        "(HF_TOKEN, or a login with the program hf).",
        examples=(
            "my_encoder my_name/my_encoder --private",
            "checkpoints/specter my_name/my_encoder --revision second",
        ),
    )
    line.add(PushSettings, positionals=("folder", "repo"))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    output = settings.get(OutputSettings)
    pushed = st.push(**vars(settings.get(PushSettings)), progress=output.progress)
    output.show(pushed, pushed.as_dict())
    return 0
