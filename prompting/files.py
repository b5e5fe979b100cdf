"""Write files whole or not at all; read texts whatever their encoding."""

import codecs
import os
import uuid
from contextlib import suppress
from pathlib import Path

MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside and rename: who reads sees the file before or the whole new one.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):  # not there any more
            part.unlink()


def check_folder(folder: Path) -> None:
    """Raise FileExistsError where a file is in the place of a folder, or of one above it."""
    for path in (folder, *folder.parents):
        if path.is_file():
            raise FileExistsError(f"{path} is a file and no folder: name another folder.")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        ValueError: it is in another encoding; the message names file and line.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        read = error.object  # without the byte order mark
        line = read.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} must be text in UTF-8, got the byte 0x{read[error.start]:02x} in line "
            f"{line}: save it as UTF-8"
        ) from None
    if "\0" in text:  # so looks UTF-16 without a mark
        raise ValueError(f"{path} must be text in UTF-8, it holds zero bytes: save it as UTF-8")
    return text
