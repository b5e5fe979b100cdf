"""Prompts as a folder of three files, to keep, to send, or to put on the Hugging Face Hub.

    adapter_config.json          kind, text, classes, backbone with its hash (adapter_config.py)
    adapter_model.safetensors    the tensors, 46 KB for MMLoP at ViT-B/16
    README.md                    the model card

CLIP is not in it: whoever loads the prompts has its weights, and their hash must agree.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from prompting.adapter_config import FORMAT, build, describe
from prompting.architecture import HEAD_WIDTHS
from prompting.backbone import Backbone, load_backbone
from prompting.card import model_card
from prompting.files import check_folder, write_atomically
from prompting.model import PromptedCLIP

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
FILES = [WEIGHTS, CARD, CONFIG]  # as they are written: a folder without the last is none
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def save_prompts(
    model: PromptedCLIP,
    folder: Path | str,
    training: Mapping[str, Any] = MappingProxyType({}),
    results: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a model's prompts into a new folder, and return that.

    Args:
        model: of any method of the library.
        training: what it was trained on, for the model card: plain values, of which the card knows
            trainer, dataset, subsample, shots, seed, epochs.
        results: contents of `results.json` files of its evaluations, for the model card.

    Raises:
        FileExistsError: the folder holds prompts or a file that would be replaced, or is a file.
        ValueError: the model's prompt learner is none of the library's.
    """
    folder = Path(folder)
    check_folder(folder)
    found = [name for name in FILES if (folder / name).exists()]
    if found:
        raise FileExistsError(f"{folder} holds {', '.join(found)} already: name another folder.")
    state = model.prompt_learner.state_dict()
    weights = save({key: value.detach().cpu().contiguous() for key, value in state.items()})
    digest = hashlib.sha256(weights).hexdigest()
    config = {**describe(model), "training": dict(training), "sha256": digest}
    contents = {
        WEIGHTS: weights,
        CARD: model_card(config, state, results).encode(),
        CONFIG: f"{json.dumps(config, indent=2, ensure_ascii=False)}\n".encode(),
    }
    for name in FILES:
        write_atomically(folder / name, contents[name])
    return folder


def load_prompts(
    source: Path | str,
    classnames: Sequence[str] | None = None,
    backbone: Backbone | str | None = None,
    precision: str | None = None,
    device: torch.device | str = "cpu",
) -> tuple[PromptedCLIP, Callable[[Image.Image], Tensor]]:
    """Load prompts with their backbone; return the classifier and its preprocessing.

        model, preprocess = load_prompts("prompts")
        logits = model(preprocess(Image.open("cat.jpg"))[None])  # (1, C)

    The text is encoded once, here; `model.fix_text(None)` undoes that.

    Args:
        source: a folder that `save_prompts` wrote, or the name of one on the Hub ("user/name").
        classnames: what to classify into; None: the classes that the prompts were trained on.
        backbone: a loaded one, or its name or file; None: the name in the folder.
        precision: None: that of the training on a GPU, fp32 on a CPU.
        device: where to load the backbone to.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: another backbone, damaged or foreign files, other classes for prompts per class.
    """
    folder = find_prompts(source)
    config, weights = _read(folder)
    trained = config["backbone"]
    if not isinstance(backbone, Backbone):
        on_cpu = torch.device(device).type == "cpu"
        backbone = load_backbone(
            backbone or trained.get("name", ""),
            precision or ("fp32" if on_cpu else config.get("precision", "fp32")),
            device,
            activation=trained.get("activation", ""),
            head_widths=trained.get("head_widths", HEAD_WIDTHS),
        )
    if backbone.sha256 != trained["sha256"]:
        raise ValueError(
            f'{folder} holds prompts for backbone "{trained.get("name", "")}", and these weights '
            f'are another ("{backbone.name}"): give the one they were trained on.'
        )
    try:
        names = config["classnames"] if classnames is None else list(classnames)
        model = build(config, load(weights), backbone, names)
        model.fix_text(model.text_classifier())
    except torch.cuda.OutOfMemoryError:  # a RuntimeError, and not the files'
        raise
    except (KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder} holds tensors that do not fit its {CONFIG} ({reason}): get both from where "
            "they were saved."
        ) from error
    return model, backbone.preprocess


def is_prompts(path: Path) -> bool:
    """Return whether a path is a folder of prompts, or one of its files."""
    return (path / CONFIG).is_file() or path.name in (CONFIG, WEIGHTS)


def find_prompts(source: Path | str) -> Path:
    """Return the folder of prompts; those of the Hub are downloaded into its own cache.

    Raises:
        FileNotFoundError, ValueError: there are none.
    """
    path = Path(source).expanduser()
    if is_prompts(path):
        return path if path.is_dir() else path.parent
    if path.exists():
        raise FileNotFoundError(
            f"{path} is no folder of prompts, it has no {CONFIG}: make one of a run by "
            "python -m inference.share RUN FOLDER."
        )
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(
            f"There are no prompts at {source}: give a folder, or a name on the Hub (user/name)."
        )
    with _in_one_sentence(f"There is no folder {source}, and the Hub did not give it"):
        from huggingface_hub import hf_hub_download  # an extra, of those who use the Hub

        return [Path(hf_hub_download(str(source), name)) for name in (WEIGHTS, CONFIG)][0].parent


def push_to_hub(folder: Path | str, repo_id: str, private: bool = False) -> str:
    """Put a folder of prompts on the Hub, with the account of `hf auth login`; return its address.

    Raises:
        ValueError: no `huggingface_hub`, no permission, no network.
    """
    folder = find_prompts(folder)
    _read(folder)  # damaged prompts are not passed on
    with _in_one_sentence(f"{folder} was not put on the Hub as {repo_id}"):
        from huggingface_hub import HfApi  # an extra, of those who use the Hub

        hub = HfApi()
        repo_id = hub.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
        return str(hub.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=FILES))


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return configuration and weights, checked to be those that were saved together."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version, digest, _ = config["format"], config["sha256"], config["backbone"]["sha256"]
        tuple(config["backbone"].get("head_widths", HEAD_WIDTHS))  # must be a list if given
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} has no {CONFIG}: copy it there, too.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or not written by this library's save_prompts: get it again from "
            "where the prompts were saved."
        ) from error
    if version != FORMAT:
        raise ValueError(
            f"{path} is of format {version}, and this version reads {FORMAT}: install the version "
            "of this library that saved it."
        )
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}: copy it there, too.") from error
    if hashlib.sha256(weights).hexdigest() != digest:
        raise ValueError(
            f"{folder / WEIGHTS} is not the file that was saved with its {CONFIG} (another "
            "SHA-256): it was cut short, changed or replaced; get it again."
        )
    return config, weights


@contextmanager
def _in_one_sentence(what: str) -> Iterator[None]:
    """Turn whatever the network and the Hub's client raise into a ValueError."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{what}: it takes pip install huggingface_hub.") from error
    except Exception as error:  # they have no class in common
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{what}: {lines[0]}") from error
