"""The prompted image encoder over an unmodified CLIP.

Letters: B images, N patches, T prompt tokens, J prompted layers, d width, D joint width.
"""

from collections.abc import Callable, Sequence

import torch
from clip.model import CLIP, VisionTransformer
from torch import Tensor

from prompting.blocks import run_block


def encode_image(
    model: CLIP,
    images: Tensor,
    prompts: Sequence[Tensor] = (),
    adapters: Sequence[Callable[[Tensor], Tensor] | None] = (),
) -> Tensor:
    """Features of the images, not normalised: (B, D) in the model's dtype.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution.
        prompts: (J, T, d), or J tensors (T, d). Layer 1 appends T tokens behind the patches, after
            the positional embedding and before `ln_pre`; layers 2..J overwrite them at their input;
            deeper layers keep what flows through (IVLP, MaPLe's code base). None of them gives
            CLIP's own features; a ResNet tower takes nothing else.
        adapters: for each layer a function of its normalised input, added to its output, or None.
    """
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        return model.encode_image(images)
    x = visual.conv1(images.type(model.dtype)).flatten(2).transpose(1, 2)  # (B, N, d)
    x = torch.cat([visual.class_embedding.type(x.dtype).expand(len(x), 1, -1), x], dim=1)
    x = x + visual.positional_embedding.type(x.dtype)
    layers = [prompt.type(x.dtype) for prompt in prompts]
    if layers:
        x = torch.cat([x, layers[0].expand(len(x), -1, -1)], dim=1)
    x = visual.ln_pre(x)
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(layers):
            prompt = layers[index].expand(len(x), -1, -1)
            x = torch.cat([x[:, : -prompt.shape[1]], prompt], dim=1)
        x, _ = run_block(block, x, adapter=adapters[index] if index < len(adapters) else None)
    return visual.ln_post(x[:, 0]) @ visual.proj
