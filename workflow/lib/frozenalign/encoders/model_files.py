"""Where the files of a model lie: a folder or file on disk, an installed package, or the cache of Hugging Face.

Nothing is downloaded: a job on a node without a network would try for minutes, and several jobs would all do it.
"""

import contextlib
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError, is_out_of_memory, one_line
from frozenalign.system.files import file_hash
from frozenalign.system.optional_libraries import imported

INSTALL = "pip install -r envs/requirements-encode.txt"
PACKAGE = "package:"
WEIGHTS = "*.safetensors"
# No pickles, and no second copy of the weights in the form of another framework.
DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.model")
BLOB = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelFiles:
    """The folder or file of a model, and the commit that it was downloaded at, None if it was not from the Hub."""

    path: Path
    commit: str | None = None

    @functools.cached_property
    def weights_hash(self) -> str:
        """Return the SHA-256 of the weights; of several files, that of the lines `hash  name`."""
        if self.path.is_file():
            return _file_hash(self.path)
        hashes = {str(path.relative_to(self.path)): _file_hash(path) for path in sorted(self.path.rglob(WEIGHTS))}
        if len(hashes) == 1:
            return next(iter(hashes.values()))
        lines = "".join(f"{found}  {name}\n" for name, found in hashes.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def find_model(settings: EncoderSettings) -> ModelFiles:
    """Return where the model `name` lies.

    name: a folder or file, `package:PACKAGE/FOLDER` inside an installed package, or the name of a repository on the
    Hugging Face Hub, which must lie in the cache, at `revision`.
    """
    if settings.name.startswith(PACKAGE):
        return _in_package(settings)
    path = Path(settings.name).expanduser()
    if path.exists():
        return ModelFiles(path.resolve())
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", settings.name) or settings.name.startswith("."):
        raise UserError(
            f"encoder {settings.encoder}: name: {settings.name} is neither a file or folder here nor OWNER/MODEL, as "
            "the Hugging Face Hub names models: correct it"
        )
    return _in_cache(settings)


def find_folder(settings: EncoderSettings) -> ModelFiles:
    """Return the folder of the model `name`, which must hold its weights as safetensors: a pickle may run anything."""
    files = find_model(settings)
    if not any(files.path.rglob(WEIGHTS)):
        if files.commit:
            raise not_downloaded(settings)
        raise UserError(
            f"encoder {settings.encoder}: name: {files.path} is no folder that holds weights as {WEIGHTS}: save the "
            "model with save_pretrained, or name another"
        )
    return files


def _in_package(settings: EncoderSettings) -> ModelFiles:
    package, _, inside = settings.name.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"encoder {settings.encoder}: the package {package}, which holds the model, is not installed: "
            f"run `{INSTALL}`"
        )
    path = Path(found.submodule_search_locations[0], inside)
    if not path.exists():
        raise UserError(f"encoder {settings.encoder}: the package {package} has no {inside}: correct `name`")
    return ModelFiles(path)


def _in_cache(settings: EncoderSettings) -> ModelFiles:
    hub = imported("huggingface_hub", INSTALL)
    try:
        folder = Path(hub.snapshot_download(settings.name, revision=settings.revision, local_files_only=True))
    except (OSError, ValueError) as error:
        raise not_downloaded(settings) from error
    return ModelFiles(folder, folder.name)


def not_downloaded(settings: EncoderSettings) -> UserError:
    """Return the error that a model of the Hub, or a part of it, is not in the cache, with the command."""
    revision = f" --revision {settings.revision}" if settings.revision else ""
    patterns = " ".join(f"--include '{pattern}'" for pattern in DOWNLOADED)
    return UserError(
        f"encoder {settings.encoder}: {settings.name} is not, or not whole, in the cache of Hugging Face: run "
        f"`hf download {settings.name}{revision} {patterns}` where there is a network (pickles are not read), or set "
        "`name` to a folder"
    )


@contextlib.contextmanager
def opening(settings: EncoderSettings, files: ModelFiles) -> Iterator[None]:
    """Turn whatever a library says of files that it cannot read into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if files.commit and (isinstance(error, OSError) or not (files.path / "config.json").exists()):
            raise not_downloaded(settings) from error
        reason = one_line(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise UserError(
            f"encoder {settings.encoder}: {files.path} cannot be opened by {settings.library} ({reason}): "
            "correct `name` or `library`, or get the model's files again"
        ) from error


def _file_hash(path: Path) -> str:
    # The cache names a large file after its hash, so that 14 GB need not be read again.
    name = path.resolve().name
    return name if BLOB.fullmatch(name) else file_hash(path)
