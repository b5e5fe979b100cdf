"""Learnable prompts: a context (CoOp), full rank in both towers (IVLP), or low rank (MMLoP).

Letters: C classes, J prompted layers, T prompt tokens, r rank, d_t and d_v the towers' widths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prompting.backbone import Backbone, require_transformer
from prompting.text import tokenize

NOISE = 0.02  # standard deviation of random prompts, as in CoOp and its descendants
INITS = ("svd", "normal", "zero")


@dataclass(frozen=True)
class PromptStart:
    """Full-rank prompts to start from: text (J_t, T_t, d_t), vision (J_v, T_v, d_v), on the CPU."""

    text: Tensor
    vision: Tensor


def context_text(context: str, n_ctx: int) -> str:
    """The words in front of the class name: `context`, or n_ctx placeholders where it is empty.

    Raises:
        ValueError: the context has fewer tokens than the prompt. (With more, the prompt replaces
            the first n_ctx; the others stay as frozen words.)
    """
    context = context.replace("_", " ").strip() or " ".join(["X"] * n_ctx)
    found = int(tokenize([context]).end) - 1
    if found < n_ctx:
        raise ValueError(
            f'CTX_INIT "{context}" has {found} tokens, fewer than the N_CTX of {n_ctx}: '
            "give more words, a smaller N_CTX, or an empty CTX_INIT for a random start."
        )
    return context


def initial_prompts(
    backbone: Backbone,
    context: str,
    tokens: tuple[int, int],
    depths: tuple[int, int],
    generator: torch.Generator,
) -> PromptStart:
    """IVLP's start: the words of `context` in layer 1 of the text tower, noise everywhere else.

    Args:
        context: words such as "a photo of a"; empty for noise there too.
        tokens: T of the text and of the image tower.
        depths: J of the text and of the image tower.

    Raises:
        ValueError: a backbone without a transformer image tower, a T below 1, a depth below 0 or
            beyond the tower's layers, a context of fewer than T tokens.
    """
    require_transformer(backbone)
    model = backbone.model
    for tower, count, depth, layers in (
        ("text", tokens[0], depths[0], model.transformer.layers),
        ("vision", tokens[1], depths[1], model.visual.transformer.layers),
    ):
        if depth and count < 1:
            raise ValueError(f"N_CTX for the {tower} tower is {count}: it must be at least 1.")
        if not 0 <= depth <= layers:
            raise ValueError(
                f"PROMPT_DEPTH for the {tower} tower is {depth}: this backbone takes 0 to {layers}."
            )
    if depths == (0, 0):
        raise ValueError("PROMPT_DEPTH is 0 in both towers: there is nothing to learn.")
    text = random_prompts((depths[0], tokens[0], model.transformer.width), generator)
    vision = random_prompts((depths[1], tokens[1], model.visual.transformer.width), generator)
    if context and depths[0]:
        text[0] = word_vectors(backbone, context_text(context, tokens[0]))[: tokens[0]]
    return PromptStart(text, vision)


def word_vectors(backbone: Backbone, words: str) -> Tensor:
    """CLIP's embeddings of the words' tokens, (tokens, d_t), fp32, on the CPU."""
    sentence = tokenize([words])
    weight = backbone.model.token_embedding.weight
    return weight[sentence.tokens[0, 1 : int(sentence.end)].to(weight.device)].float().cpu()


def random_prompts(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From N(0, 0.02^2), as in CoOp and its descendants."""
    return torch.randn(shape, generator=generator) * NOISE


def start_context(
    backbone: Backbone,
    words: str,
    n_ctx: int,
    generator: torch.Generator,
    classes: int | None = None,
) -> tuple[str, Tensor]:
    """What holds a context's place in the sentence, and the context to start from (CoOp).

    These are the words and their vectors, or n_ctx placeholders and noise where there are no words.

    Args:
        classes: C, for a context (C, T, d_t) that has one a class; None: one for all, (T, d_t).
    """
    shape = () if classes is None else (classes,)
    if words:
        vectors = word_vectors(backbone, words)
        return words, vectors.expand(*shape, -1, -1)
    width = backbone.model.transformer.width
    return " ".join(["X"] * n_ctx), random_prompts((*shape, n_ctx, width), generator)


class Context(nn.Module):
    """CoOp's context: the words around the class name, at the input of the text tower.

    Args:
        start: (T, d_t) for one context, (C, T, d_t) for one a class.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.ctx = nn.Parameter(start.clone())

    def forward(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The text prompts, of one layer, and no vision prompts."""
        return (self.ctx,), ()


class FullRankPrompts(nn.Module):
    """Free prompts of both towers, J_t T_t d_t + J_v T_v d_v parameters (IVLP)."""

    def __init__(self, start: PromptStart) -> None:
        super().__init__()
        self.text = nn.Parameter(start.text.clone())
        self.vision = nn.Parameter(start.vision.clone())

    def forward(self) -> tuple[Tensor, Tensor]:
        """Text prompts (J_t, T_t, d_t) and vision prompts (J_v, T_v, d_v)."""
        return self.text, self.vision


