"""The order in which images are drawn."""

from __future__ import annotations

from collections.abc import Sized

from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from dassl.utils import check_availability

SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(sampler_type: str, data_source: Sized) -> Sampler[int]:
    """Build a sampler by its name (upstream's samplers by domain or class are left out)."""
    check_availability(sampler_type, SAMPLERS, "sampler")
    return SAMPLERS[sampler_type](data_source)
