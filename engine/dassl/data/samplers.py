"""Draw the order of the images, also from the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from itertools import islice

from torch.utils import data
from torch.utils.data import Sampler

from dassl.utils import check_availability


class SeededIndex(int):
    """The index of an image, with the seed of the epoch, from which its augmentation is drawn."""

    epoch_seed: int


class _Resumable:
    """Let the next pass of a sampler begin in the middle.

    The sampler skips, not the loader, because the loader would open every skipped image.

    Attributes:
        epoch_seed: what the indices of the next pass carry, as `SeededIndex`; None: nothing.
    """

    epoch_seed: int | None = None
    _skipped = 0
    _then: Callable[[], None] | None = None

    def resume_after(self, images: int, then: Callable[[], None]) -> None:
        """Skip the first ``images`` of the next pass; call ``then`` once its order is drawn."""
        self._skipped, self._then = images, then

    def __iter__(self) -> Iterator[int]:
        order = super().__iter__()
        if self._then is not None:
            order = self._rest(order)
        return order if self.epoch_seed is None else self._seeded(order, self.epoch_seed)

    def _seeded(self, order: Iterator[int], epoch_seed: int) -> Iterator[SeededIndex]:
        for index in map(SeededIndex, order):
            index.epoch_seed = epoch_seed
            yield index

    def _rest(self, order: Iterator[int]) -> Iterator[int]:
        skipped, then = self._skipped, self._then
        self._skipped, self._then = 0, None
        for _ in islice(order, skipped):
            pass
        then()
        yield from order


class RandomSampler(_Resumable, data.RandomSampler):
    """Draw a new order for every pass, as PyTorch's sampler does."""

    def draw(self, images: int) -> None:
        """Draw so many images per pass, in one order after the other (not upstream's)."""
        self._num_samples = images


class SequentialSampler(_Resumable, data.SequentialSampler):
    """Keep the order of the data set, as PyTorch's sampler does."""


SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(sampler_type: str, data_source: Sized) -> Sampler[int]:
    """Build a sampler by its name (upstream's samplers by domain or class are left out)."""
    check_availability(sampler_type, SAMPLERS, "sampler")
    return SAMPLERS[sampler_type](data_source)
