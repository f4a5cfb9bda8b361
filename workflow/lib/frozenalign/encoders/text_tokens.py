"""Texts as tokens: prompt, cut, padding, and the special tokens at both ends."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError, quoted

# A tokenizer without a limit says 10**30.
NO_LIMIT = 10**6


class TextTokens:
    """A tokenizer of transformers, held to the settings of an encoder.

    open_tokenizer: called with keyword arguments for the tokenizer. With `pooling: last_token`, the row of a text is
    what the model makes of the token at its end, so every text must have that token.
    """

    def __init__(self, settings: EncoderSettings, open_tokenizer: Callable[..., Any], longest: int | None) -> None:
        self.settings = settings
        self.tokenizer = open_tokenizer()
        self.needs_ends = settings.pooling == "last_token"
        if self.needs_ends and not self._has_ends():
            # transformers 5 takes the ends from tokenizer.json, where that of E5-Mistral lacks </s>. One flag alone
            # would take the other token away.
            self.tokenizer = open_tokenizer(add_bos_token=self.tokenizer.bos_token is not None, add_eos_token=True)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        limit = min(self.tokenizer.model_max_length, longest or NO_LIMIT)
        self.max_length = settings.max_length or (limit if limit < NO_LIMIT else None)
        if limit < (self.max_length or 0):
            raise UserError(
                f"encoder {settings.encoder}: max_length is {self.max_length} but {settings.name} reads {limit} tokens"
                ": lower it"
            )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before it is cut, prompt and special tokens counted."""
        return [len(ids) for ids in self.tokenizer(self._prompted(texts), truncation=False)["input_ids"]]

    def batch(self, texts: Sequence[str], side: str = "right") -> tuple[dict[str, Tensor], Tensor]:
        """Return what the model reads of n texts, and the mask (n, T) of their tokens.

        side: where they are padded. To the right, no row of a causal model sees padding: on the left, a row in float16
        came out as NaN.
        """
        encoded = self.tokenizer(
            self._prompted(texts),
            padding=self.settings.padding,
            padding_side=side,
            truncation=self.max_length is not None,
            max_length=self.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = encoded["attention_mask"]
        self._refuse_empty(texts, mask)
        if self.needs_ends:
            self._hold_ends(texts, encoded["input_ids"], mask)
        return {name: encoded[name] for name in self.tokenizer.model_input_names if name in encoded}, mask

    def _prompted(self, texts: Sequence[str]) -> list[str]:
        return [f"{self.settings.prompt or ''}{text}" for text in texts]

    def _refuse_empty(self, texts: Sequence[str], mask: Tensor) -> None:
        for text, tokens in zip(texts, mask.sum(1).tolist(), strict=True):
            if not tokens:
                raise UserError(f"encoder {self.settings.encoder}: the text {quoted(text)} has no token: leave it out")

    def _has_ends(self) -> bool:
        ids = self.tokenizer("a")["input_ids"]
        return bool(ids) and ids[-1] in self._last_ids() and self.tokenizer.bos_token_id in (None, ids[0])

    def _last_ids(self) -> set[int | None]:
        # Some models, as Qwen's for embeddings, end their texts with the token that they pad with.
        return {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}

    def _hold_ends(self, texts: Sequence[str], ids: Tensor, mask: Tensor) -> None:
        first_id = self.tokenizer.bos_token_id
        for text, row, kept in zip(texts, ids, mask.bool(), strict=True):
            tokens = row[kept].tolist()
            if tokens[-1] not in self._last_ids() or first_id not in (None, tokens[0]):
                ends = [self.tokenizer.convert_ids_to_tokens(tokens[place]) for place in (0, -1)]
                raise UserError(
                    f"encoder {self.settings.encoder}: the text {quoted(text)} begins with {ends[0]!r} and ends with "
                    f"{ends[1]!r} instead of {self.tokenizer.bos_token} and {self.tokenizer.eos_token}, whose row "
                    "`pooling: last_token` takes: use the tokenizer files that the model was published with"
                )
