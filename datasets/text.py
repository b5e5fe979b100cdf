"""Check names and paths as texts: what CLIP would not tell apart, and what cannot be written."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from prompting.tokenizer import CLIP_TOKENIZER

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # \ud800...: not UTF-8
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\ufeff]")


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form: an "é" may be one character or two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def check_path(path: str) -> None:
    """Raise ValueError if a path cannot be written into logs and results."""
    if UNPRINTABLE.search(path):
        raise ValueError(
            f"the path {ascii(path)} must be UTF-8 without control characters such as a line "
            "break: rename the file or folder"
        )


def check_texts(names: Mapping[int, str], unique: bool = True) -> None:
    """Raise ValueError unless CLIP can tell the class names apart.

    It reads them in lower case, with spaces for underscores and for any white space, with HTML
    entities and broken Unicode resolved, and digit by digit.

    Args:
        names: by label.
        unique: False allows the same text for several labels.
    """
    for name in names.values():
        if UNPRINTABLE.search(name) or INVISIBLE.search(name):
            raise ValueError(
                f"the class name {ascii(name)} holds characters that cannot be seen or printed: "
                "rename the class"
            )
    texts = [name.replace("_", " ") for name in names.values()]
    tokens = CLIP_TOKENIZER.encode(texts)
    lengths = CLIP_TOKENIZER.words(tokens).tolist()
    seen: dict[tuple[int, ...], str] = {}
    for name, row, length in zip(names.values(), tokens.tolist(), lengths, strict=True):
        if not 1 <= length <= CLIP_TOKENIZER.limit:
            raise ValueError(
                f"the class name {name!r} has {length} tokens, CLIP takes 1 to "
                f"{CLIP_TOKENIZER.limit}: rename the class"
            )
        other = seen.setdefault(tuple(row[: length + 2]), name)
        if unique and other is not name:
            raise ValueError(
                f"the class names {other!r} and {name!r} are the same text for CLIP: rename one "
                "of the two classes, or merge them"
            )


def shorten(names: Sequence[str], shown: int = 12) -> str:
    """Return names in one line, of many the first ones and the last."""
    if len(names) > shown:
        names = [*names[: shown - 1], "...", names[-1]]
    return ", ".join(names)
