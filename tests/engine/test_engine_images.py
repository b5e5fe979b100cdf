"""Images are read as CLIP reads them; what cannot be is refused with its file and a remedy."""

import struct
import zlib

import numpy as np
import pytest
from dassl.utils import check_image, read_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

LEVELS = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 0, 257, ... 65535
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(smooth).resize((24, 16), Image.BICUBIC)


EIGHT_BITS = [
    *[(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
    *[(mode, "tif") for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")],
    *[(mode, "jpg") for mode in ("L", "RGB", "CMYK", "YCbCr")],
    *[("RGB", suffix) for suffix in ("bmp", "gif", "webp", "ppm")],
]


@pytest.mark.parametrize("mode, suffix", EIGHT_BITS)
def test_eight_bits_are_read_as_clip_reads_them(photo, tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    photo.convert(mode).save(path)
    with Image.open(path) as image:
        try:
            expected = np.asarray(image.convert("RGB"))
        except OSError as error:  # Pillow 12 with a TIFF in YCbCr
            pytest.skip(f"Pillow does not read what it wrote: {error}")
    assert np.array_equal(pixels(path), expected)
    assert np.ptp(pixels(path)) > 100


def test_alpha_and_orientation_are_ignored_as_in_the_family(photo, tmp_path):
    rgba = photo.copy()
    rgba.putalpha(0)
    rgba.save(tmp_path / "clear.png")
    assert np.array_equal(pixels(tmp_path / "clear.png"), np.asarray(photo))
    palette = photo.convert("P")
    palette.save(tmp_path / "palette.png", transparency=0)
    assert np.array_equal(pixels(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "turned.png"), np.asarray(photo))


def write_16_bits(folder):
    Image.fromarray(LEVELS).save(folder / "grey.png")
    Image.fromarray(LEVELS).save(folder / "little.tif")
    Image.fromarray(LEVELS.astype(">u2")).save(folder / "big.tif")
    (folder / "grey.pgm").write_bytes(b"P5 16 16 65535\n" + LEVELS.astype(">u2").tobytes())
    return sorted(folder.iterdir())


def test_grey_of_16_bits_is_scaled(tmp_path):
    """Pillow's own conversion cuts at 255, which turns nearly all of them white."""
    paths = write_16_bits(tmp_path)
    assert len(paths) == 4
    for path in paths:
        with Image.open(path) as image:
            assert image.mode.startswith("I")
        assert np.array_equal(pixels(path), np.repeat(GREY[..., None], 3, axis=2)), path
    Image.fromarray(LEVELS + 128).save(tmp_path / "rounded.png")
    between = pixels(tmp_path / "rounded.png")[..., 0]
    assert np.array_equal(between[:-1], GREY[:-1])  # 128 of 257 rounds down


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused(tmp_path, kind):
    path = tmp_path / "image.tif"
    Image.fromarray(LEVELS.astype(kind)).save(path)
    for read in (read_image, check_image):
        with pytest.raises(OSError, match=f"{path} .its pixels, of mode .* no known range.: save"):
            read(path)


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (100, 100)).save(path)
    assert read_image(path).size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4999)
    for read in (read_image, check_image):
        with pytest.raises(OSError, match=f"{path} .it has more than 9,998 pixels.: make it small"):
            read(path)


RAISED = [
    SyntaxError("broken PNG file"), ValueError("bad"), struct.error("unpack"), zlib.error("-3"),
    IndexError("7"), KeyError("7"), TypeError("None"), EOFError(), OverflowError("int"),
    RuntimeError("decoder"), AttributeError("tile"), Image.UnidentifiedImageError("cannot"),
    OSError("image file is truncated"), NotImplementedError("BC7"), AssertionError(),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["open", "load"])
def test_whatever_pillow_raises_names_file_and_remedy(tmp_path, monkeypatch, error, when):
    path = tmp_path / "image.png"
    Image.new("RGB", (2, 2)).save(path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(*((Image, "open") if when == "open" else (Image.Image, "convert")), fail)
    with pytest.raises(OSError) as raised:
        read_image(path)
    printed = str(raised.value)
    assert printed.startswith(f"Cannot read the image {path} (") and "download it again" in printed


def test_errors_of_the_machine_stay_what_they_are(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    for error, kind in ((PermissionError(13, "Permission denied"), PermissionError),
                        (OSError(5, "Input/output error"), OSError)):  # fmt: skip
        with monkeypatch.context() as patch, pytest.raises(kind) as raised:
            patch.setattr(Image, "open", lambda _, error=error: (_ for _ in ()).throw(error))
            read_image(path)
        assert (raised.value.errno, raised.value.filename) == (error.errno, str(path))
    with monkeypatch.context() as patch, pytest.raises(MemoryError, match=str(path)):
        patch.setattr(Image, "open", lambda _: (_ for _ in ()).throw(MemoryError()))
        read_image(path)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(["png", "jpg", "gif", "tif", "webp", "bmp", "ppm"]), st.data())
@pytest.mark.filterwarnings("ignore")
def test_broken_bytes_give_an_image_or_its_name(photo, tmp_path, suffix, data):
    path = tmp_path / f"image.{suffix}"
    photo.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_image(path).mode == "RGB"
    except OSError as error:
        assert f"Cannot read the image {path} (" in str(error)
