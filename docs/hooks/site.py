"""Adds generated and top-level pages to the documentation site, and mends links between them.

Pages of the repository that lie outside ``docs/`` (CONTRIBUTING, benchmarks, ...) become pages of
the site. A link of any page to a file of the repository leads to that file's page; where the file
is no page (a recipe, a module), the link becomes its path as code.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
TOP_PAGES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def repository_pages() -> dict[str, str]:
    """Path of each page in the repository -> its path in the site."""
    docs = {f"docs/{p.relative_to(ROOT / 'docs')}": str(p.relative_to(ROOT / "docs")) for p in
            (ROOT / "docs").rglob("*.md")}  # fmt: skip
    others = [ROOT / name for name in TOP_PAGES]
    others += sorted((ROOT / "benchmarks").rglob("*.md"))
    return docs | {str(p.relative_to(ROOT)): str(p.relative_to(ROOT)) for p in others}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and those outside ``docs/``."""
    for page in repository_pages():
        if not page.startswith("docs/"):
            files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    for picture in sorted((ROOT / "benchmarks").rglob("*.svg")):
        name = str(picture.relative_to(ROOT))
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    files.append(File.generated(config, "reference/recipes.md", content=recipes_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links to files of the repository at their pages."""
    site = page.file.src_uri
    pages = repository_pages()
    source = next((path for path, name in pages.items() if name == site), None)
    if source is None:
        return markdown

    def mend(link: re.Match[str]) -> str:
        text, target, anchor = link.group(1), link.group(2), link.group(3) or ""
        if "://" in target or target.startswith("mailto:"):
            return link.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in pages:
            there = posixpath.relpath(pages[path], posixpath.dirname(site) or ".")
            return f"[{text}]({there}{anchor})"
        if path in ("README.md", "docs"):
            home = posixpath.relpath("index.md", posixpath.dirname(site) or ".")
            return f"[{text}]({home})"
        if site.startswith("reference/") or not (ROOT / path).exists():
            return link.group(0)
        return text if text.startswith("`") or text == path else f"{text} (`{path}`)"

    return LINK.sub(mend, markdown)


def help_of(*words: str) -> str:
    """What the program prints for these words."""
    from sciembed_train.cli import main

    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(list(words))
    return printed.getvalue()


def commands_page() -> str:
    """Every command with all of its settings, as the program explains them."""
    from sciembed_train.cli import COMMANDS

    parts = [
        "# Commands",
        "What `train COMMAND --help_all` prints.",
        f"```\n{help_of('--help')}```",
    ]
    for name in COMMANDS:
        text = help_of(name, "--help_all") or help_of(name, "--help")
        parts.append(f"## {name}\n\n```\n{text}```")
    return "\n\n".join(parts) + "\n"


def recipes_page() -> str:
    """Every shipped recipe and machine file, whole."""
    parts = ["# Recipes", "Each is found by name from any folder: `-c specter`, `-c machine/cpu`."]
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        name = path.relative_to(ROOT / "configs").with_suffix("")
        parts.append(f"## {name}\n\n```yaml\n{path.read_text(encoding='utf-8')}```")
    return "\n\n".join(parts) + "\n"
