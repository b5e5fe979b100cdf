"""The prompted image encoder over an unmodified CLIP.

Letters: B images, N patches, T prompt tokens, J prompted layers, d width, D joint width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from prompting.errors import ArgumentError, counted
from prompting.openai_towers import ImageTower
from prompting.towers import image_tower
from prompting.transformer import Project, project


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

    Raises:
        ArgumentError: any of these for a ResNet tower.
    """
    tower = image_tower(model)
    if tower is None:
        _check_none(prompts=prompts, adapters=adapters, projections=projections)
        return model.encode_image(images)
    read = _leading(tower.read) if tower.read else None
    return tower.project(_run_tower(tower, images, prompts, adapters, projections, read))


def _check_none(**given: Sequence) -> None:
    for argument, layers in given.items():
        if len(layers):
            raise ArgumentError(
                argument,
                f"are for {counted(len(layers), 'layer')}, and this image tower is no plain "
                "transformer: give none, or choose a ViT.",
            )


def encode_image_tokens(
    model: nn.Module, images: Tensor, prompts: Sequence[Tensor | None], count: int
) -> Tensor:
    """Encode images; return [CLS] and the last `count` prompt tokens, (B, 1 + count, d).

    They come behind `ln_post`, not projected. The arguments are those of `encode_image`; the model
    is OpenAI's (`require_openai`).
    """

    def read(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], x[:, -count:]], dim=1)

    tokens = _run_tower(image_tower(model), images, prompts, (), (), read)
    return model.visual.ln_post(tokens)


def _run_tower(
    tower: ImageTower,
    images: Tensor,
    prompts: Sequence[Tensor | None],
    adapters: Sequence[Callable[[Tensor], Tensor] | None],
    projections: Sequence[Project],
    read: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Return what `read` picks of the last layer's output; None: the tower's own tokens."""
    x = tower.embed(images) if images.ndim == 4 else images
    layers = [None if prompt is None else prompt.type(x.dtype) for prompt in prompts]
    length = x.shape[1]
    last = len(tower.blocks) - 1
    layers += [None] * (last + 1 - len(layers))
    for index in range(last + 1):
        prompt = layers[index]
        if prompt is not None:
            prompt = tower.enter(prompt) if index == 0 else prompt
            x = torch.cat([x, prompt.expand(x.shape[0], -1, -1)], dim=1)
        needed = None
        if index == last:
            needed = read or _leading(length)
        elif layers[index + 1] is not None:  # the next layer's prompts take the place of these
            needed = _leading(length)
        adapter = adapters[index] if index < len(adapters) else None
        own = projections[index] if index < len(projections) else project
        x = tower.run(index, x, x.shape[1] - length, adapter, needed, own)
    return x


def _leading(count: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x[:, :count]
