"""Images as CLIP takes them."""

from collections.abc import Callable
from typing import Any

from clip.clip import _transform
from PIL import Image
from torch import Tensor


def image_transform(resolution: int) -> Callable[[Image.Image], Tensor]:
    """Return CLIP's own preprocessing, which makes a tensor (3, H, W) of a PIL image.

    The short side is resized to the resolution (bicubic), the centre is cropped, and the channels
    are normalised with CLIP's mean and standard deviation.

    Args:
        resolution: side of the square image in pixels.
    """
    transform = _transform(resolution)
    # First of all, as in an evaluation: a palette's numbers cannot be resized.
    return lambda image: transform(image.convert("RGB"))


def describe_preprocessing(resolution: int) -> dict[str, Any]:
    """Return the same in plain values, for programs without torch (docs/predict.md has one).

    `size` is the resolution in pixels, `resample` PIL's number of the method, `mean` and `std` are
    those of the channels in 0..1.
    """
    steps = {type(step).__name__: step for step in _transform(resolution).transforms}
    normalize = steps["Normalize"]
    return {
        "size": steps["Resize"].size,
        "resample": int(Image.Resampling[steps["Resize"].interpolation.name]),
        "mean": list(normalize.mean),
        "std": list(normalize.std),
    }
