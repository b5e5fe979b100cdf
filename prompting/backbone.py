"""Loading CLIP: one of OpenAI's names, a local file, or the small `demo` model shipped with us."""

import hashlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

with warnings.catch_warnings():
    # OpenAI's package asks setuptools for its version helper, which warns on every start.
    warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated.*")
    import clip
from clip.clip import _MODELS as OPENAI_URLS
from clip.model import CLIP, VisionTransformer, build_model

from prompting.precision import WEIGHT_DTYPES, cast_matrices, settle_precision
from prompting.preprocess import image_transform

CACHE = Path.home() / ".cache" / "clip"  # where the `clip` package keeps its downloads
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
        """Side of the square input image, in pixels."""
        return self.model.visual.input_resolution

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return an image as the model takes it: (3, H, W), normalised."""
        return image_transform(self.resolution)(image)


_shared: ContextVar[dict[tuple, Backbone] | None] = ContextVar("shared backbones", default=None)


@contextmanager
def share_backbones() -> Iterator[None]:
    """Load each backbone once: what asks for the same one within this block shares it.

    Nobody changes a backbone. Within another such block this one changes nothing.
    """
    token = _shared.set({} if _shared.get() is None else _shared.get())
    try:
        yield
    finally:
        _shared.reset(token)


def load_backbone(
    name: str,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    trust: bool = False,
) -> Backbone:
    """Load a CLIP, freeze it, put it on `device` in `precision`.

    What a file may run: safetensors and state dicts (read with `weights_only=True`) run nothing.
    A TorchScript archive has no Python pickles that would be executed, but reading it compiles the
    TorchScript in it and may run some of that, which can reach files; so an archive must be one of
    OpenAI's, by its SHA-256, or be trusted.

    Args:
        name: a name of OpenAI's such as "ViT-B/16" (downloaded and checked by the `clip` package),
            "demo", or a file: OpenAI's TorchScript archive, a state dict, or safetensors.
        trust: whether to read a TorchScript archive that is none of OpenAI's.

    Raises:
        ValueError: an unknown name or precision, a file that holds no CLIP or is not trusted.
    """
    precision = settle_precision(precision, torch.device(device))
    shared, key = _shared.get(), (name, precision, torch.device(device), trust)
    if shared is None:
        return _load_backbone(*key)
    if key not in shared:
        shared[key] = _load_backbone(*key)
    return shared[key]


def _load_backbone(name: str, precision: str, device: torch.device, trust: bool) -> Backbone:
    with torch.random.fork_rng(devices=[]):  # CLIP's constructor draws weights that are overwritten
        model = _load(name, trust).float().eval().requires_grad_(False)
    sha256 = _hash(model.state_dict())
    cast_matrices(model, WEIGHT_DTYPES[precision])
    return Backbone(model.to(device), name, sha256, precision, device)


def require_transformer(backbone: Backbone) -> None:
    """Refuse the ResNet backbones, whose image tower takes no prompts, by a ValueError."""
    if not isinstance(backbone.model.visual, VisionTransformer):
        raise ValueError(
            f'Backbone "{backbone.name}" has a ResNet image tower, and prompts need a transformer: '
            'choose one of the ViT backbones, such as "ViT-B/16".'
        )


def _load(name: str, trust: bool) -> CLIP:
    if name == DEMO:
        return _build(_demo_state())
    if name in clip.available_models():
        return _build(_read(_download(name), trust=False))
    if Path(name).expanduser().is_file():
        return _build(_read(Path(name).expanduser(), trust))
    raise ValueError(
        f'Backbone "{name}" is neither a file nor a known name: choose "{DEMO}", '
        f"{', '.join(clip.available_models())}, or the path of a CLIP file."
    )


def _download(name: str) -> Path:
    """Return the file of one of OpenAI's models, in OpenAI's own cache."""
    try:
        return Path(clip.clip._download(OPENAI_URLS[name], str(CACHE)))
    except OSError as error:
        raise ValueError(
            f'Backbone "{name}" could not be downloaded ({error}): without a network, fetch it on '
            "another machine and pass the file's path as the backbone."
        ) from error


def _read(path: Path, trust: bool) -> Mapping[str, torch.Tensor]:
    """Return the state dict in a file; no pickle is executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            if not trust:
                _check_published(path)
            with warnings.catch_warnings():
                # OpenAI's files are TorchScript, whatever has become of it since.
                warnings.filterwarnings("ignore", message=".*torch.jit.load.*")
                return torch.jit.load(path, map_location="cpu").state_dict()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _NotPublished:
        raise
    except Exception as error:  # unpickling fails in many ways, all of them the file's
        raise ValueError(
            f"{path} is no CLIP file that can be read safely: expected OpenAI's archive, a state "
            "dict saved by torch.save, or safetensors."
        ) from error
    return state.get("state_dict", state) if isinstance(state, Mapping) else {}


class _NotPublished(ValueError):
    """A TorchScript archive that OpenAI did not publish."""


def _is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, as PyTorch tells it from torch.save's."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _check_published(path: Path) -> None:
    """OpenAI's addresses hold the SHA-256 of the file: .../<sha256>/ViT-B-16.pt."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() not in {url.split("/")[-2] for url in OPENAI_URLS.values()}:
        raise _NotPublished(
            f"{path} is a TorchScript archive, and none of those that OpenAI published (SHA-256 "
            f"{digest.hexdigest()}): reading it may run code. Pass the weights as a state dict "
            "or safetensors or, if you trust its source, MODEL.BACKBONE.TRUST True."
        )


def _build(state: Mapping[str, torch.Tensor]) -> CLIP:
    """Return a CLIP with these weights, in full precision (`build_model` alone rounds to fp16)."""
    skip = ("input_resolution", "context_length", "vocab_size")
    state = {key: value for key, value in state.items() if key not in skip}
    try:
        model = _model(dict(state)).float()
        model.load_state_dict(state)
    except (KeyError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The file holds no CLIP of OpenAI's architecture: its weights do not fit ({reason})."
        ) from error
    return model


def _model(state: dict[str, torch.Tensor]) -> CLIP:
    """Return OpenAI's model.

    The `clip` in a checkout of MaPLe or PromptSRC asks which of the family's prompts to build into
    it, and gets CoOp as the answer: none.
    """
    if "design_details" in signature(build_model).parameters:
        return build_model(state, {"trainer": "CoOp", "vision_depth": 0, "language_depth": 0})
    return build_model(state)


def _demo_state() -> dict[str, torch.Tensor]:
    """Return the demo weights; tokens that its captions never use keep CLIP's random values."""
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
