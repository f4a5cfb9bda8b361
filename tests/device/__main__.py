"""Check one device within eight minutes, print a table and write results/benchmarks/device.json: make device.

Without a GPU, everything runs on the CPU in small sizes, which shows that the checks run, and nothing about speed.
"""

import argparse
import os
import sys
from pathlib import Path

FILE = Path("results/benchmarks/device.json")
SECONDS = 470.0


def main() -> None:
    """Run the checks; the exit status is 1 if one has missed its target."""
    parser = argparse.ArgumentParser(prog="python -m tests.device", description=__doc__)
    parser.add_argument("--device", default="auto", help="which device: auto, cpu, cuda, cuda:N, mps (auto)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"end after so many seconds ({SECONDS:g})")
    parser.add_argument("--small", action="store_true", help="small sizes on a GPU as well")
    parser.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="checks by name, as the run shows them")
    arguments = parser.parse_args()
    # cuBLAS reads it once; without it, it has no deterministic products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    from frozenalign.system.devices import choose_device, device_name
    from tests.benchmarks.__main__ import machine
    from tests.device.findings import table, write_findings
    from tests.device.running import CHECKS, run_checks
    from tests.device.sizes import FULL, SMALL

    device = choose_device(arguments.device)
    small = arguments.small or device.type == "cpu"
    if device.type == "cpu":
        print("no GPU here: small sizes on the CPU, which say nothing about speed")
    checks = [each for each in CHECKS if not arguments.only or each.__name__ in arguments.only]
    findings = run_checks(checks, device, SMALL if small else FULL, arguments.seconds)
    print(table(findings))
    write_findings(FILE, findings, machine() | {"device": device_name(device), "sizes": "small" if small else "full"})
    missed = sum(each.met is False for each in findings)
    print(f"{missed} of {len(findings)} missed; written to {FILE}")
    sys.exit(bool(missed) and not (small and device.type == "cpu"))


if __name__ == "__main__":
    main()
