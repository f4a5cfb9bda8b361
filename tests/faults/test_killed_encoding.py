"""An encoding whose process is killed at any moment ends with the bytes of an undisturbed one."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflow.scripts import demo_data

ROOT = Path(__file__).parents[2]
# Small shards: the real ones would be written in one go here.
STEP = """
import sys
from frozenalign.encoders import demo, shards
shards.SHARD_ROWS, demo.SCENES = 32, 300
from workflow.scripts.{step} import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Four hundred scenes with two captions each."""
    folder = tmp_path_factory.mktemp("scenes")
    demo_data.main(["--output-dir", str(folder), "--images", "400", "--captions", "2"])
    return folder


def encode(step: str, scenes: Path, folder: Path) -> subprocess.Popen:
    encoder = "demo-pictures" if step == "encode_images" else "demo-words"
    arguments = {
        "--encoder": ROOT / f"config/encoders/{encoder}.yaml",
        "--captions": scenes / "captions.json",
        "--pictures": scenes / "images",
        "--output-dir": folder,
        "--device": "cpu",
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return subprocess.Popen([sys.executable, "-c", STEP.format(step=step), *words], cwd=ROOT)


def shards_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pt")}


def records_in(folder: Path) -> dict[str, dict]:
    """Return the shards as the file of the job lists them, without times."""
    listed = json.loads((folder / "1-of-1.json").read_text())["shards"]
    return {number: record | {"seconds": 0} for number, record in listed.items()}


def killed_and_undisturbed(step: str, scenes: Path, folder: Path, kills: int, moments: random.Random) -> None:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    began = time.monotonic()
    assert encode(step, scenes, undisturbed).wait() == 0
    whole = time.monotonic() - began
    started = 0
    for _ in range(kills):
        process = encode(step, scenes, killed)
        # Most of the time goes before the first shard: most kills shall fall after it.
        wanted = len(list(killed.glob("*.json"))) + moments.choice([0, 0, 1, 2])
        end = time.monotonic() + moments.uniform(0.2, 1.5) * whole
        while process.poll() is None and time.monotonic() < end and len(list(killed.glob("*.json"))) < wanted:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.03))
        started += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        # A job that has ended is begun again, with some shards lost.
        if (killed / "1-of-1.json").exists():
            (killed / "1-of-1.json").unlink()
            for path in sorted(killed.glob("*.json"))[::2]:
                path.unlink()
    assert started, "no process was killed"
    assert encode(step, scenes, killed).wait() == 0
    assert shards_in(killed) == shards_in(undisturbed)
    assert records_in(killed) == records_in(undisturbed)


def test_an_encoding_killed_twice_ends_alike(scenes, tmp_path):
    killed_and_undisturbed("encode_images", scenes, tmp_path, 2, random.Random(1))


@pytest.mark.soak
@pytest.mark.parametrize("step", ["encode_images", "encode_texts"])
def test_an_encoding_killed_ten_times_each_ends_alike(step, scenes, tmp_path):
    killed_and_undisturbed(step, scenes, tmp_path, 10, random.Random())
