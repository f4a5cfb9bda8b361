"""Pictures through SigLIP, SigLIP 2, CLIP and DINOv2 as transformers has them, two layers deep."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from frozenalign.encoders.check_samples import Samples, picture_samples
from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.self_check import self_check
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import save, settings, vision

CPU = torch.device("cpu")
PICTURES = picture_samples().items


def opened(folder, **changes):
    return open_encoder(settings(folder, **changes), "image", CPU)


def vision_output(folder, pictures=PICTURES):
    """Return what the model itself says of pictures that its own processor prepared."""
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=list(pictures), return_tensors="pt")
    with torch.no_grad():
        return getattr(model, "vision_model", model)(**inputs), model


def attention_head(head: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Pool tokens (T, D) as SigLIP's attention head does, by plain loops in float64."""
    width, heads = hidden.shape[1], head.attention.num_heads
    weights, bias = head.attention.in_proj_weight.double(), head.attention.in_proj_bias.double()
    query_map, key_map, value_map = weights.chunk(3)
    query_bias, key_bias, value_bias = bias.chunk(3)
    query = query_map @ head.probe[0, 0].double() + query_bias
    mixed = torch.zeros(width, dtype=torch.float64)
    for part in range(heads):
        own = slice(part * width // heads, (part + 1) * width // heads)
        keys = [(key_map @ token + key_bias)[own] for token in hidden.double()]
        values = [(value_map @ token + value_bias)[own] for token in hidden.double()]
        scores = [torch.exp(query[own] @ key / (width // heads) ** 0.5) for key in keys]
        mixed[own] = sum(score * value for score, value in zip(scores, values, strict=True)) / sum(scores)
    row = head.attention.out_proj.weight.double() @ mixed + head.attention.out_proj.bias.double()
    return row + head.double().mlp(head.double().layernorm(row))


def test_siglip_gives_its_attention_head_and_neither_cls_nor_a_mean(tiny):
    rows = opened(tiny("siglip")).encode(PICTURES)
    output, model = vision_output(tiny("siglip"))
    wanted = torch.stack([attention_head(model.vision_model.head, hidden) for hidden in output.last_hidden_state])
    torch.testing.assert_close(rows.double(), wanted, rtol=1e-4, atol=1e-4)
    wrong = output.last_hidden_state[:, 0] + output.last_hidden_state[:, 1:].mean(1)
    assert torch.cosine_similarity(rows, wrong).max() < 0.9


def test_a_folder_with_the_vision_tower_alone_gives_the_same_rows(tiny, tmp_path):
    from transformers import SiglipModel, SiglipVisionModel

    whole = SiglipModel.from_pretrained(tiny("siglip"))
    alone = SiglipVisionModel(whole.config.vision_config)
    alone.load_state_dict(whole.vision_model.state_dict())
    alone.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes((tiny("siglip") / "preprocessor_config.json").read_bytes())
    torch.testing.assert_close(opened(tmp_path).encode(PICTURES), opened(tiny("siglip")).encode(PICTURES))


def test_siglip_sees_the_whole_picture_scaled_bicubically_around_zero(tiny):
    encoder = opened(tiny("siglip"))
    seen = []
    encoder.tower = lambda **inputs: seen.append(inputs) or encoder.model.get_image_features(**inputs)
    encoder.encode(PICTURES)
    (inputs,) = seen
    for picture, pixels in zip(PICTURES, inputs["pixel_values"], strict=True):
        whole = np.asarray(picture.resize((24, 24), Image.Resampling.BICUBIC), np.float32)
        np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), whole / 127.5 - 1, atol=1e-5)


def test_any_number_of_threads_prepares_the_same_pictures(tiny):
    rows = [opened(tiny("siglip"), threads=threads).encode(PICTURES) for threads in (1, 7)]
    assert torch.equal(*rows)


def test_the_features_may_be_an_object_or_as_before_transformers_5_a_tensor(tiny):
    encoder = opened(tiny("clip"), width=12)
    wanted = encoder.encode(PICTURES)
    features = encoder.model.get_image_features
    assert not isinstance(features(torch.zeros(1, 3, 24, 24)), torch.Tensor)
    encoder.tower = lambda **inputs: features(**inputs).pooler_output
    assert torch.equal(encoder.encode(PICTURES), wanted)


def test_clip_gives_its_projection(tiny):
    output, model = vision_output(tiny("clip"))
    rows = opened(tiny("clip"), width=12).encode(PICTURES)
    torch.testing.assert_close(rows, model.visual_projection(output.pooler_output).detach())


@pytest.mark.parametrize(("name", "arguments", "before"), [("clip", (), 1), ("dinov2", (), 1), ("dinov2", (3,), 4)])
def test_a_mean_is_one_of_patches_alone(tiny, name, arguments, before):
    folder = tiny(name, *arguments)
    hidden = vision_output(folder)[0].last_hidden_state.double()
    assert hidden.shape[1] == before + 9
    wanted = [sum(tokens[before:]) / 9 for tokens in hidden]
    torch.testing.assert_close(opened(folder, pooling="mean").encode(PICTURES).double(), torch.stack(wanted))


def test_dinov2_gives_its_cls_token(tiny):
    hidden = vision_output(tiny("dinov2"))[0].last_hidden_state
    torch.testing.assert_close(opened(tiny("dinov2"), pooling="cls").encode(PICTURES), hidden[:, 0])
    torch.testing.assert_close(opened(tiny("dinov2")).encode(PICTURES), hidden[:, 0])


def test_siglip_has_no_cls_token(tiny):
    with pytest.raises(UserError, match=r"pooling: .* has no CLS token: set `pooling: pooled`"):
        opened(tiny("siglip"), pooling="cls").encode(PICTURES)
    hidden = vision_output(tiny("siglip"))[0].last_hidden_state
    torch.testing.assert_close(opened(tiny("siglip"), pooling="mean").encode(PICTURES), hidden.mean(1))


def test_a_siglip_of_any_aspect_reads_the_mask_of_its_patches(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = vision(num_patches=16)
    del sizes["image_size"]
    model = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**sizes))
    save(model, tmp_path)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    processor.save_pretrained(tmp_path)
    with torch.no_grad():
        output = model.eval()(**processor(images=list(PICTURES), return_tensors="pt"))
    torch.testing.assert_close(opened(tmp_path).encode(PICTURES), output.pooler_output)
    mask = processor(images=list(PICTURES), return_tensors="pt")["pixel_attention_mask"]
    assert mask.min() == 0
    wanted = POOLINGS["mean"](output.last_hidden_state, mask)
    torch.testing.assert_close(opened(tmp_path, pooling="mean").encode(PICTURES), wanted)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (3, 200), (200, 3), (1, 4), (2000, 2)])
