"""Open an encoder and check what must hold of its rows, as every encoding does before it begins."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.encoders.check_samples import samples
from frozenalign.encoders.registry import MODALITIES, open_encoder
from frozenalign.encoders.self_check import self_check
from frozenalign.encoders.settings import load_encoder
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each fact and for each check."""
    arguments = _parser().parse_args(argv)
    settings = load_encoder(arguments.encoder, arguments.changes)
    device = choose_device(arguments.device)
    for modality in filter(settings.encodes, MODALITIES):
        encoder = open_encoder(settings, modality, device)
        for name, value in encoder.facts().items():
            print(f"{settings.encoder} {modality} {name}: {value}")
        for line in self_check(encoder, settings, samples(encoder, modality)):
            print(f"{settings.encoder} {modality} passed: {line}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.check_encoder", description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="file in config/encoders/")
    add_options(parser, "--changes")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default: auto)")
    return parser


if __name__ == "__main__":
    run(main)
