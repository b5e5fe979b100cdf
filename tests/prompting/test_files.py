"""Text files in any encoding."""

import pytest

from prompting.files import read_text

TEXT = "a1 caf\u00e9\nb2 \u72ac\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_utf_8_or_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "names.txt").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "names.txt") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_both_orders_of_bytes(tmp_path, encoding):
    (tmp_path / "names.txt").write_bytes(f"\ufeff{TEXT}".encode(encoding))
    assert read_text(tmp_path / "names.txt") == TEXT


@pytest.mark.parametrize(
    "content, message",
    [
        ("a1 ant\nb2 caf\u00e9\n".encode("latin-1"), "got the byte 0xe9 in line 2: save it as UTF"),
        ("a1 \u72ac\n".encode("shift-jis"), "got the byte 0x8c in line 1: save it as UTF-8"),
        ("a1 ant\n".encode("utf-16-le"), "it holds zero bytes: save it as UTF-8"),
        (b"\xff\xfea", "names.txt must be text in UTF-8"),
        (b"\xef\xbb\xbfa1 ant\nb2 caf\xe9\n", "got the byte 0xe9 in line 2: save it as UTF-8"),
    ],
)
def test_other_encodings_are_refused_with_file_and_line(tmp_path, content, message):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"names.txt must be text in UTF-8, .*{message}|{message}"):
        read_text(tmp_path / "names.txt")
