"""Run benchmarks, print their tables and write results/benchmarks/NAME.json: python -m tests.benchmarks [NAME …]."""

import argparse
import importlib
import os
import platform
from pathlib import Path

import torch

from frozenalign.system.devices import choose_device, choose_precision, device_name
from tests.benchmarks.measurement import table, write_rows

BENCHMARKS = (
    "training_speed",
    "large_batch",
    "retrieval_speed",
    "search_speed",
    "loading_speed",
    "tuning_speed",
    "workflow_overhead",
)
FOLDER = Path("results/benchmarks")


def main() -> None:
    """Run the named benchmarks, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        rows = module.measure(quick=arguments.quick)
        print(table(module.__doc__.splitlines()[0], rows), flush=True)
        write_rows(FOLDER / f"{name}.json", rows, machine())


def machine() -> dict[str, object]:
    """Return what the figures hang on: processor, cores, threads, PyTorch and the number format."""
    device = choose_device("auto")
    return {
        "device": device_name(device),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": str(choose_precision("auto", device)).removeprefix("torch."),
    }


if __name__ == "__main__":
    main()
