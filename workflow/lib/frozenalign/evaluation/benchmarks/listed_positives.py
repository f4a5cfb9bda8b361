"""Positives by id, matched with the rows of a set: queries and candidates as numbers of rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from frozenalign.data.benchmarks.positives import Positives
from frozenalign.evaluation.benchmarks.positive_places import Places, positive_places
from frozenalign.evaluation.projections import Projections


@dataclass(frozen=True)
class Pairing:
    """The positives of the queries of one direction, as numbers of rows.

    queries: (Q,) ascending row of each query. query: (P,) ascending index into queries; item: (P,) row of the positive.
    positives: (Q,) how many each query has.
    """

    queries: np.ndarray
    query: np.ndarray
    item: np.ndarray
    positives: np.ndarray

    @classmethod
    def of(
        cls, listed: Mapping[str, frozenset[str]], queries: np.ndarray, candidates: np.ndarray, as_listed: bool
    ) -> "Pairing":
        """Match the ids of queries (n,) and of candidates (G,); queries that the set lacks are left out.

        as_listed: whether positives that no candidate has count among those of a query. A query that is left without
        any is left out.
        """
        place = {name: row for row, name in enumerate(candidates.tolist())}
        rows = []
        for row, name in enumerate(queries.tolist()):
            found = sorted(place[each] for each in listed.get(name, ()) if each in place)
            count = len(listed.get(name, ())) if as_listed else len(found)
            if count:
                rows.append((row, found, count))
        query = [number for number, (_, found, _) in enumerate(rows) for _ in found]
        item = [each for _, found, _ in rows for each in found]
        kept, counts = [row for row, _, _ in rows], [count for _, _, count in rows]
        return cls(*(np.array(values, dtype=np.int64) for values in (kept, query, item, counts)))


@dataclass(frozen=True)
class ListedPositives:
    """The positives of both directions, by `i2t` and `t2i`, on N images and M captions, of caption_image (M,)."""

    pairings: Mapping[str, Pairing]
    image_ids: np.ndarray
    caption_ids: np.ndarray
    caption_image: np.ndarray

    @classmethod
    def of(
        cls, positives: Positives, image_ids: np.ndarray, caption_ids: np.ndarray, caption_image: np.ndarray
    ) -> "ListedPositives":
        """Match the ids of images (N,) and captions (M,)."""
        pairings = {
            "i2t": Pairing.of(positives.captions, image_ids, caption_ids, positives.as_listed),
            "t2i": Pairing.of(positives.images, caption_ids, image_ids, positives.as_listed),
        }
        return cls(pairings, image_ids, caption_ids, caption_image)

    @classmethod
    def of_pairs(cls, caption_image: np.ndarray) -> "ListedPositives":
        """Return the pairs themselves as positives."""
        images, captions = np.arange(int(caption_image.max()) + 1), np.arange(len(caption_image))
        order = np.argsort(caption_image, kind="stable")
        own = Pairing(images, caption_image[order], order, np.bincount(caption_image))
        return cls(
            {"i2t": own, "t2i": Pairing(captions, captions, caption_image, np.ones(len(captions)))},
            images,
            captions,
            caption_image,
        )

    @property
    def images(self) -> np.ndarray:
        """Return the rows of the images that are queries."""
        return self.pairings["i2t"].queries

    @property
    def captions(self) -> np.ndarray:
        """Return the rows of the captions that are queries."""
        return self.pairings["t2i"].queries

    def places(self, projections: Projections, direction: str) -> Places:
        """Rank the positives of all queries of a direction."""
        images, texts, pairing = projections.images, projections.texts, self.pairings[direction]
        queries, gallery = (images, texts) if direction == "i2t" else (texts, images)
        found = self.unranked(direction)
        place = positive_places(queries, gallery, pairing.queries[pairing.query], pairing.item)
        return Places(found.query, place, found.positives, found.owner, found.candidates)

    def unranked(self, direction: str) -> Places:
        """Return the positives of a direction, each at the place 0."""
        pairing = self.pairings[direction]
        owner = pairing.queries if direction == "i2t" else self.caption_image[pairing.queries]
        candidates = len(self.caption_ids if direction == "i2t" else self.image_ids)
        return Places(pairing.query, np.zeros_like(pairing.query), pairing.positives, owner, candidates)

    def doubts(self, positives: Positives, source: str) -> list[str]:
        """Return warnings: queries of a benchmark that the set lacks, captions that do not list their own image."""
        found = []
        for listed, pairing, what in (
            (positives.captions, self.pairings["i2t"], "images"),
            (positives.images, self.pairings["t2i"], "captions"),
        ):
            if positives.as_listed and (missing := len(listed) - len(pairing.queries)):
                found.append(
                    f"{missing} of the {len(listed)} {what} that {source} asks for are not in this set: the numbers "
                    "are not those of the benchmark"
                )
        queries = self.captions
        own = self.image_ids[self.caption_image[queries]]
        ids = self.caption_ids[queries]
        alone = sum(image not in positives.images[name] for name, image in zip(ids.tolist(), own.tolist(), strict=True))
        if alone and not positives.as_listed:
            found.append(
                f"{alone} of the {len(queries)} captions in {source} do not list their own image, which counts as wrong"
            )
        return found
