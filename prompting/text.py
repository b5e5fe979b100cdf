"""The prompted text encoder over an unmodified CLIP.

Letters: B images, C classes, L tokens, P leading tokens that all classes share, T prompt tokens,
J prompted layers, d width, D joint width.

The tower is causal, so two parts of the work can be left out without changing the result:
nothing after the end-of-text token is computed, and the tokens before the first one that differs
between the classes ([SOS], the prompt, frozen context words) run once for all classes, which attend
to their keys and values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import clip
import torch
from clip.model import CLIP
from torch import Tensor, nn

from prompting.blocks import causal_mask, keys_and_values, run_block

CONTEXT_LENGTH = 77
MEASURED_LENGTH = 512  # texts are tokenised up to here, so that an error can name their length
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class Sentences:
    """Tokenised sentences, cut behind the longest.

    Attributes:
        tokens: (C, L), L the longest sentence with its [SOS] and [EOT].
        end: (C,) position of [EOT].
        source: (C, L) which of the prompt's T tokens replaces this one, -1 for none.
        slots: where the first replaced token of any sentence stands, and one past the last.
        shared: P, how many leading tokens are the same for all; at least [SOS].
    """

    tokens: Tensor
    end: Tensor
    source: Tensor
    slots: tuple[int, int]
    shared: int

    def to(self, device: torch.device) -> "Sentences":
        tensors = {name: getattr(self, name).to(device) for name in ("tokens", "end", "source")}
        return replace(self, **tensors)


def tokenize(texts: Sequence[str], prompt: int = 0) -> Sentences:
    """Tokenise sentences whose first `prompt` tokens, T, a prompt will replace.

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
    source = torch.full_like(tokens, -1)
    source[:, 1 : 1 + prompt] = torch.arange(prompt)
    return _sentences(tokens, end, source)


def move_names(sentences: Sentences, names: Sequence[str], position: str) -> Sentences:
    """The same tokens with the class name in the middle of the prompt, or in front of it (CoOp).

    Args:
        sentences: of `names`, each with its name right behind the prompt.
        position: "end" (as they are), "middle" (behind the first T // 2 tokens) or "front".

    Raises:
        ValueError: another position.
    """
    if position not in POSITIONS:
        raise ValueError(
            f'CLASS_TOKEN_POSITION "{position}" is unknown: choose {", ".join(POSITIONS)}.'
        )
    if position == "end":
        return sentences
    count = int(sentences.source.max()) + 1
    before = count // 2 if position == "middle" else 0
    order = torch.arange(sentences.tokens.shape[1]).repeat(len(names), 1)
    for row, length in zip(order, (tokenize(names).end - 1).tolist(), strict=True):
        name, behind = row[1 + count : 1 + count + length], row[1 + before : 1 + count]
        row[1 + before : 1 + count + length] = torch.cat([name, behind])
    return _sentences(
        sentences.tokens.gather(1, order), sentences.end, sentences.source.gather(1, order)
    )


def _sentences(tokens: Tensor, end: Tensor, source: Tensor) -> Sentences:
    """With what follows from the tokens: where slots are, and how far the sentences agree."""
    used = (source >= 0).any(dim=0).nonzero().flatten().tolist()
    slots = (used[0], used[-1] + 1) if used else (1, 1)
    visible = torch.where(source >= 0, -1 - source, tokens)  # what stands in a slot is not seen
    differs = (visible != visible[0]).any(dim=0)
    common = int(differs.int().argmax()) if differs.any() else tokens.shape[1]
    # Each sentence keeps at least its own [EOT]: its output is the sentence's feature.
    return Sentences(tokens, end, source, slots, min(common, int(end.min())))


