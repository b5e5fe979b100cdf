"""The prompted text encoder over an unmodified CLIP.

Letters: B images, C classes, L tokens, P prefix tokens that all classes share, N suffix tokens of
all classes together, T prompt tokens, J prompted layers, d width, D joint width.

The tower is causal, so much of the work can be left out without changing the result: nothing after
the end-of-text token is computed, the tokens before the first one that differs between the classes
([SOS], the prompt, frozen context words) run once for all of them, and in the last layer only [EOT]
is computed. Towers that are not causal (SigLIP, CLIPA) see all tokens and the pads behind them:
there every text is of the full length, and only the last layer is saved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompting.errors import ArgumentError, check_list, counted
from prompting.text_packing import Movable, Packing, pack, pad
from prompting.tokenizer import CLIP_TOKENIZER, Tokenizer
from prompting.towers import text_tower
from prompting.transformer import Project, project, run_block

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True)
class TokenizedPrompts(Movable):
    """One tokenised text per class, cut behind the longest where the tower is causal.

    Attributes:
        tokens: (C, L), L the longest with its [SOS] and [EOT], or the context length.
        end: (C,) position of [EOT], or of the token that is read.
        source: (C, L) which of the T prompt tokens replaces this one, -1 for none.
        packing: all tokens end to end, the prefix that all classes share once; or side by side.
        packing_per_class: the same where each class has its own prompts: the prefix is [SOS].
        slots: T, how many tokens the prompts replace.
    """

    tokens: Tensor
    end: Tensor
    source: Tensor
    packing: Packing
    packing_per_class: Packing
    slots: int

    @property
    def prefix(self) -> int:
        """P, how many leading tokens are the same for all; at least [SOS]."""
        return self.packing.prefix


def tokenize(
    texts: Sequence[str], prompt: int = 0, tokenizer: Tokenizer = CLIP_TOKENIZER
) -> TokenizedPrompts:
    """Tokenise texts whose first `prompt` tokens, T, a prompt will replace.

    Args:
        tokenizer: that of the text tower, `Backbone.tokenizer`.

    Raises:
        ValueError: no text, a text of more tokens than the tower takes (CLIP's takes 75), or one
            shorter than the prompt.
        ArgumentError: one text in place of a list of them.
    """
    check_list("texts", texts)
    if not texts:
        raise ValueError("There is no text to tokenise: the list of class names is empty.")
    tokens = tokenizer.encode(texts)
    for text, length in zip(texts, tokenizer.words(tokens).tolist(), strict=True):
        if length > tokenizer.limit:
            raise ValueError(
                f'"{text}" has {length} tokens, and CLIP takes {tokenizer.limit}: shorten the '
                "context or the class name."
            )
        if length < prompt:
            found = counted(length, "token")
            raise ValueError(f'"{text}" has {found}, fewer than the prompt\'s {prompt}.')
    tokens = tokens[:, : tokenizer.context_length]
    end = tokenizer.end(tokens)
    if not tokenizer.full:
        tokens = tokens[:, : int(end.max()) + 1]
    source = torch.full_like(tokens, -1)
    source[:, tokenizer.lead : tokenizer.lead + prompt] = torch.arange(prompt)
    return _tokenized(tokens, end, source, tokenizer)


def move_classnames(
    tokenized: TokenizedPrompts,
    classnames: Sequence[str],
    position: str,
    tokenizer: Tokenizer = CLIP_TOKENIZER,
) -> TokenizedPrompts:
    """Return the tokens with the class name in the middle of the prompt, or in front (CoOp).

    Args:
        tokenized: of `classnames`, each with its name right behind the prompt.
        position: "end" (as they are), "middle" (behind the first T // 2 tokens) or "front".
        tokenizer: the one that `tokenized` comes from.

    Raises:
        ArgumentError: another position, or a text without its name right behind the prompt.
    """
    if position not in POSITIONS:
        raise ArgumentError("position", f'is "{position}": choose {", ".join(POSITIONS)}.')
    if position == "end":
        return tokenized
    count = tokenized.slots
    before = tokenizer.lead + (count // 2 if position == "middle" else 0)
    behind = tokenizer.lead + count
    order = torch.arange(tokenized.tokens.shape[1]).repeat(len(classnames), 1)
    names = tokenizer.encode(classnames)
    lengths = tokenizer.words(names).tolist()
    for index, (row, length) in enumerate(zip(order, lengths, strict=True)):
        found = tokenized.tokens[index, behind : behind + length]
        if not torch.equal(found, names[index, tokenizer.lead : tokenizer.lead + length]):
            raise ArgumentError(
                "position",
                f'is "{position}", and "{classnames[index]}" does not stand right behind the '
                f'{count} prompt tokens: give a template of so many words, then "{{}}" apart.',
            )
        name, prompt = row[behind : behind + length], row[before:behind]
        row[before : behind + length] = torch.cat([name, prompt])
    source = tokenized.source.gather(1, order)
    return _tokenized(tokenized.tokens.gather(1, order), tokenized.end, source, tokenizer)


def _tokenized(
    tokens: Tensor, end: Tensor, source: Tensor, tokenizer: Tokenizer
) -> TokenizedPrompts:
    """Find how far the texts agree, and lay them out."""
    if tokenizer.full:
        padding = pad(end, source, tokenizer.causal)
        return TokenizedPrompts(tokens, end, source, padding, padding, int(source.max()) + 1)
    visible = torch.where(source >= 0, -1 - source, tokens)  # what stands in a slot is not seen
    differs = (visible != visible[0]).any(dim=0)
    common = int(differs.int().argmax()) if differs.any() else tokens.shape[1]
    # Each text keeps at least its own [EOT]: its output is the text's feature.
    prefix = min(common, int(end.min()))
    packings = (pack(end, source, prefix), pack(end, source, 1))
    return TokenizedPrompts(tokens, end, source, *packings, int(source.max()) + 1)


def insert_tokens(tokenized: TokenizedPrompts, count: int) -> Packing:
    """Return the packing of prompts with so many tokens more behind [SOS], on their device."""
    end, source = tokenized.end.cpu() + count, F.pad(tokenized.source.cpu(), (count, 0), value=-1)
    return pack(end, source, tokenized.prefix + count).to(tokenized.end.device)


def encode_text(
    model: nn.Module,
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

    Raises:
        ArgumentError: prompts of another T than the texts have slots, or of other classes.
    """
    check_prompts(tokenized, prompts)
    tower = text_tower(model)
    prompts = [None if p is None else p.type(tower.dtype) for p in prompts]
    per_image = [len(p) for p in prompts if p is not None and p.ndim == 4]
    packing, last = tokenized.packing, len(tower.blocks) - 1
    x = tower.embed(tokenized.tokens[packing.row, packing.column])
    x = x.expand(max(per_image, default=1), -1, -1)  # (1 or B, P + N, d)
    for index in range(len(tower.blocks)):
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
            x = x + tower.positions(packing.column)
        adapter = adapters[index] if index < len(adapters) else None
        own = projections[index] if index < len(projections) else project
        attend, needed = packing.attend, None
        if index == last:  # only [EOT] is read
            attend, needed = packing.attend_at_ends, packing.at_ends
        x = run_block(tower.blocks[index], x, attend, adapter, needed, own)
    features = tower.project(x)
    return features if per_image else features[0]


def check_prompts(tokenized: TokenizedPrompts, prompts: Sequence[Tensor | None]) -> None:
    """Refuse prompts that would be left out in part, or be those of other classes."""
    classes = len(tokenized.end)
    for shape in [tuple(prompt.shape) for prompt in prompts if prompt is not None]:
        if shape[-2] != tokenized.slots or (len(shape) == 3 and shape[0] != classes):
            raise ArgumentError(
                "prompts",
                f"have the shape {shape}, and there are {classes} texts with {tokenized.slots} "
                "slots each: tokenise the texts for so many prompt tokens.",
            )


@torch.no_grad()
def encode_texts(
    model: nn.Module,
    texts: Sequence[str],
    chunk: int = 512,
    tokenizer: Tokenizer = CLIP_TOKENIZER,
) -> Tensor:
    """Encode any number of texts by CLIP as it is: features (len(texts), D), not normalised.

    Args:
        tokenizer: that of the text tower, `Backbone.tokenizer`.
    """
    device = text_tower(model).embeddings.device
    parts = [texts[start : start + chunk] for start in range(0, len(texts), chunk)]
    tokenized = (tokenize(part, tokenizer=tokenizer).to(device) for part in parts)
    return torch.cat([encode_text(model, part) for part in tokenized])
