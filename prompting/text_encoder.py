"""The prompted text encoder over an unmodified CLIP.

Letters: B images, C classes, L tokens, P prefix tokens that all classes share, N suffix tokens of
all classes together, T prompt tokens, J prompted layers, d width, D joint width.

The tower is causal, so much of the work can be left out without changing the result: nothing after
the end-of-text token is computed, the tokens before the first one that differs between the classes
([SOS], the prompt, frozen context words) run once for all of them, and in the last layer only [EOT]
is computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import clip
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor

from prompting.errors import ArgumentError
from prompting.text_packing import Packing, pack
from prompting.transformer import Project, project, run_block

CONTEXT_LENGTH = 77
MEASURED_LENGTH = 512  # texts are tokenised up to here, so that an error can name their length
POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class TokenizedPrompts:
    """One tokenised text per class, cut behind the longest.

    Attributes:
        tokens: (C, L), L the longest with its [SOS] and [EOT].
        end: (C,) position of [EOT].
        source: (C, L) which of the T prompt tokens replaces this one, -1 for none.
        packing: all tokens end to end, the prefix that all classes share once.
        packing_per_class: the same where each class has prompts of its own: the prefix is [SOS].
    """

    tokens: Tensor
    end: Tensor
    source: Tensor
    packing: Packing
    packing_per_class: Packing

    @property
    def prefix(self) -> int:
        """P, how many leading tokens are the same for all; at least [SOS]."""
        return self.packing.prefix

    def to(self, device: torch.device) -> "TokenizedPrompts":
        """Return the same on another device."""
        return TokenizedPrompts(*(getattr(self, field.name).to(device) for field in fields(self)))


def tokenize(texts: Sequence[str], prompt: int = 0) -> TokenizedPrompts:
    """Tokenise texts whose first `prompt` tokens, T, a prompt will replace.

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
                "context or the class name."
            )
        if length < prompt:
            raise ValueError(f'"{text}" has {length} tokens, fewer than the prompt\'s {prompt}.')
    tokens = tokens[:, : int(end.max()) + 1]
    source = torch.full_like(tokens, -1)
    source[:, 1 : 1 + prompt] = torch.arange(prompt)
    return _tokenized(tokens, end, source)


def move_classnames(
    tokenized: TokenizedPrompts, classnames: Sequence[str], position: str
) -> TokenizedPrompts:
    """Return the tokens with the class name in the middle of the prompt, or in front (CoOp).

    Args:
        tokenized: of `classnames`, each with its name right behind the prompt.
        position: "end" (as they are), "middle" (behind the first T // 2 tokens) or "front".

    Raises:
        ArgumentError: another position.
    """
    if position not in POSITIONS:
        raise ArgumentError("position", f'is "{position}": choose {", ".join(POSITIONS)}.')
    if position == "end":
        return tokenized
    count = int(tokenized.source.max()) + 1
    before = count // 2 if position == "middle" else 0
    order = torch.arange(tokenized.tokens.shape[1]).repeat(len(classnames), 1)
    for row, length in zip(order, (tokenize(classnames).end - 1).tolist(), strict=True):
        name, behind = row[1 + count : 1 + count + length], row[1 + before : 1 + count]
        row[1 + before : 1 + count + length] = torch.cat([name, behind])
    return _tokenized(
        tokenized.tokens.gather(1, order), tokenized.end, tokenized.source.gather(1, order)
    )


def _tokenized(tokens: Tensor, end: Tensor, source: Tensor) -> TokenizedPrompts:
    """Find how far the texts agree, and lay them out."""
    visible = torch.where(source >= 0, -1 - source, tokens)  # what stands in a slot is not seen
    differs = (visible != visible[0]).any(dim=0)
    common = int(differs.int().argmax()) if differs.any() else tokens.shape[1]
    # Each text keeps at least its own [EOT]: its output is the text's feature.
    prefix = min(common, int(end.min()))
    return TokenizedPrompts(tokens, end, source, pack(end, source, prefix), pack(end, source, 1))


def insert_tokens(tokenized: TokenizedPrompts, count: int) -> Packing:
    """Return the packing of prompts with so many tokens more behind [SOS], on their device."""
    end, source = tokenized.end.cpu() + count, F.pad(tokenized.source.cpu(), (count, 0), value=-1)
    return pack(end, source, tokenized.prefix + count).to(tokenized.end.device)


def encode_text(
    model: CLIP,
    tokenized: TokenizedPrompts,
    prompts: Sequence[Tensor | None] = (),
    adapters: Sequence[Callable[[Tensor], Tensor] | None] = (),
    projections: Sequence[Project] = (),
    inserted: tuple[Packing | None, Sequence[Tensor | None]] = (None, ()),
) -> Tensor:
    """Encode tokenised prompts: features (C, D), not normalised, in the model's dtype.

    Args:
        prompts: what replaces the slots at the input of layer 1, 2, ... J; None and the
            layers after J keep what flows through (IVLP, MaPLe's code base). Each is (T, d) for all
            classes, (C, T, d) with one per class, or (B, 1, T, d) with one per image, which gives
            features (B, C, D) and takes slots in front of the class names. In layer 1 the
            positional embedding is added as to any token. A tensor (J, T, d) will do; nothing
            gives CLIP's own features.
        adapters: for each layer a function of its normalised input, added to its output, or None.
        projections: for each layer what makes its queries, keys and values; none: CLIP's own.
        inserted: tokens (T, d) or None for each layer, and the packing that `insert_tokens` gave
            for them; the first ones are inserted behind [SOS] at the input of their layer, the next
            ones replace them (MMRL). They do not go with `prompts`.
    """
    prompts = [None if p is None else p.type(model.dtype) for p in prompts]
    per_image = [len(p) for p in prompts if p is not None and p.ndim == 4]
    packing, last = tokenized.packing, model.transformer.layers - 1
    x = model.token_embedding(tokenized.tokens[packing.row, packing.column]).type(model.dtype)
    x = x.expand(max(per_image, default=1), -1, -1)  # (1 or B, P + N, d)
    for index, block in enumerate(model.transformer.resblocks):
        prompt = prompts[index] if index < len(prompts) else None
        if prompt is not None:
            if prompt.ndim == 3 and packing is not tokenized.packing_per_class:
                x = packing.unpack(x, tokenized.packing_per_class)
                packing = tokenized.packing_per_class
            x = packing.fill(x, prompt)
        if index < len(inserted[1]) and inserted[1][index] is not None:
            tokens = inserted[1][index].type(x.dtype).expand(len(x), -1, -1)
            behind = 1 if packing is tokenized.packing else 1 + tokens.shape[1]
            x = torch.cat([x[:, :1], tokens, x[:, behind:]], dim=1)
            packing = inserted[0]
        if index == 0:
            x = x + model.positional_embedding[packing.column].type(model.dtype)
        adapter = adapters[index] if index < len(adapters) else None
        own = projections[index] if index < len(projections) else project
        if index < last:
            x = run_block(block, x, packing.attend, adapter, project=own)
        else:  # only [EOT] is read
            x = run_block(block, x, packing.attend_at_ends, adapter, packing.at_ends, own)
    features = model.ln_final(x).type(model.dtype) @ model.text_projection
    return features if per_image else features[0]


@torch.no_grad()
def encode_texts(model: CLIP, texts: Sequence[str], chunk: int = 512) -> Tensor:
    """Encode any number of texts by CLIP as it is: features (len(texts), D), not normalised."""
    device = model.positional_embedding.device
    parts = [texts[start : start + chunk] for start in range(0, len(texts), chunk)]
    return torch.cat([encode_text(model, tokenize(part).to(device)) for part in parts])
