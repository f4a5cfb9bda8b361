"""What a split's manifest says of the data that decide a model; read without PyTorch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import read_result
from frozenalign.system.files import text_hash

# The set that is split, and the one beside it: evaluated as well, or split with the first.
TRAINING_SET, EXTRA_SET = "train2017", "val2017"


@dataclass(frozen=True)
class Inputs:
    """The data that decide a model: SHA-256 of the embeddings, and of the rows that train and choose it."""

    images: str
    texts: str
    train: str
    val: str

    def digest(self) -> str:
        """Return one SHA-256 of all four."""
        return text_hash(repr(asdict(self)))


@dataclass(frozen=True)
class Manifest:
    """What a split was made from, and warnings about results on it.

    dataset: name of the data set, empty if `split` was given none. hashes: SHA-256 of each file by name, and of the
    image ids of the rows. rows: SHA-256 of each split's row numbers.
    extra: description of each further evaluation set, by name.
    """

    dataset: str
    hashes: dict[str, str]
    rows: dict[str, str]
    warnings: list[str]
    extra: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, split_dir: Path) -> "Manifest":
        """Read the manifest of a split."""
        return cls.of(read_result(split_dir / "manifest.json"))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Manifest":
        """Return what the checked content of a manifest says."""
        named = {name: content[name] for name in ("hashes", "rows", "warnings", "extra")}
        return cls(content.get("dataset", ""), **named)

    @property
    def sets(self) -> list[str]:
        """Return the sets that were split as one: train2017, and val2017 where the assignments name images of both."""
        return [name for name in (TRAINING_SET, EXTRA_SET) if f"{name}_image_embeddings.pt" in self.hashes]

    def inputs(self, train: str = "train") -> Inputs:
        """Return the data that decide a model that is trained on one split and chosen by `val`."""
        images, texts = (self._hash_of(f"{kind}_embeddings.pt") for kind in ("image", "text"))
        return Inputs(images, texts, self.rows[train], self.rows["val"])

    def _hash_of(self, end: str) -> str:
        """Return one SHA-256 of the files of this name in all sets that were split."""
        found = [self.hashes[f"{name}_{end}"] for name in self.sets]
        return found[0] if len(found) == 1 else text_hash(" ".join(found))
