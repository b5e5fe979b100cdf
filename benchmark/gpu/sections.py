"""Compare steps on GPU and CPU, and CUDA graphs with eager steps."""

import gc
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmark.gpu.machine import Check, Checks, Machine, images_for
from prompting import encode_texts, load_backbone, share_backbones
from prompting.cuda_graph import NOISE, TOLERANCE, CUDAGraphStep, difference
from trainers.base import PromptTrainer
from trainers.results import versions

LARGEST = {"fp32": 1e-4, "tf32": 1e-2}  # difference of the gradients, relative to their norm
COSINE = 0.99  # in half precision, at least
BACKENDS = (SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION)
BATCHES = 5
OVERFLOW = 2.0**40  # a scale at which every gradient in half precision is infinite


def environment(machine: Machine) -> Checks:
    """Report hardware and versions."""
    found = {"versions": versions(), "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        found["cudnn"] = torch.backends.cudnn.version()
        count = torch.cuda.device_count()
        found["gpus"] = [str(torch.cuda.get_device_properties(n)) for n in range(count)]
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    yield Check("environment", not machine.on_gpu or torch.cuda.is_available(), found)


def compute(machine: Machine) -> Checks:
    """Compare each method's gradients with those on a CPU in fp32."""
    expected = {}
    with share_backbones():
        for method in machine.methods:
            trainer = machine.build(method, "fp32", device="cpu")
            expected[method] = _gradients(trainer)
    for precision in machine.precisions:
        with share_backbones():
            for method in machine.methods:
                found = _gradients(machine.build(method, precision))
                yield _compared(f"{method} {precision}", precision, found, expected[method])
    for precision in ("fp32", "amp"):
        trainer = machine.build("MMLoP", precision)
        for backend in BACKENDS:
            name = f"MMLoP {precision}, attention by {backend.name}"
            try:
                with sdpa_kernel(backend):
                    found = _gradients(trainer)
            except RuntimeError as error:
                if "No available kernel" not in str(error):
                    raise
                yield Check(name, True, {"not available": "for this mask or precision"})
            else:
                yield _compared(name, precision, found, expected["MMLoP"])


def _gradients(trainer: PromptTrainer) -> Tensor:
    """Return the gradients of one batch as one vector, not scaled, on the CPU."""
    trainer.scaler = None
    _, gradients = trainer.compute(*images_for(trainer))
    return torch.cat([g.flatten() for g in gradients if g is not None]).cpu()


def _compared(name: str, precision: str, found: Tensor, expected: Tensor) -> Check:
    apart = ((found - expected).norm() / expected.norm()).item()
    cosine = torch.cosine_similarity(found, expected, dim=0).item()
    passed = apart <= LARGEST[precision] if precision in LARGEST else cosine >= COSINE
    return Check(name, passed, {"difference": apart, "cosine": cosine})


def capture(machine: Machine) -> Checks:
    """Record each method's step in each precision, and compare it on other batches."""
    for precision in machine.precisions:
        with share_backbones():
            for method in machine.methods:
                yield _captured(f"{method} {precision}", machine.build(method, precision))
    trainer = machine.build("MMLoP", "amp")
    yield _overflowed(trainer)
    trainer.step(*images_for(trainer))
    del trainer
    gc.collect()
    yield _captured("MMLoP fp32, after an older graph was deleted", machine.build("MMLoP", "fp32"))


def _captured(name: str, trainer: PromptTrainer) -> Check:
    trainer.scaler = None  # so that the first step is finite
    batches = [images_for(trainer, seed) for seed in range(BATCHES)]
    trainer.compute(*batches[0])
    if trainer.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.compute(*batches[0])
        waits = ""
    except RuntimeError as error:
        waits = str(error).splitlines()[0]
    finally:
        if trainer.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    trainer.step(*batches[0])
    apart, noise = [], []
    for batch in batches:
        eager = trainer.compute(*batch)
        noise.append(difference(trainer.compute(*batch), eager))
        apart.append(difference(trainer.step(*batch), eager))
    graph = trainer._graph
    right = max(apart) <= max(TOLERANCE, NOISE * max(noise))
    passed = right and not waits and graph.used is (trainer.device.type == "cuda")
    found = {"graph to eager": apart, "eager to eager": noise, "used": graph.used}
    return Check(name, passed, {**found, "reason": graph.reason, "waits": waits})


def _overflowed(trainer: PromptTrainer) -> Check:
    """Take steps from a scale that is too large, and check that a graph comes of it."""
    if trainer.scaler is not None:
        trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": OVERFLOW})
    images, labels = images_for(trainer)
    batch, steps = {"img": images, "label": labels}, 0
    while steps < 60 and not trainer._graph.used and trainer._graph.reason != "not on a GPU":
        trainer.forward_backward(batch)
        steps += 1
    finite = all(p.isfinite().all().item() for p in trainer.trainable_params)
    passed = finite and trainer._graph.used is (trainer.device.type == "cuda")
    found = {"steps to the graph": steps, "reason": trainer._graph.reason}
    return Check("MMLoP amp, overflow", passed or trainer.scaler is None, found)


def recovery(machine: Machine) -> Checks:
    """Fail to record a step that waits, and record one that does not afterwards."""
    x = torch.randn(8, 8, device=machine.device)

    def waits(x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        return torch.full((2,), x.sum().item(), device=x.device), [x @ x]

    def records(x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        return x.sum()[None], [x @ x]

    before = torch.cuda.current_stream() if machine.on_gpu else None
    broken, whole = CUDAGraphStep(), CUDAGraphStep()
    found = broken(waits, x)
    same = machine.device == "cpu" or torch.cuda.current_stream() == before
    right = difference(found, waits(x)) <= TOLERANCE
    yield Check("a broken capture", same and right and not broken.used, {"reason": broken.reason})
    values = [difference(whole(records, x), records(x)) for _ in range(3)]
    passed = max(values) <= TOLERANCE and whole.used is machine.on_gpu
    yield Check("the next capture", passed, {"reason": whole.reason, "differences": values})


def weights(machine: Machine) -> Checks:
    """Compare OpenAI's ViT-B/16 on the device and on a CPU, where its file is at hand."""
    file = Path("~/.cache/clip/ViT-B-16.pt").expanduser()
    if not file.exists():
        yield Check("OpenAI's weights", True, {"skipped": f"{file} is not there"})
        return
    texts, features = ["a photo of a cat.", "a photo of a dog.", "a diagram."], []
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for device in ("cpu", machine.device):
        model = load_backbone(str(file), "fp32", device).model
        with torch.no_grad():
            found = (encode_texts(model, texts), model.encode_image(images.to(device)))
        features.append(torch.cat([part.flatten().cpu() for part in found]))
    yield _compared("OpenAI's weights", "fp32", features[1], features[0])
