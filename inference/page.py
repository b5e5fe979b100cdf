"""Predictions as one HTML file with thumbnails, which needs no network and no other file.

The page draws itself from its data: there is nothing for a template engine to do.
"""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import atomic_write
from PIL import Image

from prompting.prediction import Prediction
from prompting.preprocess import to_rgb

TEMPLATE = Path(__file__).with_name("page.html")
SIDE = 224  # of a thumbnail at most, in pixels


def write_page(path: Path, predictions: Sequence[Prediction], classnames: Sequence[str]) -> None:
    """Write the page of these predictions; some 10 KB per image."""
    data = {
        "classes": len(classnames),
        "images": [
            {
                "file": p.filename,
                "thumbnail": thumbnail(p.path),
                "labels": p.labels,
                "probs": p.probs,
            }
            for p in predictions
            if not p.error
        ],
        "skipped": [{"file": p.filename, "error": p.error} for p in predictions if p.error],
    }
    # Within a script only "<" could end it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8").replace("PREDICTIONS", text)
    with atomic_write(path) as file:
        file.write(page.encode())


def thumbnail(path: Path) -> str:
    """Return an image, as the model sees it, as a small JPEG in a data address."""
    with Image.open(path) as image:
        image.draft("RGB", (SIDE, SIDE))  # JPEG alone: decodes at an eighth to a half of the size
        small = to_rgb(image)
    small.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
