"""Links, names, keys, words and lists on the pages."""

import re
from pathlib import Path

import pytest

from benchmark import protocol
from datasets import FAMILY
from experiment.config import CONFIGS, defaults
from tests.docs.pages import PAGES, ROOT, prose, text

SCRIPTS = sorted(path for path in (ROOT / "scripts/mmlop").glob("*.sh") if path.name[0] != "_")
# Words that the glossary replaces, where they stand outside code.
REPLACED = r"\b(pictures?|rehearsals?|free prompts|anew|lifecycle|goes on|went on|told)\b"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    folder = (ROOT / page).parent
    links = re.findall(r'(?:\]\(|(?:src|srcset)=")([^)"]+)[)"]', text(page))
    for link in [link for link in links if "://" not in link]:
        path, _, anchor = link.partition("#")
        target = folder / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for name in re.findall(r"`((?:[\w-]+/)+[\w.-]+\.(?:py|yaml|md|sh|json|txt))`", text(page)):
        given = name.startswith(("output/", "configs/trainers/CoOp/vit"))
        assert given or (ROOT / name).exists() or (folder / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_keys_exist(page):
    sections = "DATALOADER|DATASET|INPUT|MODEL|OPTIM|TEST|TRAIN|TRAINER"
    found = set(re.findall(rf"`((?:{sections})\.[A-Z0-9_]+(?:\.[A-Z0-9_]+)*)\b(?!<)", text(page)))
    if page == "CONTRIBUTING.md":
        found -= {"TRAINER.SHALLOW"}
    known = list(defaults())
    for key in found:
        assert any(name == key or name.startswith(f"{key}.") for name in known), key


@pytest.mark.parametrize("page", PAGES)
def test_words_are_those_of_the_glossary(page):
    assert not re.findall(REPLACED, prose(page), re.IGNORECASE)


def test_the_readme_is_short_and_has_the_order_that_a_reader_looks_for():
    lines = text("README.md").splitlines()
    assert len(lines) <= 150
    titles = [line[3:] for line in lines if line.startswith("## ")]
    assert titles == [
        "Status", "Install", "Quick start", "Methods", "Reproduce the paper", "Documentation",
        "Citation",
    ]  # fmt: skip
    assert "none is ours" in text("README.md")  # the published figure is the paper's


def test_every_method_is_in_the_tables():
    page, ours = text("README.md"), sorted(path.name for path in (CONFIGS / "trainers").iterdir())
    assert len(ours) == 22
    for method in ours:
        assert f"`{method}`" in page, method
        assert re.search(rf"^## .*\b{method}\b", text("docs/methods.md"), re.MULTILINE), method


def test_the_keys_of_mmlop_are_all_explained():
    own = {key.rpartition(".")[2] for key in defaults() if key.startswith("TRAINER.MMLOP.")}
    section = text("docs/methods.md").partition("## MMLoP")[2].partition("\n## ")[0]
    named = {word for cell in re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
             for word in re.findall(r"`(\w+)`", cell)}  # fmt: skip
    assert named == own - {"PREC"}


def test_every_script_and_protocol_is_in_the_list_of_tables():
    page = text("docs/tables.md")
    missing = [path.name for path in SCRIPTS if path.name not in page and path.stem != "demo"]
    missing += [name for name in protocol.names() if f"`{name}`" not in page and name != "sweep"]
    assert not missing


def test_every_data_set_is_in_the_list():
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| `([\w-]+)` \| ([\d,]+) \|", text("docs/data.md"),
                      re.MULTILINE)  # fmt: skip
    stems = {loader.__name__: (stem, loader) for loader in FAMILY
             for stem in [protocol.dataset_stems()[loader.__name__]]}  # fmt: skip
    assert {row[0] for row in rows} == set(stems)
    for name, stem, folder, images in rows:
        known, loader = stems[name]
        assert (stem, folder) == (known, loader.dataset_dir), name
        assert int(images.replace(",", "")) == loader.images, name
