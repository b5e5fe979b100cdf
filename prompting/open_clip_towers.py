"""open_clip's own transformers behind the answers of `openai_towers.py`.

Their names are OpenAI's. They differ in the activation, the heads and layer scale of their blocks
(which `run_block` reads from these), in the pooling, the projection, and whether the text tower is
causal. Nothing here imports open_clip: a model's towers say themselves what they are.
"""

import torch
from torch import Tensor, nn

from prompting.openai_towers import ImageTower, TextTower

BLOCK = "ResidualAttentionBlock"  # of open_clip; its "custom" ones are not driven


class OpenCLIPText(TextTower):
    """The `TextTransformer` of a CustomTextCLIP, or a CLIP that holds its parts."""

    @property
    def joint_width(self) -> int:
        projection = self.model.text_projection
        if projection is None:
            return self.width
        return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.transformer.get_cast_dtype()

    def project(self, x: Tensor) -> Tensor:
        x, projection = self.model.ln_final(x), self.model.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection


class OpenCLIPImage(ImageTower):
    """open_clip's `VisionTransformer`; patch dropout, which is for training it, is left out."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__(visual, visual.transformer.get_cast_dtype())
        if visual.pool_type != "tok" or visual.attn_pool is not None:
            self.read = None

    def project(self, x: Tensor) -> Tensor:
        return self.visual._pool(x)[0] @ self.visual.proj


def is_driven(transformer: nn.Module) -> bool:
    """Return whether `run_block` knows the blocks of this open_clip `Transformer`."""
    return all(type(block).__name__ == BLOCK for block in transformer.resblocks)
