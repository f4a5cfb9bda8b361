"""What the text towers of SigLIP and SigLIP 2 were trained with and their tokenizer files do not all say."""

from typing import Any

from frozenalign.encoders.model_files import INSTALL
from frozenalign.system.optional_libraries import imported

# Begins the type of both models.
SIGLIP = "siglip"
LOWERS = "SiglipTokenizer"


def as_trained(tokenizer: Any) -> Any:
    """Return a tokenizer whose texts are lower case and reach the model without a mask: padding is a part of each.

    SigLIP's own tokenizer lowers the case; the files of SigLIP 2 name that of Gemma, which does not.
    """
    tokenizer.model_input_names = ["input_ids"]
    if type(tokenizer).__name__ != LOWERS:
        normalizers = imported("tokenizers", INSTALL).normalizers
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
        backend.normalizer = normalizers.Sequence(steps)
    return tokenizer