def encode_text(
    model: CLIP,
    sentences: Sentences,
    prompts: Sequence[Tensor | None] = (),
    adapters: Sequence[Callable[[Tensor], Tensor] | None] = (),
) -> Tensor:
    """Features of the sentences, not normalised: (C, D) in the model's dtype.

    Args:
        prompts: what replaces the sentences' slots at the input of layer 1, 2, ... J; None and the
            layers after J keep what flows through (IVLP, MaPLe's code base). Each is (T, d) for all
            classes, (C, T, d) with one a class, or (B, 1, T, d) with one an image, which gives
            features (B, C, D) and takes slots in front of the class names. In layer 1 the
            positional embedding is added as to any token. A tensor (J, T, d) will do; nothing
            gives CLIP's own features.
        adapters: for each layer a function of its normalised input, added to its output, or None.
    """
    prompts = [None if p is None else p.type(model.dtype) for p in prompts]
    per_image = [len(p) for p in prompts if p is not None and p.ndim == 4]
    images = max(per_image, default=1)
    x = model.token_embedding(sentences.tokens).type(model.dtype)
    positions = model.positional_embedding[: x.shape[1]].type(model.dtype)
    shared = sentences.shared
    head = x[:1, :shared].expand(images, -1, -1)
    tail = x[:, shared:].expand(images, -1, -1, -1).flatten(0, 1)
    masks = _masks(head, tail)
    for index, block in enumerate(model.transformer.resblocks):
        prompt = prompts[index] if index < len(prompts) else None
        if prompt is not None:
            if prompt.ndim == 3:  # one a class: from here on the classes share [SOS] alone
                head, tail = _share_less(head, tail, 1)
                shared, masks = 1, _masks(head, tail)
            head = _fill_head(head, prompt, sentences)
            tail = _fill_tail(tail, prompt, sentences, shared)
        if index == 0:
            head, tail = head + positions[:shared], tail + positions[shared:]
        adapter = adapters[index] if index < len(adapters) else None
        if index == model.transformer.layers - 1:
            break  # of the last block nothing is read but [EOT]
        head, prefix = run_block(block, head, masks[0], adapter=adapter)
        tail, _ = run_block(block, tail, masks[1], prefix, adapter=adapter)
    ends = sentences.end.repeat(images) - shared
    last = _at_ends(block, head, tail, masks[1], ends, adapter)
    features = model.ln_final(last).type(model.dtype) @ model.text_projection
    return features.view(images, len(x), -1) if per_image else features


def _at_ends(
    block: nn.Module,
    head: Tensor,
    tail: Tensor,
    mask: Tensor,
    ends: Tensor,
    adapter: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """The last block's output at each sentence's [EOT] (N, d), where N sentences end at `ends`."""
    rows = torch.arange(len(tail), device=tail.device)

    def needed(x: Tensor) -> Tensor:
        return x[rows, ends][:, None]

    prefix = keys_and_values(block, head)
    x, _ = run_block(block, tail, mask[ends][:, None, None], prefix, adapter, needed)
    return x[:, 0]


def _masks(head: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    shared, own = head.shape[1], tail.shape[1]
    return causal_mask(shared, 0, head), causal_mask(own, shared, head)


def _share_less(head: Tensor, tail: Tensor, shared: int) -> tuple[Tensor, Tensor]:
    """Give each class its own copy of the shared tokens (1, P, d) but the first `shared`."""
    moved = head[:, shared:].expand(len(tail), -1, -1)
    return head[:, :shared], torch.cat([moved, tail], dim=1)


def _fill_head(head: Tensor, prompt: Tensor, sentences: Sentences) -> Tensor:
    if sentences.slots[0] >= head.shape[1]:
        return head
    prompt = prompt[None] if prompt.ndim == 2 else prompt[:, 0]
    return _fill(head, prompt, sentences.source[:1, : head.shape[1]])


def _fill_tail(tail: Tensor, prompt: Tensor, sentences: Sentences, shared: int) -> Tensor:
    if sentences.slots[1] <= shared:
        return tail
    prompt = prompt[None] if prompt.ndim == 2 else prompt
    return _fill(tail, prompt, sentences.source[:, shared:])


def _fill(x: Tensor, prompt: Tensor, source: Tensor) -> Tensor:
    """x (N, L, d) with prompt (N or 1, T, d) where source (N or 1, L) names one of its tokens."""
    tokens = torch.take_along_dim(prompt, source.clamp(min=0)[..., None], dim=1)
    return torch.where((source >= 0)[..., None], tokens, x)


@torch.no_grad()
def encode_texts(model: CLIP, texts: Sequence[str], chunk: int = 512) -> Tensor:
    """CLIP's own features of any number of sentences, not normalised: (len(texts), D)."""
    device = model.positional_embedding.device
    parts = [texts[start : start + chunk] for start in range(0, len(texts), chunk)]
    return torch.cat([encode_text(model, tokenize(part).to(device)) for part in parts])
