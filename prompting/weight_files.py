"""Reading a file of weights: safetensors, what torch.save wrote, or a TorchScript archive.

No pickle is executed. A TorchScript archive holds none that would be, but reading it compiles what
is in it, so the caller says which archives it trusts.
"""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from prompting.weights import find_state

LFS = b"version https://git-lfs"  # begins the small file that stands for a large one


def read_state(path: Path, check_archive: Callable[[Path], None]) -> dict[str, Tensor]:
    """Return the state dict in a file, without the wrappers that tools put around it.

    Args:
        check_archive: raises for a TorchScript archive that is not trusted.

    Raises:
        ValueError: the file cannot be read safely, or holds several state dicts.
    """
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise ValueError(
                f"{path} is a pointer of Git LFS and not the weights: fetch these by git lfs pull."
            )
    archive = is_torchscript(path)
    if archive:
        check_archive(path)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        elif archive:
            with warnings.catch_warnings():
                # OpenAI's files are TorchScript, whatever has become of it since.
                warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
                content = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # unpickling fails in many ways, all of them the file's
        raise ValueError(
            f"{path} is no CLIP file that can be read safely: expected OpenAI's archive, a state "
            "dict saved by torch.save, or safetensors."
        ) from error
    return find_state(content, str(path))


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, as PyTorch tells it from torch.save's."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())
