"""The order in which images are drawn, and going on in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from itertools import islice

from torch.utils import data
from torch.utils.data import Sampler

from dassl.utils import check_availability


class _Continuing:
    """A sampler whose next pass can begin in the middle.

    Not the loader skips, for it would open and augment every image on the way.
    """

    _skipped = 0
    _then: Callable[[], None] | None = None

    def go_on_after(self, images: int, then: Callable[[], None]) -> None:
        """Leave out the first ``images`` of the next pass; ``then`` is called once it is drawn."""
        self._skipped, self._then = images, then

    def __iter__(self) -> Iterator[int]:
        order = super().__iter__()
        if self._then is None:
            return order
        return self._rest(order)

    def _rest(self, order: Iterator[int]) -> Iterator[int]:
        skipped, then = self._skipped, self._then
        self._skipped, self._then = 0, None
        for _ in islice(order, skipped):
            pass
        then()
        yield from order


class RandomSampler(_Continuing, data.RandomSampler):
    """PyTorch's, which draws a new order for every pass."""


class SequentialSampler(_Continuing, data.SequentialSampler):
    """PyTorch's."""


SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(sampler_type: str, data_source: Sized) -> Sampler[int]:
    """Build a sampler by its name (upstream's samplers by domain or class are left out)."""
    check_availability(sampler_type, SAMPLERS, "sampler")
    return SAMPLERS[sampler_type](data_source)
