"""Exports in Aspire's layout, models with random weights, and refusals of the import command."""

import torch

from sciembed_train import cli
from sciembed_train.export.export_layout import write_export
from sciembed_train.export.layouts.aspire_layout import AspireLayout


def disturbed(module):
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    return module


def refused(capsys, *args):
    assert cli.main(["import", *map(str, args)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def export_aspire(encoder, folder, card, base=None):
    return write_export(AspireLayout(base), encoder, folder, card)
