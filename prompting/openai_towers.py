"""Define what the prompted encoders ask of a tower, and OpenAI's answers.

A tower of another architecture is a subclass that overrides what differs: `open_clip_towers.py`,
`timm_towers.py`. Towers own no weights; they know where a model keeps its own, and drive its blocks
from outside. `towers.py` finds the towers of a model.

Letters: B images, H sequences of text, L tokens, d width, D joint width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prompting.transformer import Project, project, run_block

Adapter = Callable[[Tensor], Tensor] | None
Needed = Callable[[Tensor], Tensor] | None


class TextTower:
    """The text tower of a CLIP.

    Attributes:
        width, joint_width: d and D.
        dtype: of what flows through it.
        blocks: its layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.blocks = model.transformer.resblocks

    @property
    def width(self) -> int:
        return self.model.token_embedding.weight.shape[1]

    @property
    def joint_width(self) -> int:
        return self.model.text_projection.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def embeddings(self) -> Tensor:
        """The embedding of each token of the vocabulary, (vocabulary, d)."""
        return self.model.token_embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Return embeddings (..., d) of tokens, before positions are added."""
        return self.model.token_embedding(tokens).type(self.dtype)

    def positions(self, columns: Tensor) -> Tensor:
        """Return what is added to tokens that stand in these columns, (..., d)."""
        return self.model.positional_embedding[columns].type(self.dtype)

    def project(self, x: Tensor) -> Tensor:
        """Return the features (..., D) of the token (..., d) that stands for each text."""
        return self.model.ln_final(x).type(self.dtype) @ self.model.text_projection


class ImageTower:
    """The image tower of a CLIP.

    Attributes:
        width: d.
        blocks: its layers.
        read: how many tokens in front the pooling reads; None: all but the prompts.
        projects: whether its layers take a `projection`.
    """

    read: int | None = 1
    projects = True

    def __init__(self, visual: nn.Module, dtype: torch.dtype) -> None:
        self.visual, self.dtype = visual, dtype
        self.blocks = visual.transformer.resblocks

    @property
    def width(self) -> int:
        return self.visual.class_embedding.shape[0]

    def embed(self, images: Tensor) -> Tensor:
        """Return what enters the first layer, (B, L, d): the tower's own tokens."""
        visual = self.visual
        x = visual.conv1(images.type(self.dtype)).flatten(2).transpose(1, 2)  # (B, N, d)
        # Not len(x), a number in a traced graph: an exported tower would take one batch size.
        x = torch.cat([visual.class_embedding.type(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        return visual.ln_pre(x + visual.positional_embedding.type(x.dtype))

    def enter(self, prompt: Tensor) -> Tensor:
        """Return a prompt as it enters the first layer."""
        return self.visual.ln_pre(prompt)

    def run(
        self,
        index: int,
        x: Tensor,
        prompts: int,
        adapter: Adapter = None,
        needed: Needed = None,
        projection: Project = project,
    ) -> Tensor:
        """Apply a layer to tokens (B, L, d), of which the last `prompts` are prompts."""
        block = self.blocks[index]
        return run_block(block, x, adapter=adapter, needed=needed, project=projection)

    def project(self, x: Tensor) -> Tensor:
        """Return the features (B, D) of the tokens (B, read, d) behind the last layer."""
        return self.visual.ln_post(x[:, 0]) @ self.visual.proj
