"""Images as CLIP takes them."""

from collections.abc import Callable

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
    return _transform(resolution)
