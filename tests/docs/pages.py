"""The pages of this repository, and what is code in them."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT, ROOT / "docs")
PAGES = sorted(p.relative_to(ROOT).as_posix() for f in FOLDERS for p in f.glob("*.md"))


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text(page), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def without_blocks(page: str) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", text(page), flags=re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """The page without any code, comments, tags and targets of links."""
    return re.sub(r"`[^`\n]*`|<[^>]*>|\]\([^)]*\)", "", without_blocks(page))
