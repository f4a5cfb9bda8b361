"""Texts through Mistral, BERT, SigLIP and CLIP as transformers has them, two layers deep."""

import json
import shutil

import pytest
import torch

from frozenalign.encoders.check_samples import Samples
from frozenalign.encoders.comparisons import farthest
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.self_check import TOLERANCE, self_check
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import change_json, settings

CPU = torch.device("cpu")
TEXTS = ("the dog runs", "a dog runs on grass", "two people", "a man on the red table", "cat", "the blue cat sits")
PROMPT = "instruct: retrieve the table\nquery: "


def opened(folder, **changes):
    return open_encoder(settings(folder, **changes), "text", CPU)


def hidden_of(encoder, texts):
    """Return the rows of tokens (T, D) of each text, encoded alone and without padding, in float64."""
    model = encoder.model.double()
    rows = []
    for text in texts:
        ids = encoder.tokens.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state[0])
    encoder.model.float()
    return rows


@pytest.mark.parametrize("prompt", [None, PROMPT])
def test_e5_mistral_gives_the_last_token_of_every_text(tiny, prompt):
    encoder = opened(tiny("mistral"), pooling="last_token", prompt=prompt)
    rows = encoder.encode(TEXTS)
    wanted = [tokens[-1] for tokens in hidden_of(encoder, [f"{prompt or ''}{text}" for text in TEXTS])]
    torch.testing.assert_close(rows.double(), torch.stack(wanted), rtol=1e-4, atol=1e-4)


def test_every_text_begins_with_its_first_and_ends_with_its_last_special_token(tiny):
    from transformers import AutoTokenizer

    # What the files alone lead to: the end is missing.
    assert AutoTokenizer.from_pretrained(tiny("mistral"))("dog")["input_ids"][-1] != 2
    encoder = opened(tiny("mistral"), pooling="last_token")
    inputs, mask = encoder.tokens.batch(TEXTS)
    for ids, kept in zip(inputs["input_ids"], mask.bool(), strict=True):
        assert (ids[kept][0], ids[kept][-1]) == (1, 2)
        assert 2 not in ids[kept][:-1]


def test_a_text_that_is_cut_keeps_both_ends(tiny):
    encoder = opened(tiny("mistral"), pooling="last_token", max_length=5)
    inputs, mask = encoder.tokens.batch(["a dog runs on the grass", "cat"])
    assert inputs["input_ids"][0].tolist()[0::4] == [1, 2]
    assert mask.sum(1).tolist() == [5, 3]
    assert encoder.lengths(["a dog runs on the grass", "cat"]) == [8, 3]


def test_a_text_that_would_lack_its_end_is_named(tiny):
    from tokenizers import processors

    encoder = opened(tiny("mistral"), pooling="last_token")
    encoder.tokens.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    with pytest.raises(UserError, match="'the dog runs' begins with '<s>' and ends with 'runs' instead of"):
        encoder.encode(TEXTS)


@pytest.mark.parametrize("single", ["$A </s>", "<s> $A", "$A"])
def test_whichever_end_a_tokenizer_lacks_both_are_there(tiny, tmp_path, single):
    shutil.copytree(tiny("mistral"), tmp_path, dirs_exist_ok=True)
    places = {"<s>": 1, "</s>": 2}
    steps = [
        {"Sequence": {"id": "A", "type_id": 0}} if part == "$A" else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in single.split()
    ]
    special = {name: {"id": name, "ids": [places[name]], "tokens": [name]} for name in places if name in single.split()}
    processor = {"type": "TemplateProcessing", "single": steps, "pair": steps * 2, "special_tokens": special}
    change_json(tmp_path / "tokenizer.json", post_processor=processor)
    wanted = opened(tiny("mistral"), pooling="last_token").encode(TEXTS)
    assert torch.equal(opened(tmp_path, pooling="last_token").encode(TEXTS), wanted)