def test_a_picture_of_few_pixels_is_not_taken_for_one_of_other_channels(tiny, size):
    picture = Image.new("RGB", size, (200, 30, 40))
    seen = opened(tiny("siglip")).encode([picture, Image.new("RGB", (50, 50), (200, 30, 40))])
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)


def test_the_processor_that_ran_is_recorded_and_needs_no_torchvision(tiny):
    facts = opened(tiny("siglip")).facts()
    assert facts["processor"] == "SiglipImageProcessorPil"
    assert facts["pooling"] == "pooled"
    assert set(facts["versions"]) == {"torch", "transformers", "PIL"}


def test_a_processor_that_is_not_there_is_never_replaced_in_silence(tiny):
    transformers = pytest.importorskip("transformers")
    if transformers.utils.is_torchvision_available():
        pytest.skip("torchvision is installed")
    with pytest.raises(UserError, match=r"processor: torchvision is not there for .* set `processor: pil`"):
        opened(tiny("siglip"), processor="torchvision")


def test_an_image_size_that_the_model_does_not_read_is_refused(tiny):
    assert opened(tiny("siglip"), image_size=24).encode(PICTURES).shape == (6, 16)
    with pytest.raises(UserError, match=r"image_size is 384 but .* reads 24 x 24 pixels"):
        opened(tiny("siglip"), image_size=384).encode(PICTURES)


def test_a_pooling_of_texts_is_none_of_pictures(tiny):
    with pytest.raises(UserError, match="pooling: last_token is none for pictures"):
        opened(tiny("siglip"), pooling="last_token")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["siglip", "dinov2"])
def test_an_encoder_passes_its_self_check_in_every_number_format(tiny, name, dtype):
    described = settings(tiny(name), dtype=dtype)
    # A random model does not know what is alike, but a picture is nearest to itself.
    samples = Samples(PICTURES, ((0, 0, 2),))
    lines = self_check(open_encoder(described, "image", CPU), described, samples)
    assert len(lines) == 3


@pytest.mark.parametrize("model", ["clip", "siglip", "dinov2"])
def test_a_layer_of_patches_is_pooled_like_the_last_one(tiny, model):
    from transformers import AutoImageProcessor

    encoder = opened(tiny(model), pooling="mean", layer=1)
    inputs = AutoImageProcessor.from_pretrained(tiny(model), backend="pil")(images=list(PICTURES), return_tensors="pt")
    with torch.no_grad():
        tower = getattr(encoder.model, "vision_model", encoder.model)
        hidden = tower(**inputs, output_hidden_states=True).hidden_states[1]
    patches = hidden if model == "siglip" else hidden[:, 1:]
    torch.testing.assert_close(encoder.encode(PICTURES), patches.mean(1), rtol=1e-4, atol=1e-5)
