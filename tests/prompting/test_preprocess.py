import numpy as np
import pytest
import torch
from dassl.data.transforms import build_transform
from dassl.utils import read_image
from PIL import Image

from experiment import cli
from prompting.preprocess import ImageSettings, image_transform, to_rgb


def test_preprocessing_is_that_of_the_evaluation():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))  # the demo world, 64 pixels
    expected = build_transform(cfg, is_train=False)(image)
    found = image_transform(64)(image)
    assert found.shape == (3, 64, 64)
    torch.testing.assert_close(found, expected)


def test_grey_images_and_palettes_become_rgb():
    assert image_transform(32)(Image.new("L", (40, 50), 128)).shape == (3, 32, 32)
    assert image_transform(32)(Image.new("P", (40, 50))).shape == (3, 32, 32)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "big-endian.tif", "grey.pgm"])
def test_grey_of_16_bits_is_scaled_as_in_the_evaluation(tmp_path, name):
    """Every level, and not cut at 255."""
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(levels)
    if name.startswith("big"):
        image = Image.frombytes("I;16B", (256, 256), levels.astype(">u2").tobytes())
    image.save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        found = np.asarray(to_rgb(image))
    assert np.array_equal(found, np.asarray(read_image(tmp_path / name)))
    assert len(np.unique(found)) == 256


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_no_known_range_are_refused_as_in_the_evaluation(tmp_path, dtype):
    Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "image.tif")
    with pytest.raises(OSError, match="have no known range"):
        read_image(tmp_path / "image.tif")
    with Image.open(tmp_path / "image.tif") as image, pytest.raises(
        ValueError, match="pixels, of mode [FI], have no known range: save it with 8 bits"
    ):  # fmt: skip
        image_transform(8)(image)


def test_a_backbone_brings_its_preprocessing(tiny_backbone):
    image = Image.new("RGB", (50, 40), (10, 200, 30))
    torch.testing.assert_close(tiny_backbone.preprocess(image), image_transform(32)(image))


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_is_the_evaluation_s_for_other_models_too(resize_mode, interpolation):
    """A model of open_clip: its settings, set in the configuration and in the library."""
    pytest.importorskip("open_clip", reason="needs the extra open_clip")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    cfg = cli.setup_cfg(cli.parse_args(["--trainer", "MMLoP"]))
    cfg.INPUT.SIZE = (32, 32)
    settings = ImageSettings((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation, resize_mode)
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = list(settings.mean), list(settings.std)
    cfg.INPUT.INTERPOLATION, cfg.INPUT.RESIZE_MODE = interpolation, resize_mode
    expected = build_transform(cfg, is_train=False)(image)
    assert torch.equal(image_transform(32, settings)(image), expected)
    palette = image.convert("P")
    assert torch.equal(
        image_transform(32, settings)(palette),
        image_transform(32, settings)(palette.convert("RGB")),
    )
