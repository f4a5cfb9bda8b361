"""Which sets of a data set are not in the default form, and from which files they are read; without PyTorch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.data.formats.sources import SEPARATOR, Source, find_source, formats_of
from frozenalign.data.formats.torch_files import is_odd
from frozenalign.system.errors import UserError
from frozenalign.system.fingerprints import remembered_hash

SETS = ("train2017", "val2017")
STEMS = {"images": "image_embeddings", "texts": "text_embeddings", "metadata": "metadata"}
DEFAULTS = {"images": ".pt", "texts": ".pt", "metadata": ".json"}


@dataclass(frozen=True)
class SetSources:
    """The sources of the three parts of a set; metadata may be missing where other files have the ids."""

    images: Source
    texts: Source
    metadata: Source | None

    @classmethod
    def find(cls, images: str, texts: str, metadata: str | None) -> "SetSources":
        """Return the sources of what a configuration names, each PATH or PATH::NAME.

        Without metadata, a texts' file with columns is that of the captions as well.
        """
        of_images, of_texts = find_source(images, "images"), find_source(texts, "texts")
        if (of_images.files, of_images.name) == (of_texts.files, of_texts.name):
            raise UserError(f"{images} is named for images and texts alike: name other files, or arrays, as `texts`")
        if metadata:
            return cls(of_images, of_texts, find_source(metadata, "metadata"))
        has_columns = of_texts.files[0].suffix in formats_of("metadata")
        return cls(
            of_images, of_texts, Source(of_texts.given.partition(SEPARATOR)[0], of_texts.files) if has_columns else None
        )

    @property
    def parts(self) -> Iterator[tuple[str, Source]]:
        """Yield the name and the source of every part that there is."""
        return ((part, source) for part, source in vars(self).items() if source)

    def hashes(self, known: Path) -> dict[str, str]:
        """Return the SHA-256 of every file, by part and name. known: a JSON file that remembers those of large ones."""
        files = [(part, path) for part, source in self.parts for path in source.files]
        return {f"{part}/{path.name}": remembered_hash(path, known) for part, path in files}


def given_dir(data_set: Mapping[str, Any]) -> Path:
    """Return the folder in which a data set lies: that of its metadata or images, where they are named."""
    named = data_set.get("metadata") or data_set.get("images")
    if not named:
        return Path(data_set["dir"])
    path = Path(named.partition(SEPARATOR)[0])
    return path if path.is_dir() else path.parent


def sets_to_read(data_set: Mapping[str, Any]) -> dict[str, SetSources]:
    """Return the sources of each set that has to be brought into the default form, given a section of `datasets`.

    It names files as `images`, `texts` and `metadata`, or its folder has files of default names in another form.
    """
    if data_set.get("images"):
        images = data_set["images"]
        texts, metadata = data_set.get("texts") or images, data_set.get("metadata")
        if metadata is None and (Path(images) / "metadata").is_dir():
            metadata = images
        return {SETS[0]: SetSources.find(images, texts, metadata)}
    folder = Path(data_set["dir"])
    found = {prefix: paths for prefix in SETS if (paths := _beside(folder, prefix))}
    if not any(_has_another_form(part, path) for paths in found.values() for part, path in paths.items()):
        return {}
    return {prefix: _complete(folder, prefix, paths) for prefix, paths in found.items()}


def _has_another_form(part: str, path: Path) -> bool:
    return path.suffix != DEFAULTS[part] or (path.suffix == ".pt" and is_odd(path))


def _beside(folder: Path, prefix: str) -> dict[str, Path]:
    """Return the file, or the first shard, of each part of a set in a folder; parts that it lacks are left out."""
    found = {}
    for part, stem in STEMS.items():
        default = folder / f"{prefix}_{stem}{DEFAULTS[part]}"
        suffixes = [suffix for suffix in formats_of(part) if suffix != DEFAULTS[part]]
        paths = [path for suffix in suffixes if (path := default.with_suffix(suffix)).exists()]
        paths += [path for suffix in formats_of(part) for path in folder.glob(f"{default.stem}-*0-of-*{suffix}")]
        if default.exists():
            found[part] = default
        elif len(paths) > 1:
            listed = ", ".join(sorted(path.name for path in paths))
            raise UserError(f"{folder} holds {listed}: leave one of them there, or name it as `{part}` of the data set")
        elif paths:
            found[part] = paths[0]
    return found


def _complete(folder: Path, prefix: str, paths: Mapping[str, Path]) -> SetSources:
    for part in ("images", "texts"):
        if part not in paths:
            raise UserError(
                f"{folder}/{prefix}_{STEMS[part]}.* not found: check `dir` of the data set, or put the file there"
            )
    return SetSources.find(*(str(paths[part]) if part in paths else None for part in STEMS))
