"""The hash of the code that decides the rows of an encoder."""

from pathlib import Path

from frozenalign.configuration.registrations import LIBRARY, encoders
from frozenalign.system.fingerprints import content_hash, import_closure

# What decides rows beside the encoder's own module: reading pictures, and putting pictures and texts into batches.
BATCHES = tuple(LIBRARY / "encoders" / name for name in ("batches.py", "pictures.py", "texts.py"))
# An edit in another wing leaves rows as they are, and so does one in the readers of captions: their texts are hashed.
WINGS = ("data", "demo", "encoders")
CAPTIONS = LIBRARY / "data" / "captions"


def other_encoders(library: str) -> set[Path]:
    """Return the modules that register encoders, without the one of a library."""
    own = encoders()[library].module
    return {module_path(found.module) for found in encoders().values() if found.module != own}


def deciding_code(library: str) -> str:
    """Return one hash of the modules that decide the rows of a library's encoder, those of other encoders left out."""
    found: set[Path] = set()
    for module in (module_path(encoders()[library].module), *BATCHES):
        found |= set(import_closure(module, LIBRARY.parent, other_encoders(library)))
    return content_hash(path for path in sorted(found) if _decides_rows(path))


def _decides_rows(path: Path) -> bool:
    return path.relative_to(LIBRARY).parts[0] in WINGS and not path.is_relative_to(CAPTIONS)


def module_path(module: str) -> Path:
    """Return the file of a module of the library."""
    return LIBRARY.parent.joinpath(*module.split(".")).with_suffix(".py")
