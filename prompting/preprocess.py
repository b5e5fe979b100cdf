"""Images as CLIP takes them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from clip.clip import _transform
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class ImageSettings:
    """Say how a model of open_clip was shown images.

    Attributes:
        mean, std: of the three channels.
        interpolation: bicubic or bilinear.
        resize_mode: "shortest" resizes the short side and crops the centre, "squash" both sides.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: str


def image_transform(
    resolution: int, settings: ImageSettings | None = None
) -> Callable[[Image.Image], Tensor]:
    """Return the model's own preprocessing, which makes a tensor (3, H, W) of a PIL image.

    CLIP's: the short side is resized to the resolution (bicubic), the centre is cropped, and the
    channels are normalised with CLIP's mean and standard deviation.

    Args:
        resolution: side of the square image in pixels.
        settings: of a model that was trained otherwise.
    """
    transform = _transform(resolution)
    if settings is not None:
        # An extra, which whoever has these settings has.
        from open_clip import image_transform as open_clip_transform

        transform = open_clip_transform(resolution, is_train=False, **asdict(settings))
    # First of all, as in an evaluation: a palette's numbers cannot be resized.
    return lambda image: transform(to_rgb(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB, as an evaluation reads it (`dassl.utils.read_image`).

    Grey images of 16 bits, which Pillow would turn white, are scaled from 0..65535 to 0..255.

    Raises:
        ValueError: its pixels have no known range.
    """
    # PNG and PGM may say "I" for 16 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        levels = image.convert("I").convert("F")
        image = levels.point(lambda level: level / 257 + 0.5).convert("L")  # which cuts, so rounds
    elif image.mode in ("I", "F"):
        raise ValueError(
            f"Its pixels, of mode {image.mode}, have no known range: save it with 8 bits per "
            "channel, or in 16-bit grey."
        )
    return image.convert("RGB")


def describe_preprocessing(
    resolution: int, settings: ImageSettings | None = None
) -> dict[str, Any]:
    """Return the same in plain values, for programs without torch (docs/predict.md has one).

    `size` is the resolution in pixels, `resample` PIL's number of the method, `mean` and `std` are
    those of the channels in 0..1.
    """
    if settings is None:
        steps = {type(step).__name__: step for step in _transform(resolution).transforms}
        interpolation = steps["Resize"].interpolation.value
        mean, std = steps["Normalize"].mean, steps["Normalize"].std
    else:
        interpolation, mean, std = settings.interpolation, settings.mean, settings.std
    return {
        "size": resolution,
        "resample": int(Image.Resampling[interpolation.upper()]),
        "mean": list(mean),
        "std": list(std),
    }
