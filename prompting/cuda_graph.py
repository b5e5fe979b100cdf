"""A step as one CUDA graph.

At batch 4 a GPU waits for Python: a step is some two thousand small kernels, and launching them
takes longer than running them. A graph is recorded once and launched as a whole. It must compute
what the step computes: the first batch goes through the step twice and then through the graph, and
where the graph differs from the step by more than the step differs from itself, or where recording
fails, steps stay as they are, with a warning.
"""

import gc
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Outputs = tuple[Tensor, Sequence[Tensor | None]]
WARM_UP = 3  # calls before recording, as PyTorch asks for: libraries choose their kernels in them
TOLERANCE = 0.01  # difference between step and graph that is rounding, where steps repeat exactly
NOISE = 3.0  # where they do not, times the difference between two steps
LARGEST = 0.5  # beyond it results are different ones, whatever two steps differ by
SMALL_VALUE, SMALL_GRADIENT = 0.1, 1e-3  # of a value; of all gradients' norm: below, absolute


class CUDAGraphStep:
    """Calls a function of tensors, from its second call on by a CUDA graph if they are on a GPU.

    The function reads parameters where they lie, changes nothing, and does not wait for the GPU; it
    returns one tensor and a sequence of tensors or Nones. What a call returns is overwritten by the
    next one. Inputs of another shape than the first go through the function itself. It comes with
    every call, the same each time: kept here, a trainer's method would keep the trainer alive.

    Args:
        enabled: False to have the function called, and nothing else.

    Attributes:
        used: whether a graph was recorded and kept.
        reason: why not.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.inputs: tuple[Tensor, ...] | None = None  # the memory that the graph reads
        self.outputs: Outputs | None = None  # and writes
        self.replay: Callable[[], None] | None = None
        self.given_up, self.used = not enabled, False
        self.reason = "no step was taken" if enabled else "switched off"

    def __call__(self, function: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
        if self.given_up:
            return function(*inputs)
        if not self.suits(inputs):
            self.reason = "not on a GPU"
            return function(*inputs)
        if self.replay is None:
            return self._begin(function, inputs)
        if [i.shape for i in inputs] != [i.shape for i in self.inputs]:
            return function(*inputs)
        return self._replay(inputs)

    def suits(self, inputs: Sequence[Tensor]) -> bool:
        """Return whether there can be a graph for such inputs."""
        return all(i.is_cuda for i in inputs)

    def free(self) -> None:
        """Give back the graph's memory, once nobody holds what it returned."""
        self.inputs = self.outputs = self.replay = None

    def record(self, function: Callable[..., Outputs]) -> Callable[[], None]:
        """Record the function on `inputs` to `outputs`; return what runs it again."""
        gc.collect()  # a dead graph that is destroyed while another is recorded spoils that one
        graph = torch.cuda.CUDAGraph()
        # Its own stream: cuBLAS keeps a workspace per stream, which graphs must not share.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # This block ends on the stream before it, also where the end of a capture fails.
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self.inputs)
            # The loader's thread, which pins memory, may run meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self.outputs = function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return graph.replay

    def _begin(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Outputs:
        """Return the function's own results, and keep a graph if it gives the same."""
        expected = function(*inputs)
        if not all(bool(part.isfinite().all()) for part in _parts(expected)):
            # So it is with amp until the gradient scaler has found its scale. NaN proves nothing.
            self.reason = "no step had finite gradients"
            return expected
        noise = difference(function(*inputs), expected)
        allowed = min(max(TOLERANCE, NOISE * noise), LARGEST)
        self.inputs = tuple(i.clone() for i in inputs)
        try:
            self.replay = self.record(function)
            apart = difference(self._replay(inputs), expected)
        except RuntimeError as error:  # whatever CUDA does not record
            self.reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        else:
            if apart <= allowed:
                self.used, self.reason = True, ""
                logger.info("Steps run as a CUDA graph (difference %.1e)", apart)
                return expected
            self.reason = f"its results differ by {apart:.1e}, two steps by {noise:.1e}"
        self.given_up = True
        self.free()
        logger.warning("Steps do not run as a CUDA graph: %s", self.reason)
        return expected

    def _replay(self, inputs: Sequence[Tensor]) -> Outputs:
        for memory, given in zip(self.inputs, inputs, strict=True):
            memory.copy_(given, non_blocking=True)
        self.replay()
        return self.outputs


def _parts(outputs: Outputs) -> list[Tensor]:
    return [part for part in (outputs[0], *outputs[1]) if part is not None and part.numel()]


def difference(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of two results: of a value, or of a gradient by its norm.

    Both are relative. Values are compared one by one: in a norm an accuracy of 100 hides a loss.
    """
    values, *gradients = (p.float() for p in _parts(expected))
    others = [p.float() for p in _parts(found)]
    small = SMALL_GRADIENT * torch.cat([g.flatten() for g in gradients]).norm()
    differences = [((others[0] - values).abs() / values.abs().clamp(min=SMALL_VALUE)).max()]
    differences += [
        (other - one).norm() / one.norm().clamp(min=small)
        for other, one in zip(others[1:], gradients, strict=True)
    ]
    largest = torch.stack(differences).max().item()
    return largest if largest == largest else float("inf")
