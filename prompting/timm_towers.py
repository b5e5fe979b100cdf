"""timm's vision transformers as open_clip holds them: SigLIP's, EVA02's, PE's and others.

Their blocks are run whole. The pooling (attention pooling without a class token in SigLIP, a class
token in EVA02) reads the tower's own tokens alone: prompts are attended to, not pooled.

Rotary positions (EVA02, PE) turn the queries and keys of patches, and not those of the tokens in
front of them. A prompt is such a token: it is turned by nothing, sine 0 and cosine 1, so it is the
same wherever it stands.
"""

import torch
from torch import Tensor, nn

from prompting.errors import ArgumentError
from prompting.openai_towers import Adapter, ImageTower, Needed
from prompting.transformer import Project, project

TRUNKS = ("VisionTransformer", "Eva")
BLOCKS = ("Block", "EvaBlock")  # normalised in front of attention and MLP, as an adapter expects


class TimmImage(ImageTower):
    """The `TimmModel` of open_clip, with a vision transformer as its trunk."""

    projects = False

    def __init__(self, visual: nn.Module) -> None:
        self.visual, self.trunk = visual, visual.trunk
        self.blocks = self.trunk.blocks
        self.dtype = next(self.trunk.parameters()).dtype
        if self.trunk.global_pool != "token" or self.trunk.attn_pool is not None:
            self.read = None

    @property
    def width(self) -> int:
        return self.trunk.embed_dim

    def embed(self, images: Tensor) -> Tensor:
        x = self.trunk._pos_embed(self.trunk.patch_embed(images.type(self.dtype)))
        x = x[0] if isinstance(x, tuple) else x  # Eva's has the rotation next to it
        return self.trunk.norm_pre(x)

    def enter(self, prompt: Tensor) -> Tensor:
        return self.trunk.norm_pre(prompt)

    def run(
        self,
        index: int,
        x: Tensor,
        prompts: int,
        adapter: Adapter = None,
        needed: Needed = None,
        projection: Project = project,
    ) -> Tensor:
        if projection is not project:
            raise ArgumentError("projections", "are given for a tower of timm: it takes none.")
        block = self.blocks[index]
        rope = self._rotation(prompts)
        out = block(x) if rope is None else block(x, rope=rope)
        if adapter is not None:
            out = out + adapter(block.norm1(x))
        return out if needed is None else needed(out)

    def project(self, x: Tensor) -> Tensor:
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(x)))

    def _rotation(self, prompts: int) -> Tensor | None:
        """Return sine and cosine for each patch, (N, 2 x), and for the prompts behind them."""
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            return None
        rotation = rope.get_embed(shape=self.trunk.patch_embed.grid_size)
        sine, cosine = rotation[:1].chunk(2, dim=-1)
        still = torch.cat([torch.zeros_like(sine), torch.ones_like(cosine)], dim=-1)
        return torch.cat([rotation, still.expand(prompts, -1)])


def is_driven(trunk: nn.Module) -> bool:
    """Return whether these blocks take prompts: one width, one grid, one rotation for all."""
    if type(trunk).__name__ not in TRUNKS or getattr(trunk, "rope_mixed", False):
        return False
    return all(type(block).__name__ in BLOCKS for block in trunk.blocks)
