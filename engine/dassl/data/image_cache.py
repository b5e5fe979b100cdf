"""Decoded images in memory, so that an epoch need not decode again what the one before did."""

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
    """Opens the images of ``data_source``, which must give the same picture every time.

    `fill` keeps the first ones up to a cap; the others are decoded whenever they are opened.
    Nothing is thrown out for another: an epoch needs every image once, so whatever was thrown out
    would be needed again before what took its place.

    It is filled before an epoch's worker processes are forked, and they share its memory; what a
    worker kept by itself would end with it. Where workers are not forked (macOS, Windows) each
    would hold a copy, so they get none and decode.

    Args:
        data_source: the images; in `fill` their ``open`` is called from several threads.
        megabytes: the cap, in units of 2**20 bytes; 0 keeps nothing.
        threads: how many decode, Pillow lets others run meanwhile; for a moment so many images
            may lie above the cap.
    """

    def __init__(self, data_source: Sequence[Datum], megabytes: int, threads: int = 1) -> None:
        self._source = data_source
        self._cap = megabytes * 2**20
        self._threads = threads
        self._kept: list[Image.Image] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def open(self, index: int) -> Image.Image:
        """The image with this number, the caller's own."""
        if self._kept is not None and 0 <= index < len(self._kept):
            return self._kept[index].copy()
        return self._source[index].open()

    def fill(self) -> None:
        """Decode up to the cap, the first time that it is called.

        Raises:
            OSError: an image that cannot be read.
        """
        if self._kept is not None or not self._cap:
            return
        kept, free = [], self._cap
        for image in self._decoded():
            free -= PIXEL * image.width * image.height
            if free < 0:
                break
            kept.append(image)
        self._kept = kept
        used = sum(PIXEL * image.width * image.height for image in kept) / 2**20
        LOGGER.info(f"{len(kept)} of {len(self._source)} images kept decoded, {used:.0f} MB")

    def _decoded(self) -> Iterator[Image.Image]:
        items = iter(self._source)
        with ThreadPoolExecutor(self._threads) as pool:
            while some := list(islice(items, self._threads)):
                yield from pool.map(lambda item: item.open(), some)
