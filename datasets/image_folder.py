"""Load your own images without writing code; docs/own-images.md shows how."""

import re
from collections import Counter
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY

from datasets.base import FewShotDataset, Splits
from datasets.folders import (
    SUFFIXES,
    check_same_classes,
    images_by_class,
    loose_images,
    random_split,
    read_names,
)
from datasets.layout import check_class_folders, split_folders
from datasets.splits import check_names, read_split
from datasets.text import nfc, shorten
from prompting.errors import counted

NUMBER = re.compile(r"n?\d+")  # n01440764: those of ImageNet
Classes = dict[str, list[str]]  # from class folder to the paths of its images


@DATASET_REGISTRY.register()
class ImageFolder(FewShotDataset):
    """Load one folder per class from DATASET.ROOT, or from its folders train, test and maybe val.

    Labels count the class folders in sorted order. With class folders only, every class is split
    by DATASET.SPLIT_SEED; with the folder test only there is nothing to train on; a split file, if
    given, decides everything.
    """

    dataset_dir = image_dir = "."
    root_holds = "the class folders"
    published = False
    layout = "docs/own-images.md"

    def read_splits(self) -> Splits:
        options = self.settings.IMAGE_FOLDER
        self.names_path = self._path(options.CLASSNAMES)
        self.renamed = read_names(self.names_path) if self.names_path else {}
        if options.SPLIT_FILE:
            return self._read_split_file(self._path(options.SPLIT_FILE))
        self.passed_over: Counter[str] = Counter()
        folders = split_folders(self.folder, self.renamed)
        if folders:
            self.split_source = f"the folders {', '.join(folders.values())}"
            train, val, test = self._read_parts(folders)
        else:
            self.split_source = f"random split, DATASET.SPLIT_SEED {self.settings.SPLIT_SEED}"
            classes = self._classes(self.folder)
            train, val, test = random_split(classes, self.settings.SPLIT_SEED)
        self._take_notes(test)
        if not train:
            return [], None, *self.items_of([test])
        return self.items_of([train, val, test])

    def _path(self, name: str) -> Path | None:
        """Return a path of the configuration, which starts in DATASET.ROOT unless absolute."""
        return self.folder / Path(name).expanduser() if name else None

    def _classes(self, folder: Path) -> Classes:
        """Return the class folders of a folder, all with a name where names are given."""
        classes = images_by_class(folder, self.passed_over)
        self.passed_over["image outside of class folders"] += loose_images(folder)
        unnamed = [name for name in classes if self.renamed and name not in self.renamed]
        if unnamed:
            raise ValueError(
                f"{self.names_path} has no line for {len(unnamed)} of the {len(classes)} class "
                f"folders in {folder}, {shorten(unnamed)}: add lines (behind a folder with spaces "
                "in its name comes a tab)"
            )
        check_class_folders(folder, classes, listed=bool(self.renamed))
        return classes

    def _read_parts(self, folders: dict[str, str]) -> tuple[Classes, Classes, Classes]:
        found = {part: self._classes(self.folder / name) for part, name in folders.items()}
        first = "train" if "train" in found else "test"
        parts = {"train": {}, "val": {}}
        for part, name in folders.items():
            where = f"the classes in {self.folder / name} and in {self.folder / folders[first]}"
            check_same_classes(found[first], found[part], where)
            parts[part] = {
                key: [f"{name}/{path}" for path in paths] for key, paths in found[part].items()
            }
        return parts["train"], parts["val"], parts["test"]

    def _take_notes(self, classes: Classes) -> None:
        kinds = [f"{n} {kind or 'without suffix'}" for kind, n in self.passed_over.items() if n]
        if kinds:
            self.notes.append(
                f"passed over: {counted(self.passed_over.total(), 'file')} "
                f"({', '.join(sorted(kinds))}); names of images end in {', '.join(SUFFIXES)}"
            )
        if not self.renamed and all(NUMBER.fullmatch(name) for name in classes):
            self.notes.append(
                f"the class folders are numbers ({next(iter(classes))}), which say little to CLIP: "
                "DATASET.IMAGE_FOLDER.CLASSNAMES gives them names"
            )
        unused = [name for name in self.renamed if name not in classes]
        if unused:
            self.notes.append(
                f"{self.names_path} names {counted(len(unused), 'class', 'classes')} without a "
                f"folder, left out of this run: {shorten(unused)}"
            )

    def _read_split_file(self, path: Path) -> Splits:
        self.split_source = str(path)
        splits = read_split(path, self.image_folder, self.item)
        if self.names_path:
            items = [item for items in splits for item in items]
            pairs = ((self._class_folder(item.impath), item.classname) for item in items)
            named = ((key, name, self.renamed.get(key, "no name")) for key, name in pairs)
            check_names(named, path, self.names_path)
        return splits

    def _class_folder(self, impath: str) -> str:
        """Return the first folder of a path that has a class name, or the first folder."""
        parts = [nfc(part) for part in Path(impath).relative_to(self.image_folder).parts]
        return next((part for part in parts if part in self.renamed), parts[0])
