"""The files of config/encoders/ that are shipped."""

from pathlib import Path

import pytest

from frozenalign.encoders.model_files import PACKAGE
from frozenalign.encoders.settings import load_encoder

FOLDER = Path(__file__).parents[3] / "config" / "encoders"
# Numbers in a row, by the configurations that the models were published with.
WIDTHS = {
    "siglip-so400m-384": 1152,
    "siglip2-so400m-384": 1152,
    "e5-mistral-7b": 4096,
    "minilm-l6": 384,
    "efficientnet-lite0": 1280,
    "dinov2-large": 1024,
    "clip-l14": 768,
}


@pytest.mark.parametrize("name", WIDTHS)
def test_a_shipped_encoder_has_its_width_and_one_certain_version(name):
    described = load_encoder(FOLDER / f"{name}.yaml")
    assert described.width == WIDTHS[name]
    in_package = described.name.startswith(PACKAGE)
    assert in_package or (described.revision is not None and len(described.revision) == 40)


@pytest.mark.parametrize("name", ["siglip-so400m-384", "siglip2-so400m-384"])
def test_the_texts_of_siglip_are_filled_up_to_64_tokens(name):
    described = load_encoder(FOLDER / f"{name}.yaml")
    assert (described.padding, described.max_length, described.pooling) == ("max_length", 64, "pooled")


def test_e5_mistral_takes_the_last_token_in_bfloat16_of_bare_texts():
    described = load_encoder(FOLDER / "e5-mistral-7b.yaml")
    assert (described.pooling, described.dtype, described.prompt) == ("last_token", "bfloat16", None)
