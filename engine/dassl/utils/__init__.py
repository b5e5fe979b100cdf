"""Provide files, logging, seeds, registries, meters and checkpoints."""

from .checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)
from .files import (
    atomic_write,
    check_image,
    check_isfile,
    download_url,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    write_json,
)
from .logger import setup_logger
from .meters import AverageMeter, MetricMeter
from .registry import Registry, check_availability
from .tools import collect_env_info, count_num_param, set_random_seed, tolist_if_not

__all__ = [
    "AverageMeter",
    "MetricMeter",
    "Registry",
    "atomic_write",
    "check_availability",
    "check_image",
    "check_isfile",
    "collect_env_info",
    "count_num_param",
    "download_url",
    "latest_checkpoint",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "setup_logger",
    "tolist_if_not",
    "write_json",
]
