"""Implement the few operations that torchvision lacks."""

from __future__ import annotations

import random

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torchvision.transforms import functional as F


class RandomTranslation:
    """Resize to ``size``, or with probability ``p`` to 9/8 of it and crop ``size`` at random.

    Args:
        size: height and width in pixels.
    """

    def __init__(self, size: tuple[int, int], p: float = 0.5) -> None:
        self.size = list(size)
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.uniform(0, 1) > self.p:
            return F.resize(image, self.size)
        height, width = self.size
        larger = [round(height * 1.125), round(width * 1.125)]
        # Upstream draws the left edge first: the order is part of the seed's meaning.
        left = round(random.uniform(0, larger[1] - width))
        top = round(random.uniform(0, larger[0] - height))
        return F.crop(F.resize(image, larger), top, left, height, width)


class RandomCrop(T.RandomCrop):
    """Pad and crop at random; where a crop does not fit, resize the smaller edge first, as CLIP.

    Args:
        size: height and width of the crop in pixels.
        padding: pixels added on each side.
        interpolation: how to resize.
    """

    def __init__(
        self, size: tuple[int, int], padding: int, interpolation: T.InterpolationMode
    ) -> None:
        super().__init__(size, padding)
        self.interpolation = interpolation

    def forward(self, img: Image.Image) -> Image.Image:
        height, width = (side - 2 * self.padding for side in self.size)
        if img.height < height or img.width < width:
            img = F.resize(img, max(self.size), self.interpolation)
        return super().forward(img)


class Cutout:
    """Set ``n_holes`` squares of side ``length`` at random centres to zero, image (C, H, W)."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        half = self.length // 2
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            image[..., max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0.0
        return image


class GaussianNoise:
    """Add normal noise of the given mean and standard deviation, with probability ``p``."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if random.uniform(0, 1) > self.p:
            return image
        return image + torch.randn(image.shape) * self.std + self.mean


class InstanceNormalization:
    """Give every channel of an image (C, H, W) mean 0 and standard deviation 1."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        mean = image.mean((-2, -1), keepdim=True)
        std = image.flatten(-2).std(-1)[..., None, None]
        return (image - mean) / (std + self.eps)
