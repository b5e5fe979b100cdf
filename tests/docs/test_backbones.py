"""The tables of docs/backbones.md against open_clip's own architectures."""

import re

import pytest

from prompting import open_clip_models
from tests.docs.pages import text

PAGE = text("docs/backbones.md")


def rows(columns: int) -> list[list[str]]:
    found = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    return [row for row in found if len(row) == columns]


def test_architectures_are_refused_where_it_says_so(tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="needs the extra open_clip")
    (tmp_path / "file").touch()
    kinds = [row for row in rows(4) if "`" in row[1]]
    assert len(kinds) == 11
    for _, names, in_text, _ in kinds:
        for name in re.findall(r"`([^-`][^`]+)`", names):
            assert name in open_clip.list_models()
            if in_text == "refused":
                with pytest.raises(ValueError, match="takes no prompts here"):
                    open_clip_models.find(f"open_clip:{name}/{tmp_path / 'file'}")
            else:
                open_clip_models.find(f"open_clip:{name}/{tmp_path / 'file'}")


def test_parameters_follow_from_the_widths():
    open_clip = pytest.importorskip("open_clip", reason="needs the extra open_clip")
    counted = [row for row in rows(5) if row[0].startswith("`")]
    assert len(counted) == 5
    for row in counted:
        width_text, width_image, mmlop, ivlp = (int(cell.replace(",", "")) for cell in row[1:])
        config = open_clip.get_model_config(row[0].strip("`"))
        assert width_text == config["text_cfg"]["width"]
        assert width_image == config["vision_cfg"].get("width", width_image)
        assert mmlop == 9 * (4 + width_text + width_image)
        assert ivlp == 9 * 4 * (width_text + width_image)
