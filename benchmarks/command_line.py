"""The command line of a benchmark."""

from __future__ import annotations

import argparse


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """A parser whose help opens with the first line of a script's documentation."""
    return argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
