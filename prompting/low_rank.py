"""Low-rank prompts, P = U V in both towers (MMLoP, arXiv 2602.21397, Eqs. 3 and 9).

    layer l        U_l            V_l,t                         P_l,t
                 +---+      +----------------+          +----------------+
               T |   |   r  |                | d_t  =  T |                | d_t    text tower
                 |   |      +----------------+          +----------------+
                 |   |
                 +---+         V_l,v                         P_l,v
                   r        +---------------------+     +---------------------+
               one U_l   r  |                     | d_v |                     | d_v  image tower
               per layer    +---------------------+     +---------------------+

U is the parameter `up`, V_t `text_down`, V_v `vision_down`.

At ViT-B/16 (T = 4, r = 1, J = 9, d_t = 512, d_v = 768) these are 9 (4 + 512 + 768) = 11,556
parameters; independent prompts have 9 * 4 (512 + 768) = 46,080.

Letters: J prompted layers, T prompt tokens, r rank, d_t and d_v the towers' widths.
"""

import torch
from torch import Tensor, nn

from prompting.errors import ArgumentError

INIT_STD = 0.05  # the paper's: of U, V_t and V_v, in every layer


class LowRankPrompts(nn.Module):
    """Prompts of both towers whose layers are products of two thin matrices.

    What the towers share is how a layer's prompt positions are composed; the V live in spaces of
    different width. Shared: U (J, T, r), V_t (J_t, r, d_t), V_v (J_v, r, d_v), where J is
    max(J_t, J_v). Not shared: a U for each tower (Eq. 3). All factors are drawn from N(0, std^2).

        prompts = LowRankPrompts(depths=(9, 9), tokens=(4, 4), widths=(512, 768), rank=1)
        text, vision = prompts()  # (9, 4, 512), (9, 4, 768)

    Args:
        depths: J_t and J_v.
        tokens: T of the text and of the image tower, equal where they share U.
        widths: d_t and d_v.
        rank: r.
        shared: use one U for both towers (the paper).
        per_layer: use a U for each layer (the paper); False, which is ours: one for all layers.
        std: standard deviation of the factors.
        generator: of the draws; None: PyTorch's global one.

    Raises:
        ArgumentError: a rank outside 1..min(T, d), a shared U where the towers have different T, a
            standard deviation that is not above 0.
    """

    def __init__(
        self,
        depths: tuple[int, int],
        tokens: tuple[int, int],
        widths: tuple[int, int],
        rank: int,
        shared: bool = True,
        per_layer: bool = True,
        std: float = INIT_STD,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(tokens, widths, rank, shared, std)

        def factor(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * std)

        def up(depth: int, length: int) -> nn.Parameter:
            return factor(depth if per_layer else min(depth, 1), length, rank)

        self.shared = shared
        if shared:
            self.up = up(max(depths), tokens[0])
        else:
            self.text_up, self.vision_up = map(up, depths, tokens)
        self.text_down = factor(depths[0], rank, widths[0])
        self.vision_down = factor(depths[1], rank, widths[1])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the text prompts (J_t, T, d_t) and the vision prompts (J_v, T, d_v)."""
        text_up = self.up if self.shared else self.text_up
        vision_up = self.up if self.shared else self.vision_up
        return _product(text_up, self.text_down), _product(vision_up, self.vision_down)


def _product(up: Tensor, down: Tensor) -> Tensor:
    """Return U V of each layer (J, T, d); a single U is for all of them."""
    # Expanded here: PyTorch multiplies a single matrix in another way while it is trained.
    return up[: len(down)].expand(len(down), -1, -1) @ down


def _check(
    tokens: tuple[int, int], widths: tuple[int, int], rank: int, shared: bool, std: float
) -> None:
    largest = min(*tokens, *widths)
    if not 1 <= rank <= largest:
        raise ArgumentError(
            "rank",
            f"is {rank}: it must be between 1 and min(T, width) = {largest}; independent prompts "
            "(FullRankPrompts, in a run LOW_RANK False) have no such limit.",
        )
    if shared and tokens[0] != tokens[1]:
        raise ArgumentError(
            "shared",
            "is True, and needs the same number of prompt tokens in both towers, got "
            f"{tokens[0]} and {tokens[1]}: give one number, or share no up-projection.",
        )
    if not std > 0:
        raise ArgumentError("std", f"is {std}: the factors' standard deviation must be above 0.")
