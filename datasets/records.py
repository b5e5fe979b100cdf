"""Record few-shot draws as JSON: relative paths, labels and class names."""

import logging
from collections import Counter
from pathlib import Path

from dassl.utils import read_json, write_json

from datasets.splits import Items

Entry = tuple[str, int, str]  # path relative to the image folder, label, class name
logger = logging.getLogger("dassl")


def log_small_classes(split: str, items: Items, shots: int) -> None:
    """Log how many classes have fewer images than shots."""
    counts = Counter(item.label for item in items)
    small = sum(count < shots for count in counts.values())
    if small:
        logger.info(
            f"fewer than {shots} {split} images in {small} of {len(counts)} classes; all of theirs "
            "are used"
        )


def read_record(path: Path, splits: list[str]) -> tuple[str, dict[str, list[Entry]]]:
    """Return the sha256 of the split file that was drawn from, and the entries by split."""
    try:
        record = read_json(str(path))
        entries = {s: [(str(p), int(y), str(c)) for p, y, c in record[s]] for s in splits}
        return str(record["split_sha256"]), entries
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no record of a few-shot draw ({error!r}); delete it to draw again"
        ) from error


def write_record(path: Path, record: dict) -> None:
    """Write a record, or log why it cannot be written: read-only data is normal on clusters."""
    folder = path.parent if path.parent.exists() else path.parent.parent
    try:
        if not folder.stat().st_mode & 0o222:  # root could write, against the owner's wish
            raise PermissionError(f"{folder} is read-only")
        write_json(record, path)
    except OSError as error:
        logger.info(f"the few-shot draw is not recorded because {path} cannot be written: {error}")
