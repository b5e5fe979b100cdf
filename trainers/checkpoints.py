"""Which checkpoint of a training to load, and whether its prompts fit."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn


def checkpoint_path(folder: Path, epoch: int | None) -> Path:
    """Return the checkpoint after an epoch; without one the best on validation data, else the last.

    Args:
        folder: that of the prompts, in the output folder of a training.

    Raises:
        FileNotFoundError: it is not there.
    """
    if epoch is not None:
        path = folder / f"model.pth.tar-{epoch}"
    elif (folder / "model-best.pth.tar").exists():
        path = folder / "model-best.pth.tar"
    elif (folder / "checkpoint").exists():
        path = folder / (folder / "checkpoint").read_text().strip()
    else:
        path = folder / "model.pth.tar-<epoch>"
    if path.exists():
        return path
    found = sorted(p.name for p in folder.glob("model*.pth.tar*")) or ["nothing"]
    raise FileNotFoundError(
        f"No checkpoint {path}; the folder holds {', '.join(found)}: --model-dir takes the "
        "OUTPUT_DIR of a training run, --load-epoch one of its epochs."
    )


def check_shapes(prompt_learner: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse prompts in `state`, from `path`, that are not those of the prompt learner.

    Raises:
        ValueError: which were expected, and which are there.
    """
    expected = {name: tuple(value.shape) for name, value in prompt_learner.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        raise ValueError(
            f"{path} holds other prompts than this configuration asks for: expected "
            f"{_shapes(expected)}; found {_shapes(found)}. Use the configuration of the training "
            "run (N_CTX, PROMPT_DEPTH, LOW_RANK, RANK, SHARED_UP, the backbone)."
        )


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
