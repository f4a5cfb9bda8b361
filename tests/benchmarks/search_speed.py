"""A query through the page's server: text encoded, projected, compared with all pictures; beside the product alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.encoders.batches import OpenedEncoder
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.settings import load_encoder
from frozenalign.evaluation.hubness import CANDIDATES
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.serving.aligned_model import AlignedModel
from frozenalign.serving.explore_app import explore_app
from frozenalign.serving.explorer import Explorer, Head
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.serving.gallery_items import GalleryItems
from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.serving.searcher import Searcher
from tests.benchmarks.measurement import Row, interleaved

WIDTH, RESULTS = 512, 48
CPU = torch.device("cpu")
ENCODER = Path(__file__).parents[2] / "config" / "encoders" / "demo-words.yaml"
# As an evaluation that found hubs to be corrected in both directions.
RECALLS = dict.fromkeys(("R@1", "R@5", "R@10"), 50.0)
CORRECTED = {name: dict.fromkeys(RECALLS, 60.0) for name in ("t2i", "i2t")}
METRICS = {
    "protocol": {"split": "test"},
    "full": {"t2i": RECALLS, "i2t": RECALLS},
    "hubness_corrected": {
        "full": CORRECTED,
        "correction": {"type": CANDIDATES[0].func.__name__, **CANDIDATES[0].keywords},
    },
}


@dataclass(frozen=True)
class MadeGallery:
    """Random unit vectors as images, and as many as captions."""

    items: GalleryItems
    name: str = "random"

    @classmethod
    def of(cls, count: int) -> "MadeGallery":
        """Return a gallery of so many images with a caption each."""
        names = [str(image) for image in range(count)]
        captions = [f"a large red circle, number {name}" for name in names]
        return cls(GalleryItems(names, captions, np.arange(count), {}, Path(), Path()))

    def vectors(self, model: AlignedModel, kind: str) -> Tensor:
        """Return the vectors of images or captions."""
        generator = torch.Generator().manual_seed(len(kind))
        return functional.normalize(torch.randn(len(self.items.image_ids), model.width, generator=generator), dim=1)

    def has_penalties(self, method: object) -> bool:
        """Return that there are penalties."""
        return True

    def penalties(self, model: AlignedModel, kind: str, vectors: Tensor, method: object) -> Tensor:
        """Return random penalties."""
        return torch.rand(len(vectors), generator=torch.Generator().manual_seed(0)) / 10


def measure(quick: bool = False) -> list[Row]:
    """Ask for the pictures of a text, and open a picture, as the page does."""
    count = 1_000 if quick else 100_000
    settings = load_encoder(ENCODER)
    model = DualEncoder({"type": "linear", "output_dim": WIDTH}, 256, settings.width).eval().requires_grad_(False)
    facts = {"dataset": "d", "experiment": "e", "seed": 0, "metrics": METRICS}
    gallery = MadeGallery.of(count)
    searcher = Searcher(AlignedModel(model, facts, CPU), gallery, "auto")
    encoder = QueryEncoder(OpenedEncoder(settings, "text", CPU, open_encoder(settings, "text", CPU)))
    explorer = Explorer(gallery, [Head("e", Path("e"), None)], lambda head: searcher, encoder)
    client = explore_app(explorer).test_client()
    rows, query = searcher.candidates(IMAGES).rows, searcher.candidates(CAPTIONS).rows[0]

    def answered(path: str, **parameters: object) -> None:
        assert client.get(f"/api/{path}", query_string={"head": "e", **parameters}).status_code == 200

    medians = interleaved(
        2 if quick else 20,
        text=lambda: answered("text", text="a red star and a blue circle", count=RESULTS),
        picture=lambda: answered("image", row=7),
        limit=lambda: rows @ query,
    )
    name = f"{count:,} pictures of {WIDTH}, {torch.get_num_threads()} threads"
    return [
        Row(f"{name}: the pictures of a text", medians["text"], limit=medians["limit"]),
        Row(f"{name}: a picture with captions and neighbours", medians["picture"], limit=medians["limit"]),
    ]
