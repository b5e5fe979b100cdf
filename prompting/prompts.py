"""Learnable prompts: a context (CoOp), or independent prompts in both towers (IVLP).

Those of MMLoP are in `low_rank.py`. Letters: C classes, J prompted layers, T prompt tokens, d_t and
d_v the towers' widths.
"""

import torch
from torch import Tensor, nn

from prompting.backbone import Backbone, require_transformer
from prompting.errors import ArgumentError, counted
from prompting.tokenizer import CLIP_TOKENIZER, Tokenizer

INIT_STD = 0.02  # of random prompts, as in CoOp and its descendants


def placeholders(count: int) -> str:
    """Return so many words of one token each, for prompts to replace."""
    return " ".join(["X"] * count)


def context_words(context: str, n_ctx: int, tokenizer: Tokenizer = CLIP_TOKENIZER) -> str:
    """Return the words in front of the class name: `context`, or placeholders where it is empty.

    Args:
        tokenizer: that of the backbone.

    Raises:
        ArgumentError: the context has fewer tokens than the prompt. (With more, the prompt replaces
            the first n_ctx; the others stay as frozen words.)
    """
    context = context.replace("_", " ").strip() or placeholders(n_ctx)
    found = tokenizer.count(context)
    if found < n_ctx:
        raise ArgumentError(
            "context",
            f'"{context}" has {counted(found, "token")}, fewer than the {n_ctx} prompt tokens: '
            "give more words, fewer prompt tokens, or no words, which initialises the prompts at "
            "random.",
        )
    return context


def tower_widths(backbone: Backbone) -> tuple[int, int]:
    """Return d_t and d_v."""
    return backbone.text.width, backbone.image.width


def check_prompt_sizes(
    backbone: Backbone, tokens: tuple[int, int], depths: tuple[int, int]
) -> None:
    """Refuse prompts that the towers of a backbone cannot take.

    Args:
        tokens: T of the text and of the image tower.
        depths: J of the text and of the image tower.

    Raises:
        ValueError: a backbone without a transformer image tower.
        ArgumentError: a T below 1, a depth below 0 or beyond the tower's layers, no depth at all.
    """
    require_transformer(backbone)
    for tower, count, depth, layers in (
        ("text", tokens[0], depths[0], len(backbone.text.blocks)),
        ("vision", tokens[1], depths[1], len(backbone.image.blocks)),
    ):
        if depth and count < 1:
            raise ArgumentError(f"{tower}_tokens", f"is {count}: it must be at least 1.")
        if not 0 <= depth <= layers:
            raise ArgumentError(
                f"{tower}_depth",
                f"is {depth}: the {tower} tower of this backbone takes 0 to {layers}.",
            )
    if depths == (0, 0):
        raise ArgumentError("text_depth", "is 0 in both towers: there is nothing to train.")


def initial_prompts(
    backbone: Backbone,
    context: str,
    tokens: tuple[int, int],
    depths: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return IVLP's initial prompts (J_t, T_t, d_t) and (J_v, T_v, d_v), on the CPU.

    `context` is in layer 1 of the text tower, all other values are random.

    Args:
        context: words such as "a photo of a"; empty for random values there too.
        tokens: T of the text and of the image tower.
        depths: J of the text and of the image tower.

    Raises:
        ValueError: as `check_prompt_sizes` does, and for a context of fewer than T tokens.
    """
    check_prompt_sizes(backbone, tokens, depths)
    widths = tower_widths(backbone)
    text = random_prompts((depths[0], tokens[0], widths[0]), generator)
    vision = random_prompts((depths[1], tokens[1], widths[1]), generator)
    if context and depths[0]:
        words = context_words(context, tokens[0], backbone.tokenizer)
        text[0] = word_embeddings(backbone, words)[: tokens[0]]
    return text, vision


def word_embeddings(backbone: Backbone, words: str) -> Tensor:
    """Return CLIP's embeddings of the words' tokens, (tokens, d_t), fp32, on the CPU."""
    tokenizer, weight = backbone.tokenizer, backbone.text.embeddings
    tokens = tokenizer.encode([words])[0, tokenizer.lead :][: tokenizer.count(words)]
    return weight[tokens.to(weight.device)].float().cpu()


def random_prompts(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from N(0, 0.02^2), as CoOp and its descendants do."""
    return torch.randn(shape, generator=generator) * INIT_STD


def initial_context(
    backbone: Backbone,
    words: str,
    n_ctx: int,
    generator: torch.Generator,
    classes: int | None = None,
) -> tuple[str, Tensor]:
    """Return what holds a context's place in the text, and the context's initial values (CoOp).

    These are the words and their embeddings, or n_ctx placeholders and random values where there
    are no words.

    Args:
        classes: C, for a context (C, T, d_t) that has one per class; None: one for all, (T, d_t).
    """
    shape = () if classes is None else (classes,)
    if words:
        embeddings = word_embeddings(backbone, words)
        return words, embeddings.expand(*shape, -1, -1)
    return placeholders(n_ctx), random_prompts((*shape, n_ctx, backbone.text.width), generator)


class Context(nn.Module):
    """CoOp's context: the words around the class name, at the input of the text tower.

    Args:
        initial: (T, d_t) for one context, (C, T, d_t) for one per class.
    """

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.ctx = nn.Parameter(initial.clone())

    def forward(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the text prompts, of one layer, and no vision prompts."""
        return (self.ctx,), ()


class FullRankPrompts(nn.Module):
    """Independent prompts of both towers, J_t T_t d_t + J_v T_v d_v parameters (IVLP)."""

    def __init__(self, text: Tensor, vision: Tensor) -> None:
        super().__init__()
        self.text = nn.Parameter(text.clone())
        self.vision = nn.Parameter(vision.clone())

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the text prompts (J_t, T_t, d_t) and the vision prompts (J_v, T_v, d_v)."""
        return self.text, self.vision


class NoPrompts(nn.Module):
    """Nothing to train: CLIP as it is (zero-shot)."""

    def forward(self) -> tuple[tuple, tuple]:
        """Return no prompts for either tower."""
        return (), ()
