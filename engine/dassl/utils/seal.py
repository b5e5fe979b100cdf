"""Files of ``torch.save`` that end in a checksum of themselves.

The SHA-256 of what comes before it stands in the comment that a zip archive, and so a file of
``torch.save``, may end in: other programs read such a file as any other.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import torch

ZIP_END, SEAL, HEX = b"PK\x05\x06", b"sha256:", 64
END_SIZE = 22  # bytes of a zip archive's end record without its comment


def sealed(state: Any) -> bytes:
    """What ``torch.save`` writes of ``state``, with its checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    # The archive ends in the length of its comment, which is 0 so far.
    data = buffer.getvalue()[:-2] + (len(SEAL) + HEX).to_bytes(2, "little") + SEAL
    return data + hashlib.sha256(data).hexdigest().encode()


def is_changed(data: bytes) -> bool:
    """Whether ``data`` has a checksum, or a place for one, and another content.

    False for a file without: written by another program.
    """
    body, checksum = data[:-HEX], data[-HEX:]
    end_record = body[-END_SIZE - len(SEAL) :]
    if not body.endswith(SEAL) and not end_record.startswith(ZIP_END):
        return False
    return hashlib.sha256(body).hexdigest().encode() != checksum
