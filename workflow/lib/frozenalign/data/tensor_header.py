"""The shape of a saved tensor, read from its archive without PyTorch and without unpickling anything."""

import pickletools
import zipfile
from pathlib import Path

PICKLE_BYTES = 65536
INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}


def matrix_width(path: str | Path) -> int | None:
    """Return the width of the (rows, width) tensor in a .pt file, or None where there is no such file or tensor.

    torch.save describes a tensor as storage, offset, size, strides: the numbers between the storage and the next tuple
    are the offset and the size.
    """
    if not Path(path).is_file():
        return None
    try:
        content = _description(Path(path))
        operations = iter(list(pickletools.genops(content)))
    except Exception:
        # Damage shows as whatever the parsers then trip over; the split step says what is wrong with the file.
        return None
    if not any(operation.name == "BINPERSID" for operation, _, _ in operations):
        return None
    numbers = []
    for operation, argument, _ in operations:
        if operation.name in INTEGERS:
            numbers.append(argument)
        elif operation.name.startswith(("TUPLE", "EMPTY_TUPLE")):
            return numbers[-1] if operation.name == "TUPLE2" and len(numbers) == 3 else None
    return None


def _description(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        entry = next(item for item in archive.infolist() if item.filename.endswith("data.pkl"))
        if entry.file_size > PICKLE_BYTES:
            raise ValueError("not the description of one tensor")
        return archive.read(entry)
