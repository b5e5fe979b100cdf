"""A step as one CUDA graph.

At batch 4 a GPU waits for Python: a step is some two thousand small kernels, and launching them
takes longer than running them. A graph is recorded once and launched as a whole. It must compute
what the step computes: the first batch goes through both, and where they differ, or where recording
fails, steps stay as they are, with a warning.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Outputs = tuple[Tensor, Sequence[Tensor | None]]
WARM_UP = 3  # calls before recording, as PyTorch asks for: libraries choose their kernels in them
TOLERANCE = 0.01  # largest difference between step and graph, relative to the norm


class CUDAGraphStep:
    """Calls a function of tensors, from its second call on by a CUDA graph if they are on a GPU.

    The function reads parameters where they lie, changes nothing, and does not wait for the GPU; it
    returns one tensor and a sequence of tensors or Nones. What a call returns is overwritten by the
    next one. Inputs of another shape than the first go through the function itself. It comes with
    every call, the same each time: kept here, a trainer's method would keep the trainer alive.

    Args:
        enabled: False to have the function called, and nothing else.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.inputs: tuple[Tensor, ...] | None = None  # the memory that the graph reads
        self.outputs: Outputs | None = None  # and writes
        self.replay: Callable[[], None] | None = None
        self.given_up = not enabled

    def __call__(self, function: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
        if self.given_up or not self.suits(inputs):
            return function(*inputs)
        if self.inputs is None:
            return self._begin(function, inputs)
        if [i.shape for i in inputs] != [i.shape for i in self.inputs]:
            return function(*inputs)
        return self._replay(inputs)

    def suits(self, inputs: Sequence[Tensor]) -> bool:
        """Return whether there can be a graph for such inputs."""
        return all(i.is_cuda for i in inputs)

    def record(self, function: Callable[..., Outputs]) -> Callable[[], None]:
        """Record the function on `inputs` to `outputs`; return what runs it again."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The loader's thread, which pins memory, may run meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.outputs = function(*self.inputs)
        return graph.replay

    def _begin(self, function: Callable[..., Outputs], inputs: Sequence[Tensor]) -> Outputs:
        """Return the function's own results, and keep a graph if it gives the same."""
        self.inputs = tuple(i.clone() for i in inputs)
        expected = function(*inputs)
        try:
            self.replay = self.record(function)
            found = self._replay(inputs)
        except RuntimeError as error:  # whatever CUDA does not record
            reason = str(error).strip().splitlines()[0]
        else:
            difference = _difference(found, expected)
            if difference <= TOLERANCE:
                logger.info("Steps run as a CUDA graph (difference %.1e)", difference)
                return expected
            reason = f"its results differ by {difference:.1e}"
        self.given_up, self.replay, self.outputs = True, None, None
        logger.warning("Steps do not run as a CUDA graph: %s", reason)
        return expected

    def _replay(self, inputs: Sequence[Tensor]) -> Outputs:
        for memory, given in zip(self.inputs, inputs, strict=True):
            memory.copy_(given, non_blocking=True)
        self.replay()
        return self.outputs


def _difference(found: Outputs, expected: Outputs) -> float:
    """Return the largest difference of two results' tensors, relative to the expected norm."""
    pairs = zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True)
    differences = [
        ((one - other).norm() / other.norm().clamp(min=1e-12)).item()
        for one, other in pairs
        if other is not None and other.numel()
    ]
    # NaN in both is a loss that the trainer will stop at; in one of them it is a difference.
    return max(d if d == d else float("inf") for d in differences)
