"""Run every step on planted embeddings of COCO's size, and print what each takes beside the least that it can take.

python -m tests.benchmarks.coco_size FOLDER [--images 118287] [--heads mlp clip] [--only split baselines]

Writes 11.5 GB into FOLDER on first use: 591,753 pairs over 118,287 images, 768 and 4,096 wide, float32. The steps run
one after the other, each head for one epoch, on the CPU. FOLDER/coco_size.json keeps what was measured; steps that
--only leaves out keep their figures. The floor counts processor seconds: bytes over the rate at which this machine
reads them from the page cache, for `split` with SHA-256, and matrix products over the rate of its fastest product, in
float32 and, for training, in the format that training takes. The ratio is processor seconds over the floor.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from frozenalign.data.splits import SplitIndex
from frozenalign.system.files import read_json
from tests.benchmarks.__main__ import machine
from tests.benchmarks.coco.floors import Work
from tests.benchmarks.coco.input_files import write_input, write_planted
from tests.benchmarks.coco.measured import MeasuredStep, heading, read_steps, whole, write_steps
from tests.benchmarks.coco.planted import Planted
from tests.benchmarks.coco.rates import Rates
from tests.benchmarks.coco.steps import BASELINES, FRACTIONS, STEPS, Run, Step
from tests.benchmarks.coco.usage import usage_of
from tests.benchmarks.measurement import seconds_of

__all__ = ["main", "write_input"]
IMAGES = 118_287
HEADS = ("linear", "mlp", "attention", "cross_modal", "siglip", "clip", "align", "blip")
EXPERIMENTS = Path("config/experiments/coco")
WIDTH = 20


def main(argv: Sequence[str] | None = None) -> list[MeasuredStep]:
    """Write the input where it is missing, measure the steps, and return them."""
    arguments = _parser().parse_args(argv)
    planted = Planted(arguments.images, *arguments.widths, nonlinear=not arguments.linear)
    folder, result = arguments.folder, arguments.folder / "coco_size.json"
    data = folder / "data"
    write_once(data, planted, arguments.number)
    rates = Rates.measured(data / "train2017_text_embeddings.pt", arguments.product_rows)
    print(_rates_line(rates), flush=True)
    work = Work(folder / "split", (planted.image_dim, planted.text_dim), 2 if arguments.number == "float16" else 4)
    heads = {name: EXPERIMENTS / f"{name}.yaml" for name in arguments.heads}
    run = Run.of(folder, tuple(arguments.baselines), heads, work, rates, arguments.fractions)
    steps = read_steps(result)
    described = {"date": str(date.today()), **machine(), "planted": asdict(planted), "number": arguments.number}
    described |= {"rates": asdict(rates)}
    (folder / "logs").mkdir(exist_ok=True)
    print(heading(WIDTH))
    for step in run.steps():
        if step.kind not in arguments.only:
            continue
        steps[step.name] = _measured(step, run)
        print(steps[step.name].line(WIDTH), flush=True)
        if step.kind == "split" or "ceiling" not in described:
            described["ceiling"] = planted.ceiling(SplitIndex.load(folder / "split" / "test.npz"))["RSUM"]
        write_steps(result, list(steps.values()), described)
    print(whole(list(steps.values())).line(WIDTH))
    print(f"{'':{WIDTH}}  the best possible test RSUM is {described['ceiling']:.1f}")
    return list(steps.values())


def write_once(data: Path, planted: Planted, number: str) -> None:
    """Write the input unless it is there; another one there is refused, because its ceiling would be wrong."""
    record, content = data / "planted.json", asdict(planted) | {"number": number}
    if record.exists():
        if read_json(record) != content:
            raise SystemExit(f"{data} was written with other options: choose another folder")
        return
    seconds = seconds_of(lambda: write_planted(data, planted, number))
    record.write_text(json.dumps(content), encoding="utf-8")
    size = sum(path.stat().st_size for path in data.iterdir())
    print(f"wrote {size / 1e9:.2f} GB in {seconds:.0f} s, {size / seconds / 1e6:.0f} MB/s", flush=True)


def _rates_line(rates: Rates) -> str:
    return (
        f"a processor second reads {rates.read / 1e9:.2f} GB, hashes {rates.hashed / 1e9:.2f} GB, computes "
        f"{rates.operations / 1e9:.0f} G operations in float32, {rates.training_operations / 1e9:.0f} G in training"
    )


def _measured(step: Step, run: Run) -> MeasuredStep:
    step.clear()
    usage = usage_of(step.command, run.folder / "logs" / f"{step.name.replace(' ', '-')}.log")
    return MeasuredStep(step.name, usage, step.floor() if step.floor else None, ", ".join(_found(step, run)))


def _found(step: Step, run: Run) -> Iterator[str]:
    """Yield what came out of a step."""
    if step.kind == "baselines":
        for name in run.baselines:
            yield f"{name} {read_json(run.results_of(name) / 'run.json')['seconds']:.0f} s"
    elif step.kind == "evaluate":
        metrics = read_json(step.writes[0] / "metrics.json")
        yield f"test RSUM {metrics['full']['RSUM']:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the input and the results")
    parser.add_argument("--images", type=int, default=IMAGES, help="fewer, for a trial (118287)")
    parser.add_argument("--widths", type=int, nargs=2, default=(768, 4096), help="of image and text (768 4096)")
    parser.add_argument("--number", default="float32", choices=("float32", "float16"), help="of the files (float32)")
    parser.add_argument("--linear", action="store_true", help="plant a linear map instead of a network")
    parser.add_argument("--baselines", nargs="+", default=BASELINES, help="closed forms, cca among them (all three)")
    parser.add_argument("--heads", nargs="*", default=HEADS, help="experiments to train (all eight)")
    parser.add_argument("--only", nargs="+", default=STEPS, choices=STEPS, help="steps to run (all)")
    parser.add_argument("--fractions", type=json.loads, default=FRACTIONS, help="of the split (COCO's)")
    parser.add_argument("--product-rows", type=int, default=4096, help="of the products that are timed (4096)")
    return parser


if __name__ == "__main__":
    main()
