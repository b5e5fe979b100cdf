"""CLIP's tokens of many texts that repeat the same words."""

from collections.abc import Sequence
from functools import lru_cache

import clip
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def tokens_of(texts: Sequence[str], longest: int) -> Tensor:
    """Return `clip.tokenize(texts, longest, truncate=True)` as wide as the longest text.

    CLIP's tokeniser repairs, cleans and splits each text by itself, and a thousand class names in
    sixty templates are 60,000 texts of few words. No token spans a space, and plain ASCII needs no
    repair, so of such texts each word is tokenised once.
    """
    encoder = clip.clip._tokenizer.encoder
    first, last = encoder["<|startoftext|>"], encoder["<|endoftext|>"]
    rows = [[first, *_encode(text)][: longest - 1] + [last] for text in texts]
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _encode(text: str) -> Sequence[int]:
    if not (text.isascii() and text.isprintable()) or "&" in text:  # "&amp;" stands for "&"
        return clip.clip._tokenizer.encode(text)
    return [token for word in text.split() for token in _encode_word(word)]


@lru_cache(maxsize=2**16)
def _encode_word(word: str) -> tuple[int, ...]:
    return tuple(clip.clip._tokenizer.encode(word))
