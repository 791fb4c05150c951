"""The command ``doctor``: what this machine has, what would run, what would not and why."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from sciembed_train.diagnostics.checks import examine, exchanges
from sciembed_train.diagnostics.finding import render
from sciembed_train.errors import UserError


def main(argv: list[str]) -> int:
    """Print what this machine has and can do; 1 when something must be mended first, else 0."""
    parser = argparse.ArgumentParser("train doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("-c", "--config", action="append", default=[], help="a recipe, for --gpus")
    parser.add_argument("--gpus", type=int, default=1, help="count what so many exchange in a step")
    parser.add_argument(
        "--measure", action="store_true", help="measure the ways of attending (encoder.attention)"
    )
    args = parser.parse_args(argv)
    if args.measure and args.json:
        raise UserError("--measure prints a table for people; leave --json out.")
    if args.gpus < 1:
        raise UserError(f"--gpus must be 1 or more; got {args.gpus}.")
    if args.config and args.gpus < 2:
        raise UserError("-c names a recipe for --gpus: say of how many GPUs, such as --gpus 8.")
    findings = [*examine(Path("checkpoints")), *exchanges(args.config, args.gpus)]
    ready = all(f.state != "bad" for f in findings)
    if args.json:
        print(json.dumps({"ready": ready, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        print(render(findings))
    if args.measure and ready:
        from sciembed_train.encoder.profiling.attention_speed import report

        print(f"\n{report()}")
    return 0 if ready else 1
