"""What a model is evaluated on: the split with its files, the evaluated sets, and the memory that they take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from frozenalign.data.embeddings import CheckedSet, check_extra_set
from frozenalign.data.inputs import EXTRA_SET
from frozenalign.data.manifests import SplitFiles
from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import every_row
from frozenalign.evaluation.hubness import HubnessCorrection, choose_correction, training_sample
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.protocol import Protocol, captions_by_rule
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.files import file_hash
from frozenalign.system.memory import refuse_beyond_memory

# Projections that memory holds at the same time: plain ones, those without a penalty for hubs, distances of pairs,
# products of samples.
COPIES_OF_TESTED, COPIES_OF_OTHERS = 5, 2
# Scores against the training captions of the hubness correction, tiles of scores, the sample of the uniformity.
FURTHER_BYTES = 192 << 20


@dataclass(frozen=True)
class EvaluatedSets:
    """The rows that an evaluation reads: the split with its files, and the evaluated sets by name.

    extra: `val2017_*`, checked, if there is any that was not split with the others.
    """

    opened: SplitFiles
    evaluated: dict[str, PairFiles]
    extra: CheckedSet | None

    @classmethod
    def of(cls, protocol: Protocol, opened: SplitFiles) -> "EvaluatedSets":
        """Choose the captions of the test split and of the extra set, which is checked."""
        train, main = opened.pairs["train"], opened.pairs[protocol.split]
        sets = {protocol.split: replace(main, split=captions_by_rule(main.split, protocol.captions_rule))}
        split_as_well = EXTRA_SET in opened.manifest.sets
        extra = None if split_as_well else check_extra_set(protocol.data_dir, train.image_file, train.texts)
        if extra is not None:
            rows = captions_by_rule(every_row(extra.index), protocol.captions_rule)
            sets[EXTRA_SET] = PairFiles(extra.images, extra.texts, rows)
        return cls(opened, sets, extra)

    @property
    def extra_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files of the extra set by name, none without it."""
        return self.extra.hashes if self.extra else {}

    def correction(self, model: DualEncoder, device: torch.device) -> HubnessCorrection:
        """Return the hubness correction that validation chooses."""
        return choose_correction(*(project_files(model, each, device) for each in self._correcting()))

    def bytes_on_cpu(self, model: DualEncoder, device: torch.device) -> int:
        """Return what the projections take of the CPU's memory at the most: nothing if a device computes."""
        sets = self.evaluated.values() if device.type == "cpu" else ()
        return max((_projection_bytes(model, files, *self._correcting()) for files in sets), default=0)

    def refuse_too_many(self, model: DualEncoder, device: torch.device) -> None:
        """Refuse sets whose projections do not fit into memory, where the CPU computes."""
        pairs = max((files.split for files in self.evaluated.values()), key=lambda split: len(split.text_rows))
        refuse_beyond_memory(
            self.bytes_on_cpu(model, device),
            f"evaluating {len(pairs.image_rows)} images and {len(pairs.text_rows)} texts",
            "give the job more, or test on fewer images (`split.fractions.test`, `split.counts.test`)",
        )

    def _correcting(self) -> tuple[PairFiles, PairFiles]:
        """Return the pairs that the hubness correction is made of, and those that choose it."""
        train = self.opened.pairs["train"]
        return replace(train, split=training_sample(train.split)), self.opened.pairs["val"]

    def described(self, members: Sequence[Member], protocol: Protocol) -> dict[str, str]:
        """Return what decides the counts of an evaluation, as text by description."""
        manifest, inputs = self.opened.manifest, self.opened.manifest.inputs()
        return {
            "model": " ".join(file_hash(member.path) for member in members),
            "split": f"{protocol.split} {manifest.rows[protocol.split]} {inputs.digest()}",
            "extra set": " ".join(f"{name} {sha256}" for name, sha256 in sorted(self.extra_hashes.items())),
            "captions_rule": protocol.captions_rule,
        }


@torch.no_grad()
def _projection_bytes(model: DualEncoder, tested: PairFiles, *others: PairFiles) -> int:
    """Return the bytes of the projections of tested pairs and of those that the hubness correction is made of.

    Of the tested pairs there are distances and samples as well, and tokens where the model re-ranks.
    """
    text = tested.texts.read(0, 1)
    width, tokens = len(model.encode_texts(text)[0]), 0
    if model.scorer is not None:
        tokens = model.text_tower.with_tokens(model.text_statistics(text))[1].numel()
    images, texts = len(tested.split.image_rows), len(tested.split.text_rows)
    values = (images + texts) * (COPIES_OF_TESTED * width + 2 * tokens)
    values += (
        COPIES_OF_OTHERS * width * sum(len(files.split.image_rows) + len(files.split.text_rows) for files in others)
    )
    return values * torch.float32.itemsize + FURTHER_BYTES
