"""Loading CLIP: one of OpenAI's names, a local file, a model of open_clip, or our small `demo`."""

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file

with warnings.catch_warnings():
    # OpenAI's package asks setuptools for its version helper, which warns on every start.
    warnings.filterwarnings("ignore", message=".*pkg_resources is deprecated.*")
    import clip
from clip.clip import _MODELS as OPENAI_URLS
from clip.model import CLIP, build_model
from torch import nn

from prompting import open_clip_models
from prompting.architecture import HEAD_WIDTHS, Architecture
from prompting.openai_towers import ImageTower, TextTower
from prompting.precision import WEIGHT_DTYPES, cast_matrices, settle_precision
from prompting.preprocess import ImageSettings, image_transform
from prompting.tokenizer import CLIP_TOKENIZER, Tokenizer
from prompting.towers import image_tower, resolution, text_tower
from prompting.weight_files import is_torchscript, read_state
from prompting.weights import VOCABULARY, clip_weights

logger = logging.getLogger(__name__)

CACHE = Path.home() / ".cache" / "clip"  # where the `clip` package keeps its downloads
DEMO = "demo"
DEMO_FILE = Path(__file__).with_name("demo_clip.safetensors")
UNKNOWN_ORIGIN = (
    "%s is no file that OpenAI published, and weights do not say which activation and heads they "
    "were trained with: %s is assumed. Most models of others (LAION, ...) have gelu: name the "
    'architecture, "open_clip:ARCHITECTURE/FILE", or give activation (quick_gelu or gelu) and '
    "head_widths, in a run MODEL.BACKBONE.ACTIVATION and MODEL.BACKBONE.HEAD_WIDTHS."
)


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP with where it came from.

    Attributes:
        model: the unmodified `clip.model.CLIP` or model of open_clip, in eval mode, without
            gradients.
        name: the name or path asked for.
        sha256: hash of its weights (in fp32), the same for every file that holds these weights;
            with an activation or heads unlike OpenAI's, of these too.
        precision: "fp32", "tf32", "amp", "bf16" or "fp16".
        device: where the weights are.
        tokenizer: of its texts.
        images: how it was shown images, where that is not CLIP's way.
        architecture: what its file could not say.
    """

    model: nn.Module
    name: str
    sha256: str
    precision: str
    device: torch.device
    tokenizer: Tokenizer = CLIP_TOKENIZER
    images: ImageSettings | None = None
    architecture: Architecture = Architecture()

    @property
    def resolution(self) -> int:
        """Side of the square input image, in pixels."""
        return resolution(self.model)

    @property
    def text(self) -> TextTower:
        """The text tower, for its widths and layers."""
        return text_tower(self.model)

    @property
    def image(self) -> ImageTower:
        """The image tower, likewise.

        Raises:
            ValueError: it is convolutional, see `require_transformer`.
        """
        require_transformer(self)
        return image_tower(self.model)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return an image as the model takes it: (3, H, W), normalised."""
        return image_transform(self.resolution, self.images)(image)


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
    activation: str = "",
    head_widths: tuple[int, int] = HEAD_WIDTHS,
) -> Backbone:
    """Load a CLIP, freeze it, put it on `device` in `precision`.

    What a file may run: safetensors and state dicts (read with `weights_only=True`) run nothing.
    A TorchScript archive has no Python pickles that would be executed, but reading it compiles the
    TorchScript in it and may run some of that, which can reach files; so an archive must be one of
    OpenAI's, by its SHA-256, or be trusted.

    Args:
        name: a name of OpenAI's such as "ViT-B/16" (downloaded and checked by the `clip` package),
            "demo", a file (OpenAI's TorchScript archive, a state dict, or safetensors), or a model
            of open_clip, "open_clip:ARCHITECTURE/TAG" or "open_clip:ARCHITECTURE/FILE".
        trust: whether to read a TorchScript archive that is none of OpenAI's.
        activation: "quick_gelu" or "gelu", which a file of weights cannot say; empty: OpenAI's
            quick_gelu, with a warning where the file is none of OpenAI's.
        head_widths: of the text and of the image tower's attention heads, likewise.

    Raises:
        ValueError: an unknown name or precision, a file that holds no CLIP or is not trusted.
        ArgumentError: an activation or head widths that are unknown, or not those of the name.
    """
    precision = settle_precision(precision, torch.device(device))
    architecture = Architecture(activation, tuple(head_widths))
    shared, key = _shared.get(), (name, precision, torch.device(device), trust, architecture)
    shared = {} if shared is None else shared
    if key not in shared:
        shared[key] = _load_backbone(*key)
    return shared[key]


