"""Keep decoded images in memory, so that later epochs need not decode them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from PIL import Image

from dassl.utils.logger import LOGGER

from .datasets import Datum

PIXEL = 4  # bytes; Pillow holds RGB in four


class ImageCache:
    """Open the images of ``data_source``, each of which must be the same every time.

    `fill` keeps the first images up to a cap; the others are decoded whenever they are opened.
    No image is evicted: an epoch needs every image once, so an evicted image would be needed
    again before its replacement.

    The cache is filled before an epoch's worker processes are forked, and they share its memory;
    a worker's own cache would end with the worker. Where workers are not forked (macOS, Windows)
    each would hold a copy, so they receive an empty cache and decode every image.

    Args:
        data_source: the images; `fill` calls their ``open`` from several threads.
        megabytes: the cap, in units of 2**20 bytes; 0 keeps nothing.
        threads: number of decoding threads (Pillow releases the GIL); the cap may be exceeded by
            this many images for a moment.
    """

    def __init__(self, data_source: Sequence[Datum], megabytes: int, threads: int = 1) -> None:
        self._source = data_source
        self._cap = megabytes * 2**20
        self._threads = threads
        self._kept: list[Image.Image] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def open(self, index: int) -> Image.Image:
        """Return the image at ``index``; the caller may change it."""
        if self._kept is not None and 0 <= index < len(self._kept):
            return self._kept[index].copy()
        return self._source[index].open()

    def fill(self) -> None:
        """Decode images up to the cap, once; later calls do nothing.

        Raises:
            OSError: an image cannot be read.
        """
        if self._kept is not None or not self._cap:
            return
        kept, remaining = [], self._cap
        for image in self._decoded():
            remaining -= PIXEL * image.width * image.height
            if remaining < 0:
                break
            kept.append(image)
        self._kept = kept
        used = sum(PIXEL * image.width * image.height for image in kept) / 2**20
        LOGGER.info(f"{len(kept)} of {len(self._source)} images kept decoded, {used:.0f} MB")

    def _decoded(self) -> Iterator[Image.Image]:
        items = iter(self._source)
        with ThreadPoolExecutor(self._threads) as pool:
            while batch := list(islice(items, self._threads)):
                yield from pool.map(lambda item: item.open(), batch)