def test_a_tokenizer_that_ends_texts_with_its_padding_is_taken_as_it_is(tiny, tmp_path):
    # As that of Qwen's embeddings: eos is another token, there is no bos.
    shutil.copytree(tiny("mistral"), tmp_path, dirs_exist_ok=True)
    steps = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    special = {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
    processor = {"type": "TemplateProcessing", "single": steps, "pair": steps * 2, "special_tokens": special}
    change_json(tmp_path / "tokenizer.json", post_processor=processor)
    change_json(tmp_path / "tokenizer_config.json", bos_token=None, eos_token="<unk>")
    inputs, mask = opened(tmp_path, pooling="last_token").tokens.batch(TEXTS)
    assert all(ids[kept.bool()][-1] == 2 for ids, kept in zip(inputs["input_ids"], mask, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_padding_left_or_right_gives_the_same_rows_and_no_nan(tiny, dtype):
    described = settings(tiny("mistral"), pooling="last_token", dtype=dtype)
    encoder = open_encoder(described, "text", CPU)
    distance = farthest(encoder.encode(TEXTS), encoder._encode_padded(TEXTS, "left"))
    assert distance < TOLERANCE[dtype]
    lines = self_check(encoder, described, Samples(TEXTS, ((0, 1, 2),)))
    assert any("every text ends with </s>" in line for line in lines)
    assert any("padding left or right" in line for line in lines)


def test_rows_that_padding_changes_do_not_pass_the_self_check(tiny):
    described = settings(tiny("mistral"), pooling="last_token")
    encoder = open_encoder(described, "text", CPU)
    encoder.tokens.tokenizer.model_input_names = ["input_ids"]
    with pytest.raises(UserError, match="padded on the left, rows differ by"):
        self_check(encoder, described, Samples(TEXTS, ((0, 1, 2),)))


def test_no_keys_and_values_are_kept_for_a_next_token(tiny):
    from transformers import AutoModel

    encoder = opened(tiny("mistral"), pooling="last_token")
    inputs, _ = encoder.tokens.batch(TEXTS)
    assert AutoModel.from_pretrained(tiny("mistral"))(**inputs).past_key_values is not None
    assert encoder.model(**inputs).past_key_values is None


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_bert_is_pooled_as_a_plain_loop_does(tiny, pooling):
    encoder = opened(tiny("bert"), pooling=pooling)
    rows = encoder.encode(TEXTS)
    of_tokens = {"mean": lambda tokens: sum(tokens) / len(tokens), "cls": lambda tokens: tokens[0]}[pooling]
    wanted = torch.stack([of_tokens(tokens) for tokens in hidden_of(encoder, TEXTS)])
    torch.testing.assert_close(rows.double(), wanted, rtol=1e-4, atol=1e-4)


def test_how_a_text_model_pools_has_to_be_said(tiny):
    with pytest.raises(UserError, match="does not say how its tokens become one row: set mean, cls or last_token"):
        opened(tiny("bert"))


def test_clip_gives_the_projection_of_its_last_token(tiny):
    encoder = opened(tiny("clip"), width=12)
    rows = encoder.encode(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = encoder.tokens.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = encoder.model.text_model(**ids).last_hidden_state[0, -1]
        torch.testing.assert_close(row, encoder.model.text_projection(hidden), rtol=1e-4, atol=1e-4)


def test_siglip_reads_64_tokens_of_every_text_and_no_mask(tiny):
    encoder = opened(tiny("siglip"), padding="max_length", max_length=64)
    inputs, mask = encoder.tokens.batch(TEXTS)
    assert set(inputs) == {"input_ids"}
    assert inputs["input_ids"].shape == (len(TEXTS), 64)
    assert mask.sum(1).tolist() == encoder.lengths(TEXTS)
    with torch.no_grad():
        tower = encoder.model.text_model(input_ids=inputs["input_ids"])
    rows = encoder.encode(TEXTS)
    torch.testing.assert_close(rows, encoder.model.text_model.head(tower.last_hidden_state[:, -1]).detach())
    torch.testing.assert_close(encoder.encode(TEXTS[:1]), rows[:1], rtol=1e-4, atol=1e-4)


def test_siglip_2_reads_lower_case_though_its_tokenizer_keeps_capitals(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("siglip"))
    assert tokenizer("Dog")["input_ids"] != tokenizer("dog")["input_ids"]
    encoder = opened(tiny("siglip"), padding="max_length")
    assert torch.equal(encoder.encode(["The DOG runs"]), encoder.encode(["the dog runs"]))


def test_other_models_tell_capitals_apart(tiny):
    encoder = opened(tiny("bert"), pooling="mean")
    assert not torch.equal(encoder.encode(["Dog"]), encoder.encode(["dog"]))


def test_siglip_itself_lowers_the_case_and_takes_the_punctuation_away(tiny, tmp_path):
    pieces = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    shutil.copytree(tiny("siglip"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 4), encoding="utf-8")
    pieces.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=24,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    config = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64, "model_input_names": ["input_ids"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    encoder = opened(tmp_path, padding="max_length", max_length=64)
    assert encoder.facts()["tokenizer"] == "SiglipTokenizer"
    assert torch.equal(encoder.encode(["The dog, runs."]), encoder.encode(["the dog runs"]))
    assert encoder.tokens.batch(["the dog runs"])[0]["input_ids"].shape == (1, 64)


def test_a_prompt_stands_before_every_text_and_counts(tiny):
    plain = opened(tiny("bert"), pooling="mean")
    prompted = opened(tiny("bert"), pooling="mean", prompt=PROMPT)
    assert torch.equal(prompted.encode(TEXTS), plain.encode([PROMPT + text for text in TEXTS]))
    assert prompted.lengths(TEXTS) == plain.lengths([PROMPT + text for text in TEXTS])
    assert prompted.facts()["prompt"] == PROMPT


def test_more_tokens_than_the_model_reads_are_refused_and_its_own_limit_is_the_default(tiny):
    assert opened(tiny("bert"), pooling="mean").facts()["max_length"] == 64
    assert opened(tiny("bert"), pooling="mean").encode(["dog " * 500]).shape == (1, 16)
    with pytest.raises(UserError, match=r"max_length is 65 but .* reads 64 tokens: lower it"):
        opened(tiny("bert"), pooling="mean", max_length=65)


def test_a_text_without_any_token_is_named(tiny, tmp_path):
    shutil.copytree(tiny("bert"), tmp_path, dirs_exist_ok=True)
    change_json(tmp_path / "tokenizer.json", post_processor=None)
    with pytest.raises(UserError, match="the text '' has no token"):
        opened(tmp_path, pooling="mean").encode(["dog", ""])


def states_of(encoder, texts):
    """Return the rows of tokens (T, D) of every layer, for each text encoded alone."""
    found = []
    for text in texts:
        ids = encoder.tokens.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            found.append(encoder.model(**ids, output_hidden_states=True).hidden_states)
    return found


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer_is_pooled_like_the_last_one(tiny, layer):
    encoder = opened(tiny("bert"), pooling="mean", layer=layer)
    wanted = torch.stack([states[layer][0].mean(0) for states in states_of(encoder, TEXTS)])
    torch.testing.assert_close(encoder.encode(TEXTS), wanted, rtol=1e-4, atol=1e-5)


def test_the_highest_layer_of_bert_is_its_output(tiny):
    rows = [opened(tiny("bert"), pooling="cls", layer=layer).encode(TEXTS) for layer in (2, None)]
    torch.testing.assert_close(*rows)


def test_the_last_token_of_a_layer_of_mistral_depends_on_no_padding(tiny):
    encoder = opened(tiny("mistral"), pooling="last_token", layer=1)
    torch.testing.assert_close(encoder.encode(TEXTS)[:1], encoder.encode(TEXTS[:1]), rtol=1e-4, atol=1e-5)
    assert encoder.own_checks(TEXTS, TOLERANCE["float32"])


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("bert", {"pooling": "mean", "layer": 3}, "layer: found 3; .* has the layers 0 to 2"),
        ("clip", {"layer": 1, "width": 12}, "the pooling pooled is of the last layer alone"),
    ],
)
def test_a_layer_that_cannot_be_had_is_refused(tiny, model, changes, said):
    with pytest.raises(UserError, match=said):
        opened(tiny(model), **changes)


@pytest.mark.parametrize("layer", [1, 3])
def test_a_tower_of_a_model_of_both_has_layers_as_well(tiny, layer):
    encoder = opened(tiny("clip"), pooling="mean", layer=layer)
    if layer == 1:
        assert encoder.encode(TEXTS).shape == (len(TEXTS), 16)
        return
    with pytest.raises(UserError, match="returns 3 layers: leave it out, or name one from 0"):
        encoder.encode(TEXTS)