def _load_backbone(
    name: str, precision: str, device: torch.device, trust: bool, architecture: Architecture
) -> Backbone:
    dtype, images = WEIGHT_DTYPES[precision], None
    label = str(architecture) if architecture.differs else ""
    with torch.random.fork_rng(devices=[]):  # CLIP's constructor draws weights that are overwritten
        if name.startswith(open_clip_models.PREFIX):
            open_clip_models.check(name, dtype, architecture)
            source = open_clip_models.find(name, architecture.activation)
            model, tokenizer = open_clip_models.load(source, partial(_read, trust=trust))
            images, label = source.images, source.label
        else:
            model = _load(name, trust, architecture)
            tokenizer = Tokenizer(model.context_length)
    model = model.float().eval().requires_grad_(False)
    sha256 = _hash(model.state_dict(), label)
    cast_matrices(model, dtype)
    model = model.to(device)
    return Backbone(model, name, sha256, precision, device, tokenizer, images, architecture)


def require_transformer(backbone: Backbone) -> None:
    """Refuse an image tower that takes no prompts, such as a ResNet, by a ValueError."""
    if image_tower(backbone.model) is None:
        kind = type(getattr(backbone.model.visual, "trunk", backbone.model.visual)).__name__
        raise ValueError(
            f'The image tower of backbone "{backbone.name}" is a {kind.removeprefix("Modified")}; '
            'prompts need a plain transformer: choose one of the ViTs, such as "ViT-B/16".'
        )


def require_openai(backbone: Backbone, method: str) -> None:
    """Refuse, by a ValueError, what is no CLIP in OpenAI's form with a transformer image tower."""
    require_transformer(backbone)
    if not isinstance(backbone.model, CLIP):
        raise ValueError(
            f'{method} takes CLIP in OpenAI\'s form alone, and backbone "{backbone.name}" is a '
            'model of open_clip: choose one of the ViT backbones, such as "ViT-B/16".'
        )


def _load(name: str, trust: bool, architecture: Architecture) -> CLIP:
    path = Path(name).expanduser()
    if name == DEMO or name in clip.available_models():
        architecture.check_published(name)
        state = _demo_state() if name == DEMO else _read(_download(name), trust=False)
        return _build(state, name, architecture)
    if path.is_file():
        state = _read(path, trust)
        # Read without trust, an archive is OpenAI's.
        published = is_torchscript(path) and (not trust or _is_published(path))
        if not architecture.activation and not published:
            logger.warning(UNKNOWN_ORIGIN, path, architecture)
        return _build(state, str(path), architecture)
    if path.is_dir():
        raise ValueError(f'Backbone "{name}" is a folder: pass the file of weights in it.')
    raise ValueError(
        f'Backbone "{name}" is neither a file nor a known name: choose "{DEMO}", '
        f"{', '.join(clip.available_models())}, or the path of a CLIP file."
    )


def _download(name: str) -> Path:
    """Return the file of one of OpenAI's models, in OpenAI's own cache."""
    lock, url = FileLock(CACHE / f".{name.replace('/', '-')}.lock"), OPENAI_URLS[name]
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        # One process writes the file, and others wait; where none can write, it is only read.
        with lock if os.access(CACHE, os.W_OK) else nullcontext():
            return Path(clip.clip._download(url, str(CACHE)))
    except (OSError, RuntimeError) as error:  # the latter where it was cut short
        raise ValueError(
            f'Backbone "{name}" could not be downloaded ({error}): try again, or fetch {url} '
            f"elsewhere and copy it to {CACHE / Path(url).name}, or pass the file's path."
        ) from None  # the network's own traceback is long, and says no more


def _read(path: Path, trust: bool) -> dict[str, torch.Tensor]:
    return read_state(path, (lambda _: None) if trust else _check_published)


def _is_published(path: Path) -> bool:
    """Return whether OpenAI published this file."""
    return _file_hash(path) in {url.split("/")[-2] for url in OPENAI_URLS.values()}


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_published(path: Path) -> None:
    """OpenAI's addresses hold the SHA-256 of the file: .../<sha256>/ViT-B-16.pt."""
    if not _is_published(path):
        raise ValueError(
            f"{path} is a TorchScript archive, and none of those that OpenAI published (SHA-256 "
            f"{_file_hash(path)}): reading it may run code. Pass a state dict or safetensors or, "
            "if you trust its source, trust=True, in a run MODEL.BACKBONE.TRUST True."
        )


def _build(state: Mapping[str, torch.Tensor], source: str, architecture: Architecture) -> CLIP:
    """Return a CLIP with these weights, in full precision (`build_model` alone rounds to fp16)."""
    weights = clip_weights(state, source, architecture.head_widths)
    try:
        model = _model(dict(weights)).float()
        model.load_state_dict(weights)
    except (KeyError, RuntimeError, AssertionError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{source} holds no CLIP of OpenAI's architecture: its weights do not fit ({reason})."
        ) from error
    architecture.apply(model)
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


def _hash(state: Mapping[str, torch.Tensor], label: str) -> str:
    digest = hashlib.sha256(label.encode())
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy())
    return digest.hexdigest()
