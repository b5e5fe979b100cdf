"""Append a checksum to files of ``torch.save``, and check it.

Such a file is a zip archive, which may end in a comment. The comment holds the SHA-256 of
everything before it, so other programs can read the file like any other.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import torch

ZIP_END, SEAL, HEX = b"PK\x05\x06", b"sha256:", 64
END_SIZE = 22  # bytes of a zip archive's end record without its comment


def sealed(state: Any) -> bytes:
    """Return the bytes that ``torch.save`` writes for ``state``, with their checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    # The archive ends in the length of its comment, which is 0 so far.
    data = buffer.getvalue()[:-2] + (len(SEAL) + HEX).to_bytes(2, "little") + SEAL
    return data + hashlib.sha256(data).hexdigest().encode()


def is_changed(data: bytes) -> bool:
    """Return True if ``data`` has a checksum, or a place for one, that does not match.

    A file without a checksum was written by another program and counts as unchanged.
    """
    body, checksum = data[:-HEX], data[-HEX:]
    end_record = body[-END_SIZE - len(SEAL) :]
    if not body.endswith(SEAL) and not end_record.startswith(ZIP_END):
        return False
    return hashlib.sha256(body).hexdigest().encode() != checksum
