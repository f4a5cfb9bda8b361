"""Answers to queries: the images or captions of a gallery that a head finds nearest."""

import functools
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from frozenalign.evaluation.ranks import top_candidates
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.candidates import Candidates, Found
from frozenalign.serving.faiss_index import FaissIndex
from frozenalign.serving.galleries import CAPTIONS, IMAGES, Gallery
from frozenalign.serving.hub_correction import ON, HubCorrection, chosen_correction
from frozenalign.system.errors import UserError

KIND_OF = {"image": IMAGES, "text": CAPTIONS}
MODALITY_OF = {kind: modality for modality, kind in KIND_OF.items()}
# More are rounding.
DIGITS = 6
SAME_KIND = "queries are compared with their own kind as they are"
NO_PENALTIES = "the gallery holds no penalties of the method that the evaluation of the head has chosen"


@dataclass(frozen=True)
class Query:
    """A projected query, (D,): what it is (image or text), how it is shown, and its row, if it is in the gallery."""

    modality: str
    vector: Tensor
    described: dict[str, Any]
    row: int | None = None


@dataclass(frozen=True)
class Searcher:
    """A head with a gallery, whose rows are projected when they are first needed.

    hubness: auto, on or off, as `chosen_correction` takes it. index: proposes candidates instead of all; what it
    leaves out is not found.
    """

    model: AlignedModel
    gallery: Gallery
    hubness: str
    index: FaissIndex | None = None

    def candidates(self, kind: str) -> Candidates:
        """Return the images or captions as candidates for queries of the other kind."""
        return self._images if kind == IMAGES else self._captions

    def correction(self, kind: str) -> HubCorrection:
        """Return how hubs among images or captions are corrected."""
        chosen = chosen_correction(self.model.facts["metrics"], kind, self.hubness)
        if chosen.method is None or self.gallery.has_penalties(chosen.method):
            return chosen
        if self.hubness == ON:
            raise UserError(f"hubness cannot be corrected: {NO_PENALTIES}; leave out --hubness, or run `gallery` again")
        return HubCorrection(None, NO_PENALTIES)

    def query_of_row(self, kind: str, row: int) -> Query:
        """Return an image or a caption of the gallery as a query."""
        items, count = self.gallery.items, self.gallery.items.counts()[kind]
        if not 0 <= row < count:
            raise UserError(f"row {row} is not in the gallery: its {kind} have the rows 0 to {count - 1}")
        described = items.described_image(row) if kind == IMAGES else items.described_text(row)
        return Query(MODALITY_OF[kind], self._vectors(kind)[row], {"kind": MODALITY_OF[kind], **described}, row)

    def query_of_rows(self, modality: str, rows: Tensor, described: dict[str, Any]) -> Query:
        """Return the raw embedding (1, D_image) or (1, D_text) of an image or text as a query."""
        project = self.model.project_images if modality == "image" else self.model.project_texts
        return Query(modality, project(rows)[0], {"kind": modality, **described})

    def find(self, kind: str, query: Query, count: int) -> list[Found]:
        """Return the `count` nearest images or captions, best first; a query of the gallery does not find itself."""
        if KIND_OF[query.modality] != kind:
            candidates = self.candidates(kind)
            if self.index is None:
                return candidates.nearest(query.vector, count)
            return candidates.best_of(self.index.proposed(query.vector, count), query.vector, count)
        place = self.model.model.without_hub_penalty(query.vector[None])
        scores, rows = top_candidates(place, self._places(kind), count + 1)
        pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [Found(row, score, score) for row, score in pairs if row != query.row][:count]

    def answer(self, kind: str, query: Query, count: int) -> dict[str, Any]:
        """Return the query, what was found for it, and how, in plain values."""
        same = KIND_OF[query.modality] == kind
        return {
            "query": query.described,
            "find": kind,
            "gallery": {"name": self.gallery.name, **self.gallery.items.counts()},
            "model": {name: self.model.facts[name] for name in ("dataset", "experiment", "seed")},
            "exact": same or self.index is None,
            "hubness_correction": (HubCorrection(None, SAME_KIND) if same else self.correction(kind)).described(),
            "results": self._described(kind, self.find(kind, query, count)),
        }

    def _described(self, kind: str, found: list[Found]) -> list[dict[str, Any]]:
        items = self.gallery.items
        describe = items.described_image if kind == IMAGES else items.described_text
        return [
            {
                "rank": rank,
                "score": round(each.score, DIGITS),
                "similarity": round(each.similarity, DIGITS),
                **describe(each.row),
            }
            for rank, each in enumerate(found, start=1)
        ]

    def _vectors(self, kind: str) -> Tensor:
        return (self._projected_images if kind == IMAGES else self._projected_captions).vectors

    def _places(self, kind: str) -> Tensor:
        """Return where images or captions lie, without the dimensions in which a head carries its penalty for hubs."""
        return self._image_places if kind == IMAGES else self._caption_places

    def _placed(self, kind: str) -> Tensor:
        # A product with every row of a wider matrix would copy all rows for each query.
        return self.model.model.without_hub_penalty(self._vectors(kind)).contiguous()

    @functools.cached_property
    def _projected_images(self) -> Candidates:
        return Candidates.of(self.gallery.vectors(self.model, IMAGES))

    @functools.cached_property
    def _projected_captions(self) -> Candidates:
        return Candidates.of(self.gallery.vectors(self.model, CAPTIONS))

    @functools.cached_property
    def _images(self) -> Candidates:
        return self._lowered(IMAGES, self._projected_images)

    @functools.cached_property
    def _captions(self) -> Candidates:
        return self._lowered(CAPTIONS, self._projected_captions)

    def _lowered(self, kind: str, candidates: Candidates) -> Candidates:
        if method := self.correction(kind).method:
            candidates.lower(self.gallery.penalties(self.model, kind, candidates.vectors.contiguous(), method))
        return candidates

    @functools.cached_property
    def _image_places(self) -> Tensor:
        return self._placed(IMAGES)

    @functools.cached_property
    def _caption_places(self) -> Tensor:
        return self._placed(CAPTIONS)
