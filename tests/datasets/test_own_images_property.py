"""A run has exactly the classes that a person sees in a tree, or is refused before any work.

What a person sees is written here on its own, in lists of words. SURVIVAL=full tries thousands.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from dassl.config import get_cfg_default
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import add_config
from datasets.__main__ import main
from datasets.image_folder import ImageFolder

EXAMPLES = 3000 if os.environ.get("SURVIVAL") == "full" else 60
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ROLES = {
    "train": "train", "Train": "train", "training": "train", "val": "val", "valid": "val",
    "validation": "val", "dev": "val", "test": "test", "TEST": "test", "testing": "test",
}  # fmt: skip
NO_CLASSES = [
    "images",
    "img",
    "data",
    "JPEGImages",
    "train_images",
    "seg_test",
    "test_set",
    "labels",
]
SAME_TEXT = {"crane": "crane", "Crane": "crane", "tiger_cat": "tiger cat", "tiger cat": "tiger cat"}
CLASSES = ["ant", "bee", "2750", "caf\u00e9", "bullet_train", "cooked", "raw", *SAME_TEXT]
HIDDEN = [".cache", "__MACOSX"]

# A folder is the number of images directly in it and the folders in it, by their names.
IMAGES = st.tuples(st.integers(0, 4), st.just({}))
CLASS = st.one_of(
    st.just((4, {})),
    st.just((4, {})),
    IMAGES,
    st.tuples(
        st.integers(0, 4),
        st.dictionaries(st.sampled_from(["ant", "images", "2021", ".hidden", "test"]), IMAGES),
    ),
)
CLASS_NAMES = st.sampled_from([*CLASSES, *CLASSES, *CLASSES, "train", *NO_CLASSES, *HIDDEN])
CLASS_FOLDERS = st.dictionaries(CLASS_NAMES, CLASS, max_size=4)


def alike(names, parts):
    """Folders of splits that hold the same classes, as most do."""
    return {part: (0, {name: (4, {}) for name in names}) for part in parts}


TREES = st.one_of(
    CLASS_FOLDERS,
    st.dictionaries(st.sampled_from(sorted(ROLES)), st.tuples(st.just(0), CLASS_FOLDERS)),
    st.builds(
        alike,
        st.lists(CLASS_NAMES, unique=True, max_size=4),
        st.lists(st.sampled_from(sorted(ROLES)), unique=True, max_size=4),
    ),
    st.builds(
        lambda a, b: {**a, **b}, CLASS_FOLDERS, CLASS_FOLDERS.map(lambda x: {"test": (0, x)})
    ),
)


def images_of(folder):
    """Count images in a folder, all in all; what is hidden does not count."""
    own, inner = folder
    return own + sum(images_of(f) for name, f in inner.items() if name not in HIDDEN + [".hidden"])


def classes_of(folders):
    """Return the folders that are classes, or None where they are none, or it is not clear."""
    folders = {name: folder for name, folder in folders.items() if name not in HIDDEN}
    for name, (own, inner) in folders.items():
        full = [f for n, f in inner.items() if n != ".hidden" and images_of(f)]
        several = len(full) > 1 and sum(map(images_of, full)) > own
        if name in NO_CLASSES or not images_of((own, inner)) or several:
            return None
        if name in ROLES and name != "train":
            return None
    if len(folders) < 2 or len({SAME_TEXT.get(name, name) for name in folders}) < len(folders):
        return None
    return folders


def person(tree):
    """Return the classes in a tree, or None where a person would ask."""
    seen = {name: folder for name, folder in tree.items() if name not in HIDDEN}
    splits = {name for name in seen if name in ROLES}
    if splits == {"train"} and len(seen) > 1 and seen["train"][0]:
        splits = set()  # a vehicle
    if not splits:
        classes = classes_of(seen)
        few = classes and min(map(images_of, classes.values())) < 3
        return None if classes is None or few else sorted(classes)
    roles = [ROLES[name] for name in seen if name in splits]
    enough = "test" in roles and ("train" in roles or roles == ["test"])
    if set(seen) != splits or len(set(roles)) < len(roles) or not enough:
        return None
    found = [classes_of(inner) for _, inner in seen.values()]
    if None in found or len({frozenset(classes) for classes in found}) > 1:
        return None
    return sorted(found[0])


@pytest.fixture(scope="module")
def pixel(tmp_path_factory):
    path = tmp_path_factory.mktemp("pixel") / "pixel.png"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


@pytest.fixture
def own(tmp_path, pixel):
    """Lay out a tree in an emptied folder."""

    def lay(folder: Path, images: int, inner: dict) -> None:
        folder.mkdir()
        for i in range(images):
            os.link(pixel, folder / f"{i}.png")
        for name, (below, folders) in inner.items():
            lay(folder / name, below, folders)

    def call(tree):
        shutil.rmtree(tmp_path / "own", ignore_errors=True)
        lay(tmp_path / "own", 0, tree)
        return tmp_path / "own"

    return call


def load(root, **keys):
    """Return the data set with all its images, or None where it is refused."""
    cfg = get_cfg_default()
    add_config(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS = str(root), -1
    for key, value in keys.items():
        cfg.DATASET.IMAGE_FOLDER[key] = value
    with suppress(ValueError, FileNotFoundError):
        return ImageFolder(cfg)


def verdict(capsys, root, *pairs):
    capsys.readouterr()
    status = main(["check", "--root", str(root), "ImageFolder", "--json", *pairs])
    (report,) = json.loads(capsys.readouterr().out)
    assert (status == 0) == (report["verdict"] == "ready")
    return report["verdict"]


@SETTINGS
@given(TREES)
@example({"train": (0, {"ant": (4, {}), "bee": (4, {})}), "val": (0, {"ant": (4, {})})})
@example({"test": (0, {"ant": (4, {}), "bee": (4, {})})})
@example({"ant": (4, {}), "train": (4, {})})
@example({"images": (0, {"ant": (4, {}), "bee": (4, {})})})
@example({"ant": (4, {}), "bee": (0, {"2021": (2, {}), "test": (3, {})})})
def test_a_tree_is_read_as_a_person_reads_it(own, capsys, tree):
    root, wanted = own(tree), person(tree)
    dataset = load(root)
    assert (dataset and dataset.classnames) == wanted
    assert verdict(capsys, root) == ("ready" if wanted else "broken")
    if not wanted:
        return
    assert dataset.test_only == ({ROLES.get(n) for n in tree if n not in HIDDEN} == {"test"})
    splits = dataset.split_source.startswith("the folders")
    for part, items in (("train", dataset.train_x), ("test", dataset.test)):
        for item in items:
            top, inner, *_ = item.impath.removeprefix(f"{root}/").split("/")
            assert item.classname == (inner if splits else top)
            assert not splits or dataset.test_only or ROLES[top] == part


# Split files

PATHS = [f"{folder}/{i}.png" for folder in ("ant", "bee", "cow") for i in range(3)]
NAMES = ["ant", "bee", "Bee", "cow", ""]
ENTRY = st.one_of(
    *[st.sampled_from(PATHS).map(lambda path: [path, PATHS.index(path) // 3, path[:3]])] * 6,
    st.tuples(st.sampled_from([*PATHS, "ant/9.png", "./ant/0.png"]), st.integers(0, 3),
              st.sampled_from(NAMES)).map(list),
)  # fmt: skip
PART = st.lists(ENTRY, max_size=5, unique_by=lambda entry: entry[0])
SPLITS = st.fixed_dictionaries({"train": PART, "test": PART}, optional={"val": PART, "dev": PART})


def person_on_split(split):
    """Return the class names in the order of the labels, or None where something is wrong."""
    first = split["train"] or split["test"]
    others = split.get("val", []) + split.get("dev", []) + (split["test"] if split["train"] else [])
    names = {label: name for _, label, name in first}
    images = [path.removeprefix("./") for path, _, _ in first + others]
    fine = (
        split["test"]
        and not {"val", "dev"} <= set(split)
        and set(images) <= set(PATHS)
        and len(set(images)) == len(images)
        and all(names.get(label) == name for _, label, name in first + others)
        and sorted(names) == list(range(len(names)))
        and len({name.lower() for name in names.values() if name}) == len(names) > 1
    )
    return [names[label] for label in sorted(names)] if fine else None


ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


@SETTINGS
@given(SPLITS, ENCODINGS)
@example(
    {
        "train": [["ant/0.png", 0, "ant"], ["bee/0.png", 1, "bee"]],
        "test": [["ant/1.png", 0, "ant"]],
    },
    "utf-16",
)
@example({"train": [], "test": [["ant/1.png", 0, "ant"], ["bee/0.png", 1, "bee"]]}, "utf-8")
def test_a_split_file_is_read_as_a_person_reads_it(own, capsys, split, encoding):
    root, wanted = own({name: (3, {}) for name in ("ant", "bee", "cow")}), person_on_split(split)
    (root / "split.json").write_bytes(json.dumps(split).encode(encoding))
    dataset = load(root, SPLIT_FILE="split.json")
    assert (dataset and dataset.classnames) == wanted
    pairs = ("DATASET.IMAGE_FOLDER.SPLIT_FILE", "split.json")
    assert (verdict(capsys, root, *pairs) == "ready") == bool(wanted)
    if wanted:
        assert dataset.test_only == (not split["train"])
        for items, part in (
            (dataset.train_x, split["train"] or split["test"]),
            (dataset.test, split["test"]),
        ):
            listed = [(path.removeprefix("./"), label, name) for path, label, name in part]
            assert [
                (i.impath.removeprefix(f"{root}/"), i.label, i.classname) for i in items
            ] == listed
