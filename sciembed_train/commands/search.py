"""The command ``search``: the nearest papers of a text, of a paper or of a file of papers."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.search.index_settings import SearchSettings


def command_line() -> CommandLine:
    """The options of ``train search``."""
    line = CommandLine(
        "search",
        "Print the papers of an index that are nearest to a text, to a paper of it, or to each "
        "paper of a file; or serve a page to search with, on this machine alone.",
        examples=(
            '"graph neural networks for molecules" --index my_index',
            "--index my_index --page",
        ),
    )
    line.add(SearchSettings, positionals=("query",), texts=("query",))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    options = command_line().read(argv)
    settings, output = options.get(SearchSettings), options.get(OutputSettings)
    search = st.open_index(
        settings.index, settings.model, settings.device, format_token=settings.format_token
    )
    if settings.page:
        from sciembed_train.search.page_server import serve

        serve(search, settings.port, print_address=not output.quiet)
        return 0
    answers = search.ask(settings)
    facts = {"similarity": search.record["similarity"], "queries": [a.as_dict() for a in answers]}
    output.show("\n\n".join(map(str, answers)), facts)
    return 0
