"""The command ``import``: a published model as a folder ready to fit, embed and evaluate."""

from __future__ import annotations

from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.export.export_checkpoint import describe_differences
from sciembed_train.export.import_model import describe_import, import_model
from sciembed_train.export.published import ImportSettings


def command_line() -> CommandLine:
    """The options of ``train import``."""
    line = CommandLine(
        "import",
        "Make a published model ready to fit, embed and evaluate: DeCLUTR, SPECTER, Aspire's "
        "models from the hub or as its own code wrote them (run_info.json and model_cur_best.pt or "
        "sent_encoder_cur_best.pt), or any sentence-transformers folder with CLS or mean pooling. "
        "The folder that is written records how its vectors are made, keeps a "
        "masked-language-modelling head, and is proved by loading it back.",
        examples=(
            "allenai/specter --to specter",
            "my_model --to my_encoder --pooling mean --similarity cosine",
        ),
    )
    line.add(ImportSettings, positionals=("source",))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    request = settings.get(ImportSettings)
    result = import_model(request)
    described = describe_import(result), describe_differences(result["differences"])
    text = "\n".join([f"{request.source} -> {request.to}", *described])
    settings.get(OutputSettings).show(text, result)
    return 0
