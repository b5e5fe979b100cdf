"""Hold what a file of weights cannot say: activation and width of the attention heads."""

from dataclasses import dataclass

from clip.model import CLIP, VisionTransformer
from torch import nn

from prompting.errors import ArgumentError

ACTIVATIONS = ("quick_gelu", "gelu")
HEAD_WIDTHS = (64, 64)  # OpenAI's


@dataclass(frozen=True)
class Architecture:
    """Say what the weights of an OpenAI-style CLIP were trained with.

    Attributes:
        activation: quick_gelu (OpenAI's) or gelu; empty where it is not known, which is quick_gelu.
        head_widths: of the text and of the image tower.

    Raises:
        ArgumentError: an unknown activation, anything but two widths.
    """

    activation: str = ""
    head_widths: tuple[int, int] = HEAD_WIDTHS

    def __post_init__(self) -> None:
        if self.activation not in ("", *ACTIVATIONS):
            known = " or ".join(ACTIVATIONS)
            raise ArgumentError("activation", f'is "{self.activation}": choose {known}.')
        widths = self.head_widths
        if len(widths) != 2 or not all(isinstance(w, int) and w > 0 for w in widths):
            raise ArgumentError(
                "head_widths", f"is {widths}: give two whole numbers, of the text and image tower."
            )

    @property
    def differs(self) -> bool:
        """Return whether this is not OpenAI's."""
        return self.activation == "gelu" or self.head_widths != HEAD_WIDTHS

    def check_published(self, name: str) -> None:
        """Refuse anything else for one of OpenAI's names, whose architecture is known."""
        if self.differs:
            argument = "activation" if self.activation == "gelu" else "head_widths"
            raise ArgumentError(
                argument,
                f'is {getattr(self, argument)}: "{name}" has quick_gelu and heads of '
                f"{HEAD_WIDTHS[0]}; other values are for files of weights.",
            )

    def apply(self, model: CLIP) -> None:
        """Give the blocks of both towers their heads and their activation."""
        towers = [model.transformer]
        if isinstance(model.visual, VisionTransformer):
            towers.append(model.visual.transformer)
        for tower, width in zip(towers, self.head_widths, strict=False):
            for block in tower.resblocks:
                block.attn.head_dim, block.attn.num_heads = width, tower.width // width
                if self.activation == "gelu":
                    block.mlp.gelu = nn.GELU()

    def __str__(self) -> str:
        text, image = self.head_widths
        return (
            f"{self.activation or ACTIVATIONS[0]} with heads {text} (text) and {image} (image) wide"
        )
