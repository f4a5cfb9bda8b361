"""The steps of the chain. They import the library of this folder, whatever else is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lib"))
