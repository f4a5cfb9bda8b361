"""What the page of `explore` asks for: answers of several heads about one gallery, in plain values."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.configuration.result_files import read_result
from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.serving.galleries import CAPTIONS, IMAGES, SplitGallery
from frozenalign.serving.model_facts import METRICS
from frozenalign.serving.queries import text_query
from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.serving.searcher import Searcher
from frozenalign.system.errors import UserError, one_line

logger = logging.getLogger(__name__)
HELD_BYTES = 2 << 30
NEIGHBOURS, NEAREST_CAPTIONS = 12, 8


@dataclass(frozen=True)
class Head:
    """A trained head of a run. validation: its RSUM on the validation split, where it was evaluated."""

    name: str
    path: Path
    validation: float | None


def heads_of(results: Path) -> list[Head]:
    """Return the heads in results/DATASET, the best by validation first."""
    heads = [_head(path) for path in sorted(results.glob("*/seed*/best_model.pt"))]
    if not heads:
        raise UserError(
            f"{results} holds no */seed*/best_model.pt: train heads there first, as `make demo` does in results/demo, "
            "or name another folder with --results"
        )
    return sorted(heads, key=lambda head: -(head.validation or 0))


def _head(path: Path) -> Head:
    experiment, seed = path.parts[-3:-1]
    name = experiment if seed == "seed0" else f"{experiment}, {seed.replace('seed', 'seed ')}"
    metrics = path.parent / METRICS
    return Head(name, path, read_result(metrics)["selected"]["RSUM"] if metrics.exists() else None)


class Explorer:
    """Heads of a run on one gallery. open_searcher: opens the searcher of a head.

    encoder: of texts, or why there is none. Requests may come from several threads.
    """

    def __init__(
        self,
        gallery: SplitGallery,
        heads: Sequence[Head],
        open_searcher: Callable[[Head], Searcher],
        encoder: QueryEncoder | UserError,
    ) -> None:
        self.gallery = gallery
        self.heads = {head.name: head for head in heads}
        self._open, self._encoder = open_searcher, encoder
        self._held: OrderedDict[str, Searcher] = OrderedDict()
        self._opening, self._encoding = threading.Lock(), threading.Lock()

    def about(self) -> dict[str, Any]:
        """Return what there is to explore, and what is missing, in one sentence each."""
        items = self.gallery.items
        return {
            "gallery": {"name": self.gallery.name, **items.counts()},
            "heads": [{"name": head.name, "validation": head.validation} for head in self.heads.values()],
            "encodes_texts": isinstance(self._encoder, QueryEncoder),
            "has_captions": items.captions is not None,
            "missing": list(self._missing()),
        }

    def images_of_text(self, head: str, text: str, count: int) -> dict[str, Any]:
        """Return the images that are nearest to a text."""
        if isinstance(self._encoder, UserError):
            raise self._encoder
        searcher = self.prepared(head, IMAGES)
        with self._encoding:
            query = text_query(searcher, self._encoder, text)
        return searcher.answer(IMAGES, query, count)

    def images_of_caption(self, head: str, row: int, count: int) -> dict[str, Any]:
        """Return the images that are nearest to a caption of the gallery."""
        searcher = self.prepared(head, IMAGES, CAPTIONS)
        return searcher.answer(IMAGES, searcher.query_of_row(CAPTIONS, row), count)

    def image(self, head: str, row: int) -> dict[str, Any]:
        """Return an image of the gallery with its texts, and the captions and images that are nearest to it."""
        searcher, items = self.prepared(head, IMAGES, CAPTIONS), self.gallery.items
        query = searcher.query_of_row(IMAGES, row)
        return {
            "image": items.described_image(row),
            "texts": [items.described_text(text) for text in items.texts_of(row)],
            "captions": searcher.answer(CAPTIONS, query, NEAREST_CAPTIONS),
            "neighbours": searcher.answer(IMAGES, query, NEIGHBOURS),
        }

    def some_images(self, count: int) -> dict[str, Any]:
        """Return images spread over the gallery, without any query."""
        items = self.gallery.items
        rows = np.unique(np.linspace(0, len(items.image_ids) - 1, count).astype(int))
        return {"results": [items.described_image(row) for row in rows.tolist()]}

    def captions_with(self, words: str, count: int) -> dict[str, Any]:
        """Return captions of the gallery that hold all words."""
        items = self.gallery.items
        return {"results": [items.described_text(text) for text in items.texts_with(words, count)]}

    def prepared(self, head: str, *kinds: str) -> Searcher:
        """Return the searcher of a head that has its images or captions projected.

        Those used last are held, as many as HELD_BYTES take. One request opens a head while others wait.
        """
        with self._opening:
            if head not in self._held:
                logger.info("opening %s", self.heads[head].path)
                self._hold(head, self._open(self.heads[head]))
            self._held.move_to_end(head)
            for kind in kinds:
                self._held[head].candidates(kind)
            return self._held[head]

    def _hold(self, head: str, searcher: Searcher) -> None:
        size = 4 * searcher.model.width * sum(self.gallery.items.counts().values())
        while self._held and size * (len(self._held) + 1) > HELD_BYTES:
            self._held.popitem(last=False)
        self._held[head] = searcher

    def _missing(self) -> Iterator[str]:
        items = self.gallery.items
        if isinstance(self._encoder, UserError):
            yield f"Texts of your own cannot be searched for: {self._encoder}."
        if items.captions is None:
            yield "The data have no captions: texts are shown by their rows."
        if not items.image_files:
            yield "The metadata name no pictures, they have no `image_files`: captions and ids are shown."
            return
        try:
            items.picture(0, 1)
        except UnreadablePicture as unreadable:
            named = items.image_files.get(items.image_ids[0], f"image {items.image_ids[0]}")
            yield (
                f"Pictures may be missing, {one_line(named)} is {unreadable}: name the folder of the pictures with "
                "--pictures."
            )
