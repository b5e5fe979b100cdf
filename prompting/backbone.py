"""Loading CLIP: one of OpenAI's names, a local file, or the small `demo` model shipped with us."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

with warnings.catch_warnings():
    # OpenAI's package asks setuptools for its version helper, which warns on every start.
    warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated.*")
    import clip
from clip.model import CLIP, VisionTransformer, build_model

from prompting.precision import WEIGHT_DTYPES, cast_matrices, check_precision

DEMO = "demo"
DEMO_FILE = Path(__file__).with_name("demo_clip.safetensors")
VOCABULARY = 49408


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP with where it came from.

    Attributes:
        model: the unmodified `clip.model.CLIP`, in eval mode, without gradients.
        name: the name or path asked for.
        sha256: hash of its weights (in fp32), the same for every file that holds these weights.
        precision: "fp32", "amp", "bf16" or "fp16".
        device: where the weights are.
    """

    model: CLIP
    name: str
    sha256: str
    precision: str
    device: torch.device

    @property
    def resolution(self) -> int:
        """Side of the square input picture, in pixels."""
        return self.model.visual.input_resolution


def load_backbone(
    name: str, precision: str = "fp32", device: torch.device | str = "cpu"
) -> Backbone:
    """Load a CLIP, freeze it, put it on `device` in `precision`.

    Args:
        name: a name of OpenAI's such as "ViT-B/16" (downloaded and checked by the `clip` package),
            "demo", or a file: OpenAI's TorchScript archive, a state dict, or safetensors.

    Raises:
        ValueError: an unknown name or precision, or a file that holds no CLIP.
    """
    check_precision(precision)
    with torch.random.fork_rng(devices=[]):  # CLIP's constructor draws weights that are overwritten
        model = _load(name).float().eval().requires_grad_(False)
    sha256 = _hash(model.state_dict())
    cast_matrices(model, WEIGHT_DTYPES[precision])
    return Backbone(model.to(device), name, sha256, precision, torch.device(device))


def require_transformer(backbone: Backbone) -> None:
    """Raises ValueError for the ResNet backbones, whose image tower takes no prompts."""
    if not isinstance(backbone.model.visual, VisionTransformer):
        raise ValueError(
            f'Backbone "{backbone.name}" has a ResNet image tower, and prompts need a transformer: '
            'choose one of the ViT backbones, such as "ViT-B/16".'
        )


def _load(name: str) -> CLIP:
    if name == DEMO:
        return _build(_demo_state())
    if name in clip.available_models():
        return _download(name)
    if Path(name).expanduser().is_file():
        return _build(_read(Path(name).expanduser()))
    raise ValueError(
        f'Backbone "{name}" is neither a file nor a known name: choose "{DEMO}", '
        f"{', '.join(clip.available_models())}, or the path of a CLIP file."
    )


def _download(name: str) -> CLIP:
    try:
        return clip.load(name, device="cpu")[0]
    except OSError as error:
        raise ValueError(
            f'Backbone "{name}" could not be downloaded ({error}): without a network, fetch it on '
            "another machine and pass the file's path as the backbone."
        ) from error


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    """The state dict in a file: no pickle is executed, of TorchScript only the weights are read."""
    with warnings.catch_warnings():
        # OpenAI's files are TorchScript, whatever has become of it since.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
        try:
            return torch.jit.load(path, map_location="cpu").state_dict()
        except RuntimeError:
            pass
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways, all of them the file's
        raise ValueError(
            f"{path} is no CLIP file that can be read safely: expected OpenAI's archive, a state "
            "dict saved by torch.save, or safetensors."
        ) from error
    return state.get("state_dict", state) if isinstance(state, Mapping) else {}


def _build(state: Mapping[str, torch.Tensor]) -> CLIP:
    """A CLIP with these weights, read in full precision (`build_model` alone rounds to fp16)."""
    skip = ("input_resolution", "context_length", "vocab_size")
    state = {key: value for key, value in state.items() if key not in skip}
    try:
        model = build_model(dict(state)).float()
        model.load_state_dict(state)
    except (KeyError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The file holds no CLIP of OpenAI's architecture: its weights do not fit ({reason})."
        ) from error
    return model


def _demo_state() -> dict[str, torch.Tensor]:
    """The demo weights; tokens that its captions never use keep CLIP's random initialisation."""
    state = load_file(DEMO_FILE)
    ids, rows = state.pop("token_embedding.ids").long(), state.pop("token_embedding.rows").float()
    unseen = torch.Generator().manual_seed(0)
    embedding = torch.randn(VOCABULARY, rows.shape[1], generator=unseen) * 0.02
    embedding[ids] = rows
    return {**{k: v.float() for k, v in state.items()}, "token_embedding.weight": embedding}


def _hash(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy())
    return digest.hexdigest()
