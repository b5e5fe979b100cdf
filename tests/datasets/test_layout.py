"""Which folders of one's own images are classes, splits, or neither."""

import os
import unicodedata

import pytest

from datasets.layout import is_no_class, split_of


def each(*classes, above="", count=4, suffix="png"):
    """Return the paths of images in class folders."""
    return [f"{above}{name}/{i}.{suffix}" for name in classes for i in range(count)]


def both(*parts, classes=("ant", "bee")):
    return [path for part in parts for path in each(*classes, above=f"{part}/")]


# What a person would say are the classes, and how many images are in train, val and test.
READ = {
    "classes": (each("ant", "bee"), ["ant", "bee"], [4, 2, 2]),
    "train, test": (both("train", "test"), ["ant", "bee"], [8, None, 8]),
    "other case": (both("Train", "TEST"), ["ant", "bee"], [8, None, 8]),
    "other words": (both("training", "valid", "testing"), ["ant", "bee"], [8, 8, 8]),
    "validation": (both("train", "validation", "test"), ["ant", "bee"], [8, 8, 8]),
    "dev": (both("train", "dev", "test"), ["ant", "bee"], [8, 8, 8]),
    "test alone": (both("test"), ["ant", "bee"], [8, None, 8]),
    "unpacked on a Mac": ([*each("ant", "bee"), "__MACOSX/ant/._0.png"], ["ant", "bee"], [4, 2, 2]),
    "of a system": ([*each("ant", "bee"), "@eaDir/a.png", ".git/b.png", "ant/.thumbs/c.png"],
                    ["ant", "bee"], [4, 2, 2]),
    "vehicles": (each("bus", "car", "train"), ["bus", "car", "train"], [6, 3, 3]),
    "vehicles in splits": (both("train", "test", classes=("bus", "train")), ["bus", "train"],
                           [8, None, 8]),
    "some in folders": ([*each("ant", "bee"), "ant/more/8.png", "ant/other/9.png"],
                        ["ant", "bee"], [5, 2, 3]),
    "all in one folder": (each("ant/images", "bee/images"), ["ant", "bee"], [4, 2, 2]),
    "numbers": (each("0", "1", "2750"), ["0", "1", "2750"], [6, 3, 3]),
    "words that only look so": (each("bullet", "bullet_train", "test tube", "image sensor"),
                                ["bullet", "bullet_train", "image sensor", "test tube"], [8, 4, 4]),
    "a folder named as an image": ([*each("ant", "bee"), "ant/a.png/8.png"],
                                   ["ant", "bee"], [4, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_read_as_a_person_would(tmp_path, lay, load, case):
    paths, classes, sizes = READ[case]
    lay(tmp_path, paths)
    dataset = load("ImageFolder", tmp_path)
    assert dataset.classnames == classes
    assert [x and len(x) for x in (dataset.train_x, dataset.val, dataset.test)] == sizes
    assert dataset.test_only == (case == "test alone")


NOT_A_CLASS = "has the name of a split or a container, not of a class: expected one folder per"
ONLY = "holds only the folder {}: expected one folder per class, at least two"
SPLITS = (
    "has folders of splits, expected train and test .val may be missing., or test alone, got {}"
)
REFUSED = {
    "no test": (both("train", "val"), SPLITS.format("train, val: rename one to test if you mean")),
    "train alone": (both("train"), SPLITS.format("train")),
    "val alone": (both("val"), SPLITS.format("val")),
    "val and test": (both("val", "test"), SPLITS.format("test, val")),
    "two of one": (both("train", "test", "val", "valid"), "two folders of one split, got test, tr"),
    "two in other case": (both("train", "Train", "test"), "two folders of one split, got Train, "),
    "splits and classes": ([*both("train", "test"), *each("ant")],
                           "expected no others next to them, got ant: move them away"),
    "a container": (both("images"), ONLY.format("images")),
    "a folder above": (both("mine/train", "mine/test"), ONLY.format("mine")),
    "a class": (each("ant"), ONLY.format("ant")),
    "a class in splits": (both("train", "test", classes=["ant"]), ONLY.format("ant")),
    "containers in splits": (both("train", "test", classes=["images"]), ONLY.format("images")),
    "containers of classes in splits": (both("train/img", "test/img"), ONLY.format("img")),
    "images and masks": (each("images", "masks"), f"images {NOT_A_CLASS}"),
    "VOC": (each("JPEGImages", "SegmentationClass"), f"JPEGImages {NOT_A_CLASS}"),
    "Kaggle's sets": (both("training_set/training_set", "test_set/test_set"),
                      f"test_set {NOT_A_CLASS}"),
    "Kaggle's sets, abridged": (both("seg_train/seg_train", "seg_test/seg_test", "seg_pred/x"),
                                f"seg_test {NOT_A_CLASS}"),
    "splits with numbers": (both("train2017", "val2017"), f"train2017 {NOT_A_CLASS}"),
    "sets of one name": (each("mnist_train", "mnist_test"), f"mnist_test {NOT_A_CLASS}"),
    "YOLO": (both("train", "test", classes=["images", "labels"]), f"images {NOT_A_CLASS}"),
    "no folders": (["train/cat.0.jpg", "train/dog.0.jpg", "test/1.jpg", "test/2.jpg"],
                   "train must hold one folder per class, it holds no folder, and directly in it"),
    "no folder at all": (["1.jpg", "2.jpg"], "it holds no folder, and directly in it 2 images"),
    "test without labels": ([*both("train"), "test/1.jpg"], "test must hold one folder per class"),
    "other classes": ([*both("train"), *both("test", classes=["ant", "cow"])],
                      r"1 missing \['bee'\], 1 other \['cow'\]"),
    "more classes": ([*both("train", "test"), *each("cow", above="train/")],
                     r"1 missing \['cow'\], 0 others"),
    "kinds of kinds": ([*both("animals"), *both("vehicles", classes=["bus", "car"])],
                       "animals holds most of its images in 2 folders, ant, bee, which may be"),
    "domains": (both("photo", "sketch"), "photo holds most of its images in 2 folders"),
    "classes above splits": (both("ant", "bee", classes=["train", "test"]),
                             "ant holds most of its images in 2 folders, test, train"),
    "only other files": ([*each("ant"), *each("bee", suffix="jfif")],
                         "class folder .*bee holds none .1 of 2 are empty.: add images .*jpg"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_what_was_expected(tmp_path, lay, load, case):
    paths, message = REFUSED[case]
    lay(tmp_path, paths)
    with pytest.raises(ValueError, match=message):
        load("ImageFolder", tmp_path)


NAMED = {
    "containers": (each("images", "masks"), "images photo\nmasks drawing\n", ["photo", "drawing"]),
    "splits": (each("dev", "test"), "dev developer\ntest exam\n", ["developer", "exam"]),
    "kinds": (both("animals", "vehicles"), "animals animal\nvehicles vehicle\n",
              ["animal", "vehicle"]),
    "a train in splits": (both("train", "test", classes=("bus", "train")),
                          "bus bus\ntrain locomotive\n", ["bus", "locomotive"]),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_a_file_of_class_names_settles_what_is_a_class(tmp_path, lay, load, case):
    paths, names, wanted = NAMED[case]
    lay(tmp_path, paths)
    (tmp_path / "names.txt").write_text(names)
    pairs = ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert load("ImageFolder", tmp_path, *pairs).classnames == wanted


def test_one_class_stays_one_with_a_name(tmp_path, lay, load):
    lay(tmp_path, each("ant"))
    (tmp_path / "names.txt").write_text("ant ant\n")
    with pytest.raises(ValueError, match="holds only the folder ant"):
        load("ImageFolder", tmp_path, "DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")


# Links


LINKS = {
    "to the folder above": ("ant/loop", "..", "loop/ant is, by a link, a folder that it lies in"),
    "to itself": ("x", "x", "x is a link that leads nowhere: correct or delete it"),
    "to nothing": ("cow", "nowhere", "cow is a link that leads nowhere"),
    "to another class": ("cow", "ant", r"cow/\d.png has two labels, 0 and 2"),
    "to another image": ("ant/9.png", "0.png", r"ant/\d.png is listed twice, in"),
}


@pytest.mark.parametrize("case", LINKS)
def test_links_that_mislead_are_refused(tmp_path, lay, load, case):
    link, target, message = LINKS[case]
    lay(tmp_path, each("ant", "bee"))
    os.symlink(target, tmp_path / link)
    with pytest.raises(ValueError, match=message):
        load("ImageFolder", tmp_path)


def test_a_split_that_is_a_link_to_another_is_refused(tmp_path, lay, load):
    lay(tmp_path, both("train"))
    os.symlink("train", tmp_path / "test")
    with pytest.raises(ValueError, match="test/ant/0.png is listed twice, in train and in test"):
        load("ImageFolder", tmp_path)


def test_class_folders_may_be_links(tmp_path, lay, load):
    lay(tmp_path / "elsewhere", each("one", "two"))
    (tmp_path / "own").mkdir()
    for name, target in (("ant", "one"), ("bee", "two")):
        os.symlink(tmp_path / "elsewhere" / target, tmp_path / "own" / name)
    assert load("ImageFolder", tmp_path / "own").classnames == ["ant", "bee"]


def test_folders_without_end_are_refused(tmp_path, lay, load):
    lay(tmp_path, [*each("ant", "bee"), "/".join(["bee", *"a" * 99, "8.png"])])
    assert load("ImageFolder", tmp_path).classnames == ["ant", "bee"]
    lay(tmp_path, ["/".join(["ant", *"a" * 150, "9.png"])])
    with pytest.raises(ValueError, match="lies more than 100 folders deep: move it up"):
        load("ImageFolder", tmp_path)


def test_unicode_forms_of_a_folder_are_one_name(tmp_path, lay, load):
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    lay(tmp_path / "a", each(composed, "bee", above="train/") + each(apart, "bee", above="test/"))
    assert load("ImageFolder", tmp_path / "a").classnames == ["bee", composed]
    (tmp_path / "a" / "names.txt").write_text(f"{apart} {apart}\nbee wasp\n")
    pairs = ("DATASET.IMAGE_FOLDER.CLASSNAMES", "names.txt")
    assert load("ImageFolder", tmp_path / "a", *pairs).classnames == ["wasp", composed]
    lay(tmp_path / "b", each(composed, apart))
    with pytest.raises(ValueError, match="has two folders caf.*, in two Unicode forms: rename"):
        load("ImageFolder", tmp_path / "b")


def test_words():
    assert [split_of(name) for name in ("TRAIN", "Valid", "dev", "testing", "tests")] == [
        "train", "val", "val", "test", None
    ]  # fmt: skip
    for name in ("PublicTest", "val_images", "dataset", "test-set", "imgs", "class_images"):
        assert is_no_class(name), name
    for name in ("train", "class_1", "set", "mask", "no mask", "raw", "data center", "\u72ac", "7"):
        assert not is_no_class(name), name
