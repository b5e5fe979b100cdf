"""The drawn figures of the documents: which files are written, and what is in them."""

import importlib
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAPER = "arXiv 2602.21397v1"


@pytest.fixture
def script(monkeypatch):
    """Import a script of docs/ as it runs there: its folder is on the path."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module


def published(folder: Path, rows: list[tuple[str, str, float]], parameters: dict) -> Path:
    """Write a small published.json of rows (method, source, HM) and counts."""
    entries = [
        {"method": method, "source": source, "average": [80.0, 70.0, hm]}
        for method, source, hm in rows
    ]
    path = folder / "published.json"
    path.write_text(json.dumps({"base2new": entries, "parameters": parameters}))
    return path


def printed(count: str, source: str = PAPER) -> dict[str, str]:
    return {"printed": count, "printed_in": source}


def check_files(paths: list[Path], name: str) -> None:
    """Check that the four files are there, nothing else is, and that they suit any page."""
    folder = paths[0].parent
    expected = {f"{name}_{theme}.{end}" for theme in ("light", "dark") for end in ("svg", "png")}
    assert {path.name for path in paths} == {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.width == 1600
            assert image.convert("RGBA").getpixel((2, 2))[3] == 0, "the page shows through"
    light, dark = (path.read_text() for path in sorted(folder.glob("*.svg"), reverse=True))
    assert ElementTree.fromstring(light).tag.endswith("svg")
    assert light != dark
    assert "<dc:date>" not in light, "it would differ every time"


def test_the_method_is_drawn(script, tmp_path):
    check_files(script("draw_method").draw_method(tmp_path / "out"), "method")


def test_the_published_table_is_drawn_always_the_same(script, tmp_path):
    rows = [("CLIP", PAPER, 71.7), ("MMLoP", PAPER, 79.7)]
    path = published(tmp_path, rows, {"MMLoP": printed("11.5K")})
    draw = script("draw_published").draw_published
    first, again = draw(tmp_path / "first", path), draw(tmp_path / "again", path)
    check_files(first, "published")
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in again]


def test_only_what_the_paper_prints_is_in_its_figure(script, tmp_path):
    rows = [
        ("CLIP", PAPER, 71.7),
        ("MMLoP", PAPER, 79.7),
        ("MaPLe", PAPER, 78.55),
        ("PromptSRC", "another paper", 79.97),
        ("IVLP", PAPER, 77.51),
        ("MMA", PAPER, 79.87),
        ("LASP", PAPER, 78.61),
    ]
    parameters = {
        "MMLoP": printed("11.5K") | {"count": 11_556},
        "MaPLe": printed("3.55M"),
        "PromptSRC": printed("46K"),
        "IVLP": {"count": 46_080},  # counted, not printed
        "MMA": printed("675K", "another paper"),
    }
    found = script("draw_published").paper_rows(published(tmp_path, rows, parameters))
    assert found == [("CLIP", 71.7, 0), ("MMLoP", 79.7, 11_500), ("MaPLe", 78.55, 3_550_000)]


def test_the_repository_s_published_data_have_the_twelve_rows(script):
    rows = {row.method: row for row in script("draw_published").paper_rows()}
    assert len(rows) == 12
    assert rows["MMLoP"][1:] == (79.7, 11_500)
    assert rows["PromptSRC"][1:] == (79.62, 46_000)
