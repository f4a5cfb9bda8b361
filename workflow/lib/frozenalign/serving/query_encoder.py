"""The frozen encoder that encoded a set, opened again: queries become rows as the set has them."""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frozenalign.configuration.result_files import read_result
from frozenalign.configuration.schemas import read_schema, validated
from frozenalign.data.encoding import ENCODING
from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.data.pictures import as_rgb, exif_orientation, load_picture, upright
from frozenalign.encoders.batches import OpenedEncoder, by_length
from frozenalign.encoders.registry import ENCODERS, open_encoder
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError, one_line, quoted

logger = logging.getLogger(__name__)
RECORDED = {"image": "images", "text": "texts"}
# Other versions of a library give the same rows but for rounding; other weights or settings do not.
VERSIONS = {"versions", "scikit-learn", "numpy"}


@dataclasses.dataclass(frozen=True)
class QueryEncoder:
    """An opened encoder of one modality, image or text, that gives rows (N, D) as those it was recorded for."""

    opened: OpenedEncoder

    @classmethod
    def of_set(cls, data_dir: Path, modality: str, device: torch.device) -> "QueryEncoder":
        """Open the encoder that encoding.json in the folder of a data set names."""
        path = data_dir / ENCODING
        if not path.exists():
            raise UserError(
                f"{path} not found, so what encoded this set is unknown and a query cannot be encoded alike: encode "
                "the set with an `encode` section, or query with rows that it has"
            )
        return cls.of_record(read_result(path), modality, device, str(path))

    @classmethod
    def of_record(
        cls, record: Mapping[str, Any] | None, modality: str, device: torch.device, where: str
    ) -> "QueryEncoder":
        """Open the encoder that a record names: the content of encoding.json, or `encoders` of a model's facts.

        where: the file that holds the record, for messages.
        """
        if record is None:
            raise UserError(
                f"{where} does not say what encoded the data, so a query cannot be encoded alike: encode the set with "
                "an `encode` section, and train and export again"
            )
        recorded = record[RECORDED[modality]]
        settings = _settings(recorded, where)
        encoder = open_encoder(settings, modality, device)
        _refuse_another(recorded["facts"], encoder.facts(), settings, where)
        return cls(OpenedEncoder(settings, modality, device, encoder))

    def encode(self, items: Sequence[str] | Sequence[Image.Image | str | Path]) -> Tensor:
        """Return the rows (N, D) of texts, or of pictures and paths of pictures, float32, on the CPU."""
        if self.opened.modality == "text":
            return self._texts([str(text) for text in items])
        rows = [
            self._rows([_picture(item) for item in items[start : start + self._at_once]])
            for start in range(0, len(items), self._at_once)
        ]
        return torch.cat([self._nothing, *rows])

    @property
    def _at_once(self) -> int:
        return self.opened.settings.batch_size

    @property
    def _nothing(self) -> Tensor:
        return torch.empty(0, self.opened.settings.width)

    def _texts(self, texts: list[str]) -> Tensor:
        rows = self._nothing.new_empty(len(texts), self.opened.settings.width)
        for places in by_length(self.opened.encoder.lengths(texts) if texts else [], self._at_once):
            rows[torch.tensor(places)] = self._rows([texts[place] for place in places])
        return rows

    def _rows(self, items: list) -> Tensor:
        # In the number format that is stored, so that a query is rounded as the set is.
        return self.opened.rows(items, lambda place: _named(items[place])).float()


def _settings(recorded: Mapping[str, Any], where: str) -> EncoderSettings:
    """Return the settings that a record holds, checked as those of a file in config/encoders/."""
    names = {field.name for field in dataclasses.fields(EncoderSettings)} - {"encoder"}
    document = {name: value for name, value in recorded.items() if name in names}
    settings = EncoderSettings(recorded["encoder"], **validated(document, read_schema("encoder"), where))
    if settings.library not in ENCODERS:
        raise UserError(
            f"{where}: library: found {quoted(settings.library)}; allowed: {', '.join(sorted(ENCODERS))}: add it back"
        )
    return settings


def _refuse_another(then: Mapping[str, Any], now: Mapping[str, Any], settings: EncoderSettings, where: str) -> None:
    """Refuse an encoder whose facts are not those recorded; other versions of libraries are a warning."""
    # As JSON holds them: a tuple is a list there.
    now = json.loads(json.dumps(now))
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) == now.get(name):
            continue
        change = f"{name} is {quoted(now.get(name))} where {quoted(then.get(name))} is recorded"
        if name not in VERSIONS:
            raise UserError(
                f"{where}: the encoder {one_line(settings.encoder)} is not the one that encoded the data, its "
                f"{change}: get that model again, or encode the set and train anew"
            )
        logger.warning("warning: the encoder %s has other %s", one_line(settings.encoder), change)


def _picture(item: Image.Image | str | Path) -> Image.Image:
    if isinstance(item, Image.Image):
        return upright(as_rgb(item), exif_orientation(item))
    path = Path(item).absolute()
    try:
        # A file that the caller names may be a link to anywhere.
        return load_picture(path.resolve().parent, path.resolve().name)
    except UnreadablePicture as unreadable:
        raise UserError(f"the picture {one_line(str(item))} is {unreadable}: give another") from unreadable


def _named(item: str | Image.Image) -> str:
    return f"the text {quoted(item)}" if isinstance(item, str) else "a picture"
