"""The prompted text encoder over an unmodified CLIP.

Letters: C classes, L tokens, T prompt tokens, J prompted layers, d width, D joint width.

The tower is causal, so two parts of the work can be left out without changing the result:
nothing after the end-of-text token is computed, and the tokens before the first one that differs
between the classes ([SOS], the prompt, frozen context words) run once for all classes, which attend
to their keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import clip
import torch
from clip.model import CLIP
from torch import Tensor

from prompting.blocks import causal_mask, run_block

CONTEXT_LENGTH = 77
MEASURED_LENGTH = 512  # texts are tokenised up to here, so that an error can name their length


@dataclass(frozen=True)
class Sentences:
    """Tokenised sentences, cut behind the longest.

    Attributes:
        tokens: (C, L), L the longest sentence with its [SOS] and [EOT].
        end: (C,) position of [EOT].
        prompt: T, how many tokens after [SOS] a prompt will replace.
        shared: how many leading tokens are the same for all; at least 1 + T.
    """

    tokens: Tensor
    end: Tensor
    prompt: int
    shared: int

    def to(self, device: torch.device) -> "Sentences":
        return replace(self, tokens=self.tokens.to(device), end=self.end.to(device))


def tokenize(texts: Sequence[str], prompt: int = 0) -> Sentences:
    """Tokenise sentences whose first `prompt` tokens a prompt will replace.

    Raises:
        ValueError: no text, a text of more than 75 tokens, or one shorter than the prompt.
    """
    if not texts:
        raise ValueError("There is no text to tokenise: the list of class names is empty.")
    tokens = clip.tokenize(list(texts), context_length=MEASURED_LENGTH, truncate=True)
    end = tokens.argmax(dim=1)  # [EOT] has the highest number of all tokens
    for text, position in zip(texts, end.tolist(), strict=True):
        length = position - 1
        if length > CONTEXT_LENGTH - 2:
            raise ValueError(
                f'"{text}" has {length} tokens, and CLIP takes {CONTEXT_LENGTH - 2}: shorten the '
                "context (N_CTX, CTX_INIT) or the class name."
            )
        if length < prompt:
            raise ValueError(f'"{text}" has {length} tokens, fewer than the prompt\'s {prompt}.')
    tokens = tokens[:, : int(end.max()) + 1]
    differs = (tokens != tokens[0]).any(dim=0)
    common = int(differs.int().argmax()) if differs.any() else tokens.shape[1]
    # Each sentence keeps at least its own [EOT]: its output is the sentence's feature.
    shared = min(max(common, 1 + prompt), int(end.min()))
    return Sentences(tokens, end, prompt, shared)


def encode_text(model: CLIP, sentences: Sentences, prompts: Tensor | None = None) -> Tensor:
    """Features of the sentences, not normalised: (C, D) in the model's dtype.

    Args:
        prompts: (J, T, d). Layer 1 replaces the T token embeddings after [SOS] (the positional
            embedding is added as to any token); layers 2..J overwrite these positions at their
            input; deeper layers keep what flows through (IVLP, MaPLe's code base). None or J = 0
            gives CLIP's own features.
    """
    x = model.token_embedding(sentences.tokens).type(model.dtype)
    positions = model.positional_embedding[: x.shape[1]].type(model.dtype)
    layers = () if prompts is None else prompts.type(model.dtype).unbind()
    if layers:
        x = _overwrite(x, layers[0])
    x = x + positions
    head, tail = x[:1, : sentences.shared], x[:, sentences.shared :]
    head_mask = causal_mask(head.shape[1], 0, x.device)
    tail_mask = causal_mask(tail.shape[1], head.shape[1], x.device)
    for index, block in enumerate(model.transformer.resblocks):
        if 0 < index < len(layers):
            head = _overwrite(head, layers[index])
        head, prefix = run_block(block, head, head_mask)
        tail, _ = run_block(block, tail, tail_mask, prefix)
    rows = torch.arange(len(tail), device=x.device)
    last = tail[rows, sentences.end - sentences.shared]
    return model.ln_final(last).type(model.dtype) @ model.text_projection


def _overwrite(x: Tensor, prompt: Tensor) -> Tensor:
    """Put a prompt (T, d) behind the first token of x (B, L, d)."""
    prompt = prompt.expand(len(x), -1, -1)
    return torch.cat([x[:, :1], prompt, x[:, 1 + prompt.shape[1] :]], dim=1)


@torch.no_grad()
def encode_texts(model: CLIP, texts: Sequence[str], chunk: int = 512) -> Tensor:
    """CLIP's own features of any number of sentences, not normalised: (len(texts), D)."""
    device = model.positional_embedding.device
    parts = [texts[start : start + chunk] for start in range(0, len(texts), chunk)]
    return torch.cat([encode_text(model, tokenize(part).to(device)) for part in parts])
