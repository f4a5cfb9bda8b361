"""Random models of the classes that the large encoders have, two layers deep, as folders that transformers opens."""

import json
from pathlib import Path
from typing import Any

import torch

from frozenalign.encoders.settings import EncoderSettings

WORDS = [
    "a",
    "an",
    "the",
    "dog",
    "cat",
    "runs",
    "sits",
    "on",
    "grass",
    "table",
    "red",
    "blue",
    "two",
    "people",
    "man",
    "woman",
    "instruct",
    ":",
    "query",
    "retrieve",
]


def settings(folder: Path | str, **changes: Any) -> EncoderSettings:
    """Return the settings of an encoder in a folder, 16 wide unless told otherwise."""
    values: dict[str, Any] = {
        **{"encoder": "tiny", "description": "", "modality": "both", "library": "transformers", "name": str(folder)},
        **{"width": 16, "revision": None, "pooling": None, "prompt": None, "max_length": None, "padding": "longest"},
        **{"dtype": "float32", "batch_size": 4, "image_size": None, "processor": None},
    }
    return EncoderSettings(**(values | changes))


def vision(**changes: Any) -> dict[str, Any]:
    """Return the sizes of a small vision tower."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "image_size": 24, "patch_size": 8, **changes}


def text(**changes: Any) -> dict[str, Any]:
    """Return the sizes of a small text tower."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "vocab_size": 64, "max_position_embeddings": 64, **changes}


def save(model: Any, folder: Path) -> Path:
    """Save a model with random weights that are not near 0, so that rows differ visibly."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    return folder


def word_tokenizer(folder: Path, *, ends: str, model_inputs: tuple[str, ...], **special: str) -> None:
    """Write tokenizer files whose tokens are words; ends: what is put around a text, as `<s> $A </s>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = list(dict.fromkeys(["<unk>", *special.values()]))
    vocabulary = {word: place for place, word in enumerate([*names, *WORDS, "Dog", "Cat"])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(name, vocabulary[name]) for name in names if name in ends.split()]
    backend.post_processor = processors.TemplateProcessing(single=ends, special_tokens=used)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special)
    tokenizer.save_pretrained(folder)
    change_json(folder / "tokenizer_config.json", model_input_names=list(model_inputs))


def change_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key away."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def siglip(folder: Path) -> Path:
    """Write a SigLIP with both towers, its picture processor, and a tokenizer as SigLIP 2 has it."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    config = SiglipConfig(vision_config=vision(), text_config=text(projection_size=16))
    save(SiglipModel(config), folder)
    SiglipImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder)
    inputs = ("input_ids", "attention_mask")
    word_tokenizer(folder, ends="$A </s>", model_inputs=inputs, eos_token="</s>", pad_token="<pad>")
    return folder


def clip(folder: Path) -> Path:
    """Write a CLIP with both towers, whose projections are 12 wide."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    # Of the id 2, transformers thinks that it was written by mistake.
    towers = {"vision_config": vision(), "text_config": text(bos_token_id=1, eos_token_id=3, pad_token_id=3)}
    save(CLIPModel(CLIPConfig(**towers, projection_dim=12)), folder)
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)
    special = {"bos_token": "<s>", "mask_token": "<mask>", "eos_token": "</s>", "pad_token": "</s>"}
    word_tokenizer(folder, ends="<s> $A </s>", model_inputs=("input_ids", "attention_mask"), **special)
    return folder


def dinov2(folder: Path, registers: int = 0) -> Path:
    """Write a DINOv2, with register tokens after CLS or without."""
    import transformers

    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    extra = {"num_register_tokens": registers} if registers else {}
    config = getattr(transformers, f"{kind}Config")(**vision(), mlp_ratio=2, **extra)
    save(getattr(transformers, f"{kind}Model")(config), folder)
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24})
    processor.save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """Write a BERT."""
    from transformers import BertConfig, BertModel

    save(BertModel(BertConfig(**text())), folder)
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    inputs = ("input_ids", "token_type_ids", "attention_mask")
    word_tokenizer(folder, ends="[CLS] $A [SEP]", model_inputs=inputs, **special)
    return folder


def mistral(folder: Path) -> Path:
    """Write a Mistral with the files of E5-Mistral: one of them asks for </s>, tokenizer.json adds <s> alone."""
    from transformers import MistralConfig, MistralModel

    save(MistralModel(MistralConfig(**text(num_key_value_heads=1, head_dim=8))), folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    word_tokenizer(folder, ends="<s> $A", model_inputs=("input_ids", "attention_mask"), **special)
    asked = {"add_bos_token": True, "add_eos_token": True, "padding_side": "left", "tokenizer_class": "LlamaTokenizer"}
    change_json(folder / "tokenizer_config.json", **asked)
    return folder
