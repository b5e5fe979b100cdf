"""The prompted image encoder over an unmodified CLIP.

Letters: B images, N patches, T prompt tokens, J prompted layers, d width, D joint width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from prompting.towers import image_tower


def embed_image(model: nn.Module, images: Tensor) -> Tensor:
    """Return what enters the first layer, whatever the prompts: [CLS] and the patches.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution.

    Returns:
        (B, 1 + N, d), behind `ln_pre`; of a ResNet tower the images as they are. (A tower without
        a class token has N.)
    """
    tower = image_tower(model)
    return images if tower is None else tower.embed(images)


def encode_image(
    model: nn.Module,
    images: Tensor,
    prompts: Sequence[Tensor] = (),
    adapters: Sequence[Callable[[Tensor], Tensor] | None] = (),
) -> Tensor:
    """Encode images: features (B, D), not normalised, in the model's dtype.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution; or what `embed_image` made of
            them, where the same images go through the tower more than once.
        prompts: (J, T, d), or J tensors (T, d). Layer 1 appends T tokens behind the patches, after
            the positional embedding and before `ln_pre`; layers 2..J overwrite them at their input;
            deeper layers keep what flows through (IVLP, MaPLe's code base). None of them gives
            CLIP's own features; a ResNet tower takes nothing else.
        adapters: for each layer a function of its normalised input, added to its output, or None.
    """
    tower = image_tower(model)
    if tower is None:
        return model.encode_image(images)
    x = tower.embed(images) if images.ndim == 4 else images
    layers = [prompt.type(x.dtype) for prompt in prompts]
    length = x.shape[1]
    last = len(tower.blocks) - 1
    for index in range(len(tower.blocks)):
        if index < len(layers):
            prompt = tower.enter(layers[0]) if index == 0 else layers[index]
            x = torch.cat([x, prompt.expand(x.shape[0], -1, -1)], dim=1)
        needed = None
        if index == last:  # only [CLS] is read, or only the tower's own tokens
            needed = _leading(tower.read or length)
        elif index + 1 < len(layers):  # the next layer's prompts take the place of these
            needed = _leading(length)
        adapter = adapters[index] if index < len(adapters) else None
        x = tower.run(index, x, x.shape[1] - length, adapter, needed)
    return tower.project(x)


def _leading(count: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, :count]
