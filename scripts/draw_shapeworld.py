"""Draw the demo world and its variants on one sheet: `python scripts/draw_shapeworld.py`."""

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets import shapes  # noqa: E402
from datasets.shapeworld import CLASSES, render_image  # noqa: E402

MARGIN = 130  # pixels for the names on the left


def draw(columns: int) -> Image.Image:
    """Draw one row per world and one column per class, evenly over the classes."""
    worlds = ["ShapeWorld", *shapes.VARIANTS]
    labels = [round(i * (len(CLASSES) - 1) / (columns - 1)) for i in range(columns)]
    size = (MARGIN + columns * shapes.SIZE, len(worlds) * shapes.SIZE)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, world in enumerate(worlds):
        pen.text((6, row * shapes.SIZE + shapes.SIZE // 2 - 6), world, fill="black")
        for column, label in enumerate(labels):
            place = (MARGIN + column * shapes.SIZE, row * shapes.SIZE)
            sheet.paste(render_image(world, "test", label, 0), place)
    return sheet


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    draw(columns=12).save(ROOT / "docs" / "shapeworld.jpg", quality=88)
