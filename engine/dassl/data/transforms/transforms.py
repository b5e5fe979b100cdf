"""Build the transforms of training and test, in Dassl.pytorch's order in any case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torchvision.transforms as T
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from yacs.config import CfgNode

from dassl.utils import check_availability
from dassl.utils.logger import LOGGER

from .operations import (
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    RandomCrop,
    RandomTranslation,
)

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}

POLICIES = {
    "autoaugment": AutoAugmentPolicy.IMAGENET,
    "imagenet_policy": AutoAugmentPolicy.IMAGENET,
    "cifar10_policy": AutoAugmentPolicy.CIFAR10,
    "svhn_policy": AutoAugmentPolicy.SVHN,
}

AVAI_CHOICES = [
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",  # accepted in YAMLs; the test transform always crops
    "cutout",
    *POLICIES,
    "randaugment",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
]

Step = tuple[str, Any]  # what the log says, the transform


def interpolation_mode(cfg: CfgNode) -> InterpolationMode:
    """Return the mode named by INPUT.INTERPOLATION."""
    check_availability(cfg.INPUT.INTERPOLATION, INTERPOLATION_MODES, "INPUT.INTERPOLATION")
    return INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> T.Compose | None:
    """Build the transform from a PIL image to a tensor (3, H, W).

    Args:
        cfg: the node INPUT is read.
        is_train: training or test.
        choices: names used instead of INPUT.TRANSFORMS.

    Returns:
        The transform, or ``None`` if INPUT.NO_TRANSFORM is set.

    Raises:
        ValueError: a name is unknown; the message has the nearest known one.
    """
    if cfg.INPUT.NO_TRANSFORM:
        LOGGER.info("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        check_availability(choice, AVAI_CHOICES, "transform")

    LOGGER.info(f"Building transform_{'train' if is_train else 'test'}")
    image_steps = _train_image_steps(cfg, choices) if is_train else _test_image_steps(cfg)
    steps = image_steps + _tensor_steps(cfg, choices, is_train)
    for text, _ in steps:
        LOGGER.info(f"+ {text}")
    return T.Compose([transform for _, transform in steps])


def _size_text(cfg: CfgNode) -> str:
    return f"{cfg.INPUT.SIZE[0]}x{cfg.INPUT.SIZE[1]}"


def _test_image_steps(cfg: CfgNode) -> list[Step]:
    if cfg.INPUT.RESIZE_MODE == "squash":
        return [(f"resize to {_size_text(cfg)}", T.Resize(cfg.INPUT.SIZE, interpolation_mode(cfg)))]
    short_side = max(cfg.INPUT.SIZE)
    return [
        (f"resize the smaller edge to {short_side}", T.Resize(short_side, interpolation_mode(cfg))),
        (f"{_size_text(cfg)} center crop", T.CenterCrop(cfg.INPUT.SIZE)),
    ]


def _train_image_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    size, mode = cfg.INPUT.SIZE, interpolation_mode(cfg)
    steps: list[Step] = []
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        steps.append((f"resize to {_size_text(cfg)}", T.Resize(size, mode)))
    if "random_translation" in choices:
        steps.append(("random translation", RandomTranslation(size)))
    if "random_crop" in choices:
        padding = cfg.INPUT.CROP_PADDING
        crop = RandomCrop(size, padding, mode)
        steps.append((f"random crop (padding = {padding})", crop))
    if "random_resized_crop" in choices:
        scale = cfg.INPUT.RRCROP_SCALE
        crop = T.RandomResizedCrop(size, scale=scale, interpolation=mode)
        steps.append((f"random resized crop (size={size}, scale={scale})", crop))
    if "random_flip" in choices:
        steps.append(("random flip", T.RandomHorizontalFlip()))
    for name, policy in POLICIES.items():
        if name in choices:
            steps.append((name.replace("_", " "), T.AutoAugment(policy)))
    if "randaugment" in choices:
        n, m = cfg.INPUT.RANDAUGMENT_N, cfg.INPUT.RANDAUGMENT_M
        steps.append((f"randaugment (n={n}, m={m})", T.RandAugment(n, m)))
    return steps + _colour_steps(cfg, choices)


def _colour_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    steps: list[Step] = []
    if "colorjitter" in choices:
        b, c = cfg.INPUT.COLORJITTER_B, cfg.INPUT.COLORJITTER_C
        s, h = cfg.INPUT.COLORJITTER_S, cfg.INPUT.COLORJITTER_H
        text = f"color jitter (brightness={b}, contrast={c}, saturation={s}, hue={h})"
        steps.append((text, T.ColorJitter(b, c, s, h)))
    if "randomgrayscale" in choices:
        steps.append(("random gray scale", T.RandomGrayscale(cfg.INPUT.RGS_P)))
    if "gaussian_blur" in choices:
        kernel = cfg.INPUT.GB_K
        blur = T.RandomApply([T.GaussianBlur(kernel)], p=cfg.INPUT.GB_P)
        steps.append((f"gaussian blur (kernel={kernel})", blur))
    return steps


def _tensor_steps(cfg: CfgNode, choices: Sequence[str], is_train: bool) -> list[Step]:
    steps: list[Step] = [("to torch tensor of range [0, 1]", T.ToTensor())]
    if is_train and "cutout" in choices:
        n, length = cfg.INPUT.CUTOUT_N, cfg.INPUT.CUTOUT_LEN
        steps.append((f"cutout (n_holes={n}, length={length})", Cutout(n, length)))
    if "normalize" in choices:
        mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
        steps.append((f"normalization (mean={mean}, std={std})", T.Normalize(mean, std)))
    if is_train and "gaussian_noise" in choices:
        mean, std = cfg.INPUT.GN_MEAN, cfg.INPUT.GN_STD
        steps.append((f"gaussian noise (mean={mean}, std={std})", GaussianNoise(mean, std)))
    if "instance_norm" in choices:
        steps.append(("instance normalization", InstanceNormalization()))
    return steps
