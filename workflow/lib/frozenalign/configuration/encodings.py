"""Several encodings of one set of pictures and captions: each pair of them is a data set of its own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from frozenalign.configuration.schemas import read_schema
from frozenalign.system.errors import UserError, quoted

SIDES = ("images", "texts")
# The key of `encode` that names the encoder of a side.
ENCODER_OF = {"images": "image_encoder", "texts": "text_encoder"}


@dataclass(frozen=True)
class Encoding:
    """An encoding of one side, images or texts: its name, the file of its encoder and the keys that it changes there.

    own: whether it is that of the `encode` section itself.
    """

    name: str
    encoder: str
    changes: dict[str, Any]
    own: bool = False


@dataclass(frozen=True)
class EncodingPair:
    """An encoding of the pictures beside one of the captions of the data set `of`; dataset: the name of its results."""

    of: str
    images: Encoding
    texts: Encoding

    @property
    def dataset(self) -> str:
        """Return the name under which the pair is a data set: that of the set itself for its own two encoders."""
        return self.of if self.images.own and self.texts.own else f"{self.of}-{self.images.name}-{self.texts.name}"

    def encodes(self) -> dict[str, bool]:
        """Return for each side whether the run of this pair encodes it.

        The run of the set encodes its own two. All pairs with a further encoding share its rows: the one with the set's
        own encoder on the other side makes them.
        """
        return {
            "images": not self.images.own and self.texts.own,
            "texts": not self.texts.own and self.images.own,
        }


def encodings_of(run: Mapping[str, Any], side: str) -> list[Encoding]:
    """Return the encodings of a side of the run's data set, the one of its `encode` section first."""
    encode = run["datasets"][run["dataset"]].get("encode")
    if not encode:
        return []
    own = encode[ENCODER_OF[side]]
    further = [
        Encoding(name, keys.get("encoder", name), {key: value for key, value in keys.items() if key != "encoder"})
        for name, keys in run["encodings"][side].items()
    ]
    return [Encoding(own, own, {}, own=True), *further]


def pairs_of(run: Mapping[str, Any]) -> list[EncodingPair]:
    """Return every pair of an encoding of the pictures and one of the captions, the data set's own first.

    There is none where the embeddings of the run's data set are given.
    """
    return [
        EncodingPair(run["dataset"], images, texts)
        for images in encodings_of(run, "images")
        for texts in encodings_of(run, "texts")
    ]


def run_of(run: Mapping[str, Any], pair: EncodingPair) -> dict[str, Any]:
    """Return the configuration of a run of one pair, which is that of the whole run with the pair as its data set.

    Evaluation sets are the whole run's alone: their rows are of the set's own encoders.
    """
    section = run["datasets"][run["dataset"]]
    encode = section["encode"] | {ENCODER_OF[side]: getattr(pair, side).encoder for side in SIDES}
    if section.get("generate"):
        # The check of a run names what is drawn, from `dir`.
        encode = {key: value for key, value in encode.items() if key not in SIDES and key != "captions"}
    return {
        **run,
        "dataset": pair.dataset,
        "datasets": {pair.dataset: section | {"encode": encode}},
        "encodings": {},
        "evaluation_sets": {},
        "pair": asdict(pair) | {"encodes": pair.encodes()},
    }


def refuse_wrong_encodings(run: Mapping[str, Any], where: str) -> None:
    """Refuse encodings of a data set that is not encoded, and names that are taken or too long."""
    name = run["dataset"]
    if not any(run["encodings"][side] for side in SIDES):
        return
    if not run["datasets"][name].get("encode"):
        raise UserError(
            f"{where}: encodings: the data set {name} has embeddings of its own: give it an `encode` section, or take "
            "`encodings` out"
        )
    for side in SIDES:
        own, *further = encodings_of(run, side)
        if own.name in [encoding.name for encoding in further]:
            raise UserError(
                f"{where}: encodings.{side}: {quoted(own.name)} is the encoder of datasets.{name}.encode, which is "
                "compared without being named here: rename the other"
            )
    longest = read_schema("config")["properties"]["dataset"]["maxLength"]
    datasets = [pair.dataset for pair in pairs_of(run)]
    for dataset in datasets:
        if len(dataset) > longest:
            raise UserError(
                f"{where}: encodings: {dataset} is a name of {len(dataset)} characters, {longest} are allowed: "
                "shorten the names of the encodings"
            )
        if dataset != name and (dataset in run["datasets"] or datasets.count(dataset) > 1):
            raise UserError(f"{where}: encodings: two data sets are named {dataset}: rename an encoding")
