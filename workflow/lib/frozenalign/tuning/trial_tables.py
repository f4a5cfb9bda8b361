"""The table of a study's trials, read for the report."""

from pathlib import Path

import pandas as pd

from frozenalign.configuration.result_files import RUN_AGAIN
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_size

TRIALS_BYTES = 64 << 20
KINDS_OF_COLUMNS = {"number": "iuf", "state": "OTU", "value": "iuf", "seconds": "iuf", "reason": "OTUf"}


def read_trials(path: Path) -> pd.DataFrame:
    """Read trials.csv, one row for each trial of a study."""
    if file_size(path, RUN_AGAIN) > TRIALS_BYTES:
        raise UserError(f"{path} has more than {TRIALS_BYTES} bytes, it is no table of trials: {RUN_AGAIN}")
    try:
        trials = pd.read_csv(path)
    except Exception as error:
        # The parser can raise anything on a damaged file.
        raise UserError(f"{path} is not a readable table ({one_line(str(error))}): {RUN_AGAIN}") from error
    for name, kinds in KINDS_OF_COLUMNS.items():
        if name not in trials or trials[name].dtype.kind not in kinds:
            raise UserError(f"{path}: the column {name} is missing or of another kind: {RUN_AGAIN}")
    return trials
