"""Class names as CLIP reads them."""

import clip
import pytest
import torch

from datasets.text import check_path, check_texts, nfc, shorten
from prompting.templates import class_prompts


def test_paths_that_cannot_be_written_are_refused():
    for path in ("ant/caf\udce9.png", "ant/a\nb.png", "a\tnt/0.png", "ant/\x7f.png", "\u2028"):
        with pytest.raises(ValueError, match="must be UTF-8 without control characters") as error:
            check_path(path)
        assert ascii(path) in str(error.value) and str(error.value).isascii()
    for path in ("caf\u00e9/1.png", "\u72ac/ 1.png", "Screenshot 1.23\u202fPM.png", "a&b;'\".png"):
        check_path(path)


SAME = [
    ("Crane", "crane"), ("tiger_cat", "tiger cat"), ("tiger  cat", "tiger cat "),
    ("salt & pepper", "salt &amp; pepper"), ("salt & pepper", "salt &amp;amp; pepper"),
    ("caf\u00e9", "cafe\u0301"), ("caf\u00e9", "caf\u00c3\u00a9"), ("tiger\u00a0cat", "tiger cat"),
    ("ice-cream", "ice - cream"), ("Boeing 737", "Boeing 7 37"), ("\uff23at", "Cat"),
    ("don\u2019t", "don't"), ("STRASSE", "strasse"), ("a b", "a\u2003b"),
]  # fmt: skip
DIFFERENT = [
    ("crane", "cranes"), ("tiger cat", "tigercat"), ("cafe", "caf\u00e9"), ("A310", "A-310"),
    ("737", "738"), ("missile", "missile 2"), ("\u72ac", "\u732b"),
]  # fmt: skip


def texts(names):
    """What the text encoder gets of these names, in a prompt."""
    return clip.tokenize(class_prompts(names, "a photo of a {}."))


@pytest.mark.parametrize("names", SAME, ids=str)
def test_names_that_are_one_text_for_clip_are_refused(names):
    assert torch.equal(*texts(names))
    for wanted in (names, names[::-1]):
        with pytest.raises(ValueError, match="are the same text for CLIP: rename one") as error:
            check_texts(dict(enumerate(("ant", *wanted))))
        assert all(repr(name) in str(error.value) for name in names)
    check_texts(dict(enumerate(names)), unique=False)


@pytest.mark.parametrize("names", DIFFERENT, ids=str)
def test_names_that_clip_tells_apart_pass(names):
    assert not torch.equal(*texts(names))
    check_texts(dict(enumerate(names)))


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "has 0 tokens, CLIP takes 1 to 75"),
        (" ", "has 0 tokens"),
        ("__", "has 0 tokens"),
        (" ".join(["zebra"] * 76), "has 76 tokens, CLIP takes 1 to 75"),
        ("caf\udce9", r"'caf\\udce9' holds characters that cannot be seen or printed"),
        ("red\nant", "cannot be seen or printed"),
        ("ant\u200b", r"'ant\\u200b' holds characters that cannot be seen"),
        ("\ufeffant", "cannot be seen or printed"),
    ],
)
def test_names_without_a_text_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_texts({0: "bee", 1: name})


def test_the_longest_name_passes():
    check_texts({0: "bee", 1: " ".join(["zebra"] * 75)})


def test_small_things():
    assert nfc("cafe\u0301") == "caf\u00e9" and nfc("ant") == "ant"
    assert shorten(["a", "b", "c"], 3) == "a, b, c"
    assert shorten(["a", "b", "c", "d", "e"], 3) == "a, b, ..., e"