class NoPrompts(nn.Module):
    """Nothing to learn: CLIP as it is (zero-shot)."""

    def forward(self) -> tuple[Tensor, Tensor]:
        """No layer of prompts for either tower: two tensors (0, 0, 0)."""
        return torch.empty(0, 0, 0), torch.empty(0, 0, 0)


class LowRankPrompts(nn.Module):
    """P_l = U_l V_l in both towers, with U_l shared by them or not (MMLoP).

    Shared: U (J, T, r), V_t (J_t, r, d_t), V_v (J_v, r, d_v), where J = max(J_t, J_v). What the
    towers share is how a layer's prompt positions are composed; the V live in spaces of different
    width. With one U for all layers it is (1, T, r). The paper gives the factorisation; the start
    is ours, since the paper's is not known:

        svd     the best rank-r approximation of the full-rank start. What shares a U is
                approximated together, side by side: [P_t P_v] = U [V_t V_v].
        normal  U from N(0, 1 / r), V from N(0, 0.02^2), so that P has the noise's scale.
        zero    U from N(0, 1 / r), V zero, so that all prompts start at zero (as in LoRA).

    Args:
        start: full-rank prompts, of the same T in both towers when U is shared.

    Raises:
        ValueError: a rank outside 1..min(T, d), an unknown `init`, or a shared U where the towers
            have different T.
    """

    def __init__(
        self,
        start: PromptStart,
        rank: int,
        shared: bool,
        init: str,
        generator: torch.Generator,
        per_layer: bool = True,
    ) -> None:
        super().__init__()
        _check_low_rank(start, rank, shared, init)
        how = (rank, init, per_layer, generator)
        if shared:
            factors = _factorise_together(start.text, start.vision, *how)
            self.up, self.text_down, self.vision_down = map(nn.Parameter, factors)
        else:
            self.text_up, self.text_down = map(nn.Parameter, _factorise(start.text, *how))
            self.vision_up, self.vision_down = map(nn.Parameter, _factorise(start.vision, *how))
        self.shared = shared

    def forward(self) -> tuple[Tensor, Tensor]:
        """Text prompts (J_t, T, d_t) and vision prompts (J_v, T, d_v)."""
        text_up = self.up if self.shared else self.text_up
        vision_up = self.up if self.shared else self.vision_up
        text = text_up[: len(self.text_down)] @ self.text_down
        vision = vision_up[: len(self.vision_down)] @ self.vision_down
        return text, vision


def _check_low_rank(start: PromptStart, rank: int, shared: bool, init: str) -> None:
    text, vision = start.text.shape, start.vision.shape
    largest = min(*text[1:], *vision[1:])
    if not 1 <= rank <= largest:
        raise ValueError(
            f"RANK is {rank}: it must be between 1 and min(N_CTX, width) = {largest}. "
            "For free prompts set LOW_RANK False."
        )
    if shared and text[1] != vision[1]:
        raise ValueError(
            "A shared up-projection needs the same N_CTX in both towers, "
            f"got {text[1]} and {vision[1]}: set SHARED_UP False."
        )
    if init not in INITS:
        raise ValueError(f'INIT "{init}" is unknown: choose {", ".join(INITS)}.')


def _factorise(
    prompts: Tensor, rank: int, init: str, per_layer: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """U (J or 1, T, r) and V (J, r, d) that start as `init` says for prompts (J, T, d)."""
    depth, tokens, width = prompts.shape
    if depth == 0:  # a tower without prompts
        return torch.empty(0, tokens, rank), torch.empty(0, rank, width)
    if per_layer:
        return _start_factors(prompts, rank, init, generator)
    side_by_side = prompts.transpose(0, 1).reshape(1, tokens, depth * width)
    up, down = _start_factors(side_by_side, rank, init, generator)
    return up, down.view(rank, depth, width).transpose(0, 1).contiguous()


def _start_factors(
    prompts: Tensor, rank: int, init: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """U (J, T, r) and V (J, r, d) for prompts (J, T, d)."""
    depth, tokens, width = prompts.shape
    if init == "svd":
        # Each factor takes the square root of the singular values: equally long steps for both.
        left, values, right = torch.linalg.svd(prompts, full_matrices=False)
        root = values[:, :rank].sqrt()
        return left[..., :rank] * root[:, None, :], right[:, :rank] * root[..., None]
    up = torch.randn((depth, tokens, rank), generator=generator) * rank**-0.5
    noise = random_prompts((depth, rank, width), generator)
    return up, noise if init == "normal" else torch.zeros_like(noise)


def _factorise_together(
    text: Tensor,
    vision: Tensor,
    rank: int,
    init: str,
    per_layer: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """One U for both towers; the shallower one is filled up with zeros, which are cut off again."""
    depth = max(len(text), len(vision))
    both = torch.zeros(depth, text.shape[1], text.shape[2] + vision.shape[2])
    both[: len(text), :, : text.shape[2]] = text
    both[: len(vision), :, text.shape[2] :] = vision
    up, down = _factorise(both, rank, init, per_layer, generator)
    text_down, vision_down = down.split([text.shape[2], vision.shape[2]], dim=-1)
    return up, text_down[: len(text)].clone(), vision_down[: len(vision)].clone()
