"""Read, write and download files."""

from __future__ import annotations

import errno
import json
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse
from urllib.request import urlopen

import numpy as np
from PIL import Image
from tqdm import tqdm

from .logger import LOGGER

StrPath = str | PathLike[str]


def mkdir_if_missing(dirname: StrPath) -> None:
    """Make the folder and its parents."""
    Path(dirname).mkdir(parents=True, exist_ok=True)


def check_isfile(fpath: StrPath) -> bool:
    """Return True if ``fpath`` is a file; warn if not."""
    found = Path(fpath).is_file()
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


def listdir_nohidden(path: StrPath, sort: bool = False) -> list[str]:
    """Return the names in the folder ``path`` that do not start with a dot, sorted on request."""
    names = [entry.name for entry in Path(path).iterdir() if not entry.name.startswith(".")]
    return sorted(names) if sort else names


@contextmanager
def atomic_write(path: StrPath) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes so that readers see the old file or the whole new one.

    A crash, a power cut or an exception inside the block leaves the old file unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process number: containers that share a disk may have the same.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        # Name the file that was to be written, not the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that the new name of a file survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder and report one of these.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def read_json(fpath: StrPath) -> Any:
    """Read a JSON file; an error in its content names the file."""
    try:
        return json.loads(Path(fpath).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also where it is no UTF-8
        raise ValueError(
            f"{fpath} is not valid JSON ({error}): delete it or write it again."
        ) from error


def write_json(obj: Any, fpath: StrPath) -> None:
    """Write ``obj`` as indented JSON, atomically."""
    text = json.dumps(obj, indent=4, separators=(",", ": "))
    with atomic_write(fpath) as file:
        file.write(text.encode("utf-8"))


def read_image(path: StrPath) -> Image.Image:
    """Read an image as RGB, as CLIP does: alpha and EXIF orientation are ignored.

    Grey images of 16 bits, which Pillow would turn white, are scaled from 0..65535 to 0..255.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it is not an image, broken, too large, or has pixels of no known range.
    """
    with _opened(path) as image:
        if _has_16_bits(image):
            levels = np.rint(np.asarray(image, dtype=np.float32) / 257).astype(np.uint8)
            return Image.fromarray(levels).convert("RGB")
        return image.convert("RGB")


def check_image(path: StrPath) -> None:
    """Raise what `read_image` would, as far as the first bytes of the file tell."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: StrPath) -> Iterator[Image.Image]:
    """Open an image; Pillow's errors, also in the block, are raised again with file and remedy."""
    reason = remedy = ""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F") and not _has_16_bits(image):
                reason = f"its pixels, of mode {image.mode}, have no known range"
                remedy = "save it with 8 bits per channel, or in 16-bit grey"
            else:
                yield image
                return
    except FileNotFoundError:
        raise FileNotFoundError(
            f"No image at {path}. Check DATASET.ROOT and that the data set is unpacked there."
        ) from None
    except Image.DecompressionBombError:
        reason = f"it has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels"
        remedy = "make it smaller"
    except MemoryError:
        raise MemoryError(f"by the image {path}") from None
    except Exception as error:  # on broken bytes Pillow raises far more than OSError
        if isinstance(error, OSError) and error.errno:  # the machine's, not the image's
            raise type(error)(error.errno, error.strerror, str(path)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "the file is cut short or not an image, unpack or download it again"
    raise OSError(f"Cannot read the image {path} ({reason}): {remedy}.")


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether an image is grey with levels 0..65535; PNG and PGM may say "I" for these."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def download_url(url: str, dst: StrPath) -> None:
    """Download ``url`` (http or https) to the file ``dst``, with a progress bar.

    ``dst`` appears only after the whole file has been received.
    """
    if urlparse(url).scheme not in ("http", "https"):
        raise ValueError(f"Expected an http or https address, got {url!r}.")
    LOGGER.info(f'* url="{url}"')
    LOGGER.info(f'* destination="{dst}"')
    with urlopen(url) as response, atomic_write(dst) as file:
        size = response.headers.get("Content-Length")
        total = int(size) if size else None
        done = 0
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
                done += len(block)
        if total is not None and done != total:
            raise OSError(f"{url} ended after {done} of {total} bytes: download it again.")
