"""Texts to tokens: CLIP's tokenizer, and what else a text tower may have been trained with.

    CLIP      SOS  a    cat  EOT  0    0   ...     read at EOT; nothing behind it is seen
    SigLIP    a    cat  EOS  EOS  EOS  EOS ...     pads are seen; read at the last
    CLIPA     CLS  a    cat  0    0    0   ...     pads are seen; read at the last

Letters: C texts, L tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import clip
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from prompting.errors import ArgumentError

MEASURED_LENGTH = 512  # texts are tokenised up to here, so that an error can name their length


@dataclass(frozen=True)
class Tokenizer:
    """CLIP's tokenizer, for a text tower of any context length.

    Attributes:
        context_length: most tokens that the tower takes.
        causal: whether the tower's tokens see none of those behind them.
        lead: how many tokens stand in front of the words.
        special: how many tokens are no words.
    """

    context_length: int = 77
    causal: bool = True
    lead: int = 1
    special: int = 2

    @property
    def full(self) -> bool:
        """Say whether every text is of the context length.

        Pads are seen, or there is nothing in front that all texts share.
        """
        return not self.causal or self.lead == 0

    @property
    def limit(self) -> int:
        """The most tokens that the words may have."""
        return self.context_length - self.special

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return tokens (C, L) of texts, padded far enough to measure them."""
        length = max(MEASURED_LENGTH, self.context_length)
        if self.full:  # pads are seen
            return clip.tokenize(list(texts), context_length=length, truncate=True)
        return tokens_of(texts, length)

    def words(self, tokens: Tensor) -> Tensor:
        """Return how many tokens of each text are words, (C,)."""
        return tokens.argmax(dim=1) - 1  # [EOT] has the highest number of all tokens

    def end(self, tokens: Tensor) -> Tensor:
        """Return which token's output is the text's feature, (C,)."""
        return tokens.argmax(dim=1)

    def count(self, text: str) -> int:
        """Return how many tokens the words of a text have."""
        return int(self.words(self.encode([text])))


CLIP_TOKENIZER = Tokenizer()


@dataclass(frozen=True)
class OtherTokenizer(Tokenizer):
    """Another tokenizer, learnt from what it makes of texts; `measured` makes one.

    Attributes:
        call: takes texts and a length, returns tokens (C, length).
        pad: the token behind the words and what follows them.
        pool: which token is read: first, last, argmax or eos.
        eos: the token read where the pool is eos.
    """

    call: Callable[[list[str], int], Tensor] = clip.tokenize
    pad: int = 0
    pool: str = "argmax"
    eos: int = -1

    @classmethod
    def measured(
        cls,
        call: Callable[[list[str], int], Tensor],
        context_length: int,
        causal: bool,
        pool: str = "argmax",
        eos: int = -1,
    ) -> "OtherTokenizer":
        """Find out which tokens are no words.

        Args:
            causal: whether tokens behind the one that is read change nothing.

        Raises:
            ArgumentError: a tokenizer that splits the placeholders of prompts.
        """
        nothing, word = call(["", "x"], MEASURED_LENGTH)
        pad = int(nothing[-1])
        special = int((nothing != pad).sum())
        lead = int(special > 0 and nothing[0] == word[0])
        # What ends a text takes a place, though it be the pad.
        special = max(special, lead + 1)
        found = cls(context_length, causal, lead, special, call, pad, pool, eos)
        if found.count("X X X X") != 4:
            raise ArgumentError(
                "name", 'has a tokenizer that splits "X", which holds the place of a prompt token.'
            )
        return found

    def encode(self, texts: Sequence[str]) -> Tensor:
        return self.call(list(texts), max(MEASURED_LENGTH, self.context_length))

    def words(self, tokens: Tensor) -> Tensor:
        position = torch.arange(1, tokens.shape[1] + 1)
        used = ((tokens != self.pad) * position).amax(dim=1)  # up to the last that is no pad
        nothing = int((self.encode([""]) != self.pad).sum())
        return used - nothing

    def end(self, tokens: Tensor) -> Tensor:
        if self.pool == "argmax":
            return tokens.argmax(dim=1)
        if self.pool == "eos":
            return (tokens == self.eos).int().argmax(dim=1)
        last = tokens.shape[1] - 1 if self.pool == "last" else 0
        return torch.full(tokens.shape[:1], last)


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
