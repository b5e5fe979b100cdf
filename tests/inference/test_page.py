"""The page is whole in one file, and sorts and filters in a browser where one is installed."""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from inference.page import SIDE, thumbnail, write_page
from prompting import Prediction

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PROBE = """<script>
var seen = function () {
  return Array.prototype.filter.call(document.querySelectorAll("#images li"), function (card) {
    return !card.hidden;
  }).map(function (card) { return card.querySelector(".name").textContent[0]; }).join("");
};
var set = function (id, value) {
  document.getElementById(id).value = value;
  document.forms[0].dispatchEvent(new Event("input"));
  return seen();
};
document.body.setAttribute("data-probe", JSON.stringify({
  order: seen(), high: set("sort", "high"), low: set("sort", "low"), name: set("sort", "name"),
  label: set("sort", "label"), cat: set("class", "cat"), all: set("class", ""),
  least: set("prob", "60"), none: set("prob", "0"), text: set("text", "B.PNG"),
  count: document.getElementById("count").textContent,
  markup: document.querySelectorAll("b.evil").length,
  images: Array.prototype.map.call(document.images, function (i) { return i.naturalWidth; }),
  skipped: document.querySelector("#skipped li").textContent
}));
</script></body>"""


@pytest.fixture
def page(tmp_path):
    """Four images and a broken file, with names that would be markup."""
    folder = tmp_path / "photos </script><b class=evil>"
    folder.mkdir(parents=True)
    found = []
    for name, label, prob in (("c", "cat", 0.5), ("a", "dog", 0.9), ("d", "cat", 0.7),
                              ("b", "<b class=evil>&", 0.55)):  # fmt: skip
        path = folder / f"{name}.png"
        Image.new("RGBA", (300, 100), (200, 30, 30, 255)).save(path)
        found.append(Prediction(path, (label, "owl"), (prob, 1 - prob)))
    found.append(Prediction(folder / "broken.png", error="cannot identify <it>"))
    write_page(tmp_path / "page.html", found, ["cat", "dog", "owl", "<b class=evil>&"])
    return tmp_path / "page.html"


def test_the_page_is_whole_in_one_file(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="|url\(|https?://|@import', text)
    assert text.count("</script>") == 2 and "PREDICTIONS" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [image["labels"][0] for image in data["images"]] == [
        "cat",
        "dog",
        "cat",
        "<b class=evil>&",
    ]
    assert data["skipped"][0]["error"] == "cannot identify <it>" and data["classes"] == 4


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "L", "CMYK"])
def test_thumbnails_are_small(tmp_path, mode):
    path = tmp_path / "image.tif"
    Image.new("RGB", (1200, 600), (250, 10, 10)).convert(mode).save(path)
    head, _, content = thumbnail(path).partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (SIDE, SIDE // 2) and image.mode == "RGB"


def thumbnail_of(image, path, **options):
    image.save(path, **options)
    return Image.open(io.BytesIO(base64.b64decode(thumbnail(path).partition(",")[2])))


def test_thumbnails_show_what_the_model_sees(tmp_path):
    """Neither turned by EXIF, which may be broken, nor white where grey has 16 bits."""
    image = Image.new("RGB", (90, 60), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for content in (exif, b"Exif\0\0no Exif", b"Exif\0\0II*\0"):
        assert thumbnail_of(image, tmp_path / "image.jpg", exif=content).size == (90, 60)
    grey = thumbnail_of(Image.new("I;16", (8, 8), 32768), tmp_path / "grey.png")
    assert abs(grey.getpixel((4, 4))[0] - 128) < 3


@pytest.mark.skipif(not BROWSER, reason="no browser here")
def test_it_sorts_and_filters_in_a_browser(page, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
             f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [BROWSER, *flags, probed.as_uri()], capture_output=True, text=True, timeout=120
    )
    probe = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert probe, done.stderr[-500:]
    found = json.loads(html.unescape(probe[1]))
    assert found == {
        "order": "cadb", "high": "adbc", "low": "cbda", "name": "abcd", "label": "bdca",
        "cat": "dc", "all": "bdca", "least": "da", "none": "bdca", "text": "b",
        "count": "1 of 4 shown", "markup": 0, "images": [SIDE] * 4,
        "skipped": found["skipped"],
    }  # fmt: skip
    assert found["skipped"].endswith("broken.png: cannot identify <it>")
