"""Small layers that methods put between prompts, features and towers."""

import torch
from torch import Tensor, nn

from prompting.errors import ArgumentError


def linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """Return a layer with PyTorch's usual random weights, drawn from this generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    bound = inputs**-0.5
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


class ResidualAdapter(nn.Module):
    """Mixes features (..., D) with what a bottleneck makes of them (CLIP-Adapter).

    (1 - ratio) f + ratio relu(U relu(V f)),    V (D / reduction, D), U (D, D / reduction)

    Raises:
        ArgumentError: a reduction above the width.
    """

    def __init__(
        self, width: int, reduction: int, ratio: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        if reduction > width:
            raise ArgumentError("reduction", f"is {reduction}: the features are {width} wide.")
        self.ratio = ratio
        self.down = linear(width, width // reduction, generator, bias=False)
        self.up = linear(width // reduction, width, generator, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mixture, in fp32 where the features are not normalised yet."""
        features = features.float()
        mixed = self.up(self.down(features).relu()).relu()
        return torch.lerp(features, mixed.float(), self.ratio)


class _ScaleGradient(torch.autograd.Function):
    generate_vmap_rule = True  # each operation is its own for a stack of tensors

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return x as it is; its gradient is multiplied by `factor`."""
    return _ScaleGradient.apply(x, factor)
