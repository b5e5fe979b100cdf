"""Classify image files.

model, preprocess = load_prompts("prompts")
for prediction in predict(model, image_files(["photos"])):
    print(prediction.path, prediction.labels[0], prediction.probs[0])
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from prompting.backbone import Backbone
from prompting.files import read_text
from prompting.model import PromptedCLIP
from prompting.prompts import NoPrompts
from prompting.templates import DEFAULT_TEMPLATE

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LIST = ".txt"
READERS = min(8, os.cpu_count() or 1)  # threads: decoding and resizing leave Python's lock


@dataclass(frozen=True)
class Prediction:
    """Hold what a model says of one file.

    Attributes:
        path: the file.
        labels: class names, the most probable first; none where the file cannot be read.
        probs: their probabilities, the softmax over all classes.
        error: why it cannot be read, empty where it can.
    """

    path: Path
    labels: tuple[str, ...] = ()
    probs: tuple[float, ...] = ()
    error: str = ""

    @property
    def filename(self) -> str:
        """The path as text that can be written; bytes that are no UTF-8 as "\\xe9"."""
        return os.fsencode(self.path).decode(errors="backslashreplace")


def zero_shot(
    backbone: Backbone, classnames: Sequence[str], template: str = DEFAULT_TEMPLATE
) -> PromptedCLIP:
    """Return CLIP without prompts as a classifier, its text encoded."""
    model = PromptedCLIP(backbone, NoPrompts(), classnames, template)
    model.fix_text(model.text_classifier())
    return model.eval()


def read_classes(path: Path) -> list[str]:
    """Return the class names in a file, one per line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: there is none, or one twice; the file is not in UTF-8.
    """
    try:
        names = _lines(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f"--classes takes a file with a class name per line, and {path} is no file."
        ) from error
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or twice:
        what = f"{', '.join(twice)} twice" if twice else "no class name"
        raise ValueError(f"{path} has {what}: give one class per line, each once.")
    return names


def _lines(path: Path) -> list[str]:
    """Return the lines of a text but empty ones."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def image_files(sources: Iterable[Path | str]) -> list[Path]:
    """Return the files that are meant, each once, in the order of the sources.

    Args:
        sources: files; folders, whose images are found at any depth; patterns such as
            "photos/*.jpg"; lists, which are .txt files with a path per line.

    Raises:
        FileNotFoundError: a source that is not there, or no image in all of them.
        ValueError: a list that is not in UTF-8.
    """
    sources = list(sources)
    found = [path for source in sources for path in _files(source)]
    if not found:
        named = ", ".join(map(str, sources)) or "no source"
        raise FileNotFoundError(f"There is no image in {named}: {', '.join(SUFFIXES)} are read.")
    return list(dict.fromkeys(found))


def _files(source: Path | str) -> list[Path]:
    path = Path(source).expanduser()
    if path.suffix.lower() == LIST and path.is_file():
        return [Path(line).expanduser() for line in _lines(path)]
    if path.is_file():
        return [path]
    matches = [path] if path.is_dir() else sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not matches:
        raise FileNotFoundError(f"There is no file, folder or match for {source}.")
    return [image for match in matches for image in _images(match)]


def _images(match: Path) -> list[Path]:
    """Return a file, if it is an image by its name, or the images of a folder at any depth."""
    below = sorted(match.rglob("*")) if match.is_dir() else [match]
    return [path for path in below if _is_image(path, match) and path.is_file()]


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in SUFFIXES and not hidden


@torch.no_grad()
def predict(
    model: PromptedCLIP, files: Iterable[Path | str], topk: int = 1, batch_size: int = 64
) -> Iterator[Prediction]:
    """Classify files, one after the other; one that cannot be read costs only its own prediction.

    While the model is at work on a batch, the next one is read.

    Args:
        files: paths, see `image_files`.
        topk: how many classes a prediction has; of fewer classes all.
        batch_size: images that go through the model at once.
    """
    files = [Path(file) for file in files]
    batches = [files[i : i + batch_size] for i in range(0, len(files), batch_size)]
    with ThreadPoolExecutor(READERS) as pool, model.fixed_text():
        waiting = None
        for batch in [*batches, None]:
            ready, waiting = waiting, batch and (batch, pool.map(_reader(model.backbone), batch))
            if ready:
                yield from _classify(model, ready[0], list(ready[1]), topk)


def _reader(backbone: Backbone):
    def read(path: Path) -> Tensor | str:
        """Return an image as the evaluation sees it, or why it cannot be read."""
        try:
            with Image.open(path) as image:
                return backbone.preprocess(image)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # decoding fails in many ways, all of them the file's
            return " ".join(str(error).split()) or type(error).__name__

    return read


def _classify(
    model: PromptedCLIP, paths: Sequence[Path], read: Sequence[Tensor | str], topk: int
) -> Iterator[Prediction]:
    """Return the predictions of a batch, those of broken files among them."""
    images = [image for image in read if isinstance(image, Tensor)]
    best = iter(())
    if images:
        probs = model(torch.stack(images).to(model.device)).softmax(dim=-1)
        values, indices = probs.topk(min(topk, probs.shape[-1]))
        best = zip(values.tolist(), indices.tolist(), strict=True)
    for path, image in zip(paths, read, strict=True):
        if isinstance(image, str):
            yield Prediction(path, error=image)
            continue
        values, indices = next(best)
        yield Prediction(path, tuple(model.classnames[i] for i in indices), tuple(values))
