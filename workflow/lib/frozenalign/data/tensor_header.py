"""The shape of a saved tensor, read from its archive without PyTorch and without unpickling anything."""

import pickletools
import zipfile
from pathlib import Path

PICKLE_BYTES = 65536
INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}


def matrix_width(path: str | Path) -> int | None:
    """Return the width of the (rows, width) tensor in a .pt file, or None if there is no such file or tensor.

    torch.save describes a tensor as storage, offset, size, strides: the numbers between the storage and the next tuple
    are the offset and the size.
    """
    if not Path(path).is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(item for item in archive.infolist() if item.filename.endswith("data.pkl"))
            content = archive.read(entry) if entry.file_size <= PICKLE_BYTES else b""
        operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(content)]
        storage = [name for name, _ in operations].index("BINPERSID")
    except Exception:
        # A damaged file raises whatever the parsers trip over; the split step reports what is wrong with it.
        return None
    numbers = []
    for name, argument in operations[storage:]:
        if name in INTEGERS:
            numbers.append(argument)
        elif name.startswith(("TUPLE", "EMPTY_TUPLE")):
            return numbers[-1] if name == "TUPLE2" and len(numbers) == 3 else None
    return None
