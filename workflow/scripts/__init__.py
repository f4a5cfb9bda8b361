"""The steps of the chain. They use the library that stands beside them, whatever else is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lib"))
