"""The prompted image encoder over an unmodified CLIP.

Letters: B images, N patches, T prompt tokens, J prompted layers, d width, D joint width.
"""

from collections.abc import Callable, Sequence

import torch
from clip.model import CLIP, VisionTransformer
from torch import Tensor

from prompting.transformer import Project, project, run_block


def embed_image(model: CLIP, images: Tensor) -> Tensor:
    """Return what enters the first layer, whatever the prompts: [CLS] and the patches.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution.

    Returns:
        (B, 1 + N, d), behind `ln_pre`; of a ResNet tower the images as they are.
    """
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        return images
    x = visual.conv1(images.type(model.dtype)).flatten(2).transpose(1, 2)  # (B, N, d)
    x = torch.cat([visual.class_embedding.type(x.dtype).expand(len(x), 1, -1), x], dim=1)
    return visual.ln_pre(x + visual.positional_embedding.type(x.dtype))


def encode_image(
    model: CLIP,
    images: Tensor,
    prompts: Sequence[Tensor | None] = (),
    adapters: Sequence[Callable[[Tensor], Tensor] | None] = (),
    projections: Sequence[Project] = (),
) -> Tensor:
    """Encode images: features (B, D), not normalised, in the model's dtype.

    Args:
        images: (B, 3, H, W), normalised, at the model's resolution; or what `embed_image` made of
            them, where the same images go through the tower more than once.
        prompts: (J, T, d), or J tensors (T, d) or None. Layer 1 appends T tokens behind the
            patches, after the positional embedding and before `ln_pre`; layers 2..J overwrite them
            at their input; None and the layers after J keep what flows through (IVLP, MaPLe's code
            base). Where the first is deeper, it appends there (MMRL). No prompts give CLIP's own
            features; a ResNet tower takes nothing else.
        adapters: for each layer a function of its normalised input, added to its output, or None.
        projections: for each layer what makes its queries, keys and values; none: CLIP's own.
    """
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        return model.encode_image(images)
    x = _run_tower(visual, _embedded(model, images), prompts, adapters, projections, _leading(1))
    return visual.ln_post(x[:, 0]) @ visual.proj


def encode_image_tokens(
    model: CLIP, images: Tensor, prompts: Sequence[Tensor | None], count: int
) -> Tensor:
    """Encode images; return [CLS] and the last `count` prompt tokens, (B, 1 + count, d).

    They come behind `ln_post`, not projected. The arguments are those of `encode_image`.
    """
    visual = model.visual

    def needed(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], x[:, -count:]], dim=1)

    return visual.ln_post(_run_tower(visual, _embedded(model, images), prompts, (), (), needed))


def _embedded(model: CLIP, images: Tensor) -> Tensor:
    return embed_image(model, images) if images.ndim == 4 else images


def _run_tower(
    visual: VisionTransformer,
    x: Tensor,
    prompts: Sequence[Tensor | None],
    adapters: Sequence[Callable[[Tensor], Tensor] | None],
    projections: Sequence[Project],
    read: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return what `read` picks of the last layer's output."""
    layers = [None if prompt is None else prompt.type(x.dtype) for prompt in prompts]
    layers += [None] * (visual.transformer.layers + 1 - len(layers))
    length = x.shape[1]
    last = visual.transformer.layers - 1
    for index, block in enumerate(visual.transformer.resblocks):
        prompt = layers[index]
        if prompt is not None:
            prompt = visual.ln_pre(prompt) if index == 0 else prompt
            x = torch.cat([x, prompt.expand(len(x), -1, -1)], dim=1)
        needed = None
        if index == last:
            needed = read
        elif layers[index + 1] is not None:  # the next layer's prompts take the place of these
            needed = _leading(length)
        adapter = adapters[index] if index < len(adapters) else None
        own = projections[index] if index < len(projections) else project
        x = run_block(block, x, adapter=adapter, needed=needed, project=own)
    return x


def _leading(count: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, :count]
