"""A trainer on a GPU that is not there: PyTorch's fake tensors have shape, type and device only.

What reads a value fails, and so does what mixes devices. What is copied between them is noted, and
counted is what a GPU would launch.
"""

import copy
from collections import Counter

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
# They return another view of the same memory, or allocate: nothing is launched.
NO_KERNEL = ("prim.", "_unsafe_view", "empty", "detach", "new_empty", "_to_copy.view")


class _Copying(TorchFunctionMode):
    """Within it `copy.deepcopy` makes fake tensors on the GPU of the true ones."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch._C.TensorBase.clone:  # of a parameter
            return self._on_gpu(args[0])
        if function is torch.Tensor.__deepcopy__:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self._on_gpu(tensor)
            return memo[id(tensor)]
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    def _on_gpu(self, tensor):
        with torch._C.DisableTorchFunctionSubclass():
            fake = self.mode.from_tensor(tensor.detach(), static_shapes=True)
            with self.mode:
                return fake.to(CUDA)


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would run, by name; `copies` are those between devices."""

    def __init__(self):
        super().__init__()
        self.counts, self.copies = Counter(), []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        name = str(operation).removeprefix("aten.")
        views = any(a.alias_info and not a.alias_info.is_write for a in operation._schema.arguments)
        if not views and not name.startswith(NO_KERNEL):
            self.counts[name] += 1
        if name.startswith(("_to_copy", "copy_")):
            devices = {args[0].device.type, result.device.type}
            self.copies += [name] if len(devices) > 1 else []
        return result


def to_fake_gpu(trainer, monkeypatch):
    """Move a built trainer's model there; return the mode that its steps need."""
    mode = FakeTensorMode()
    with _Copying(mode):
        trainer.model = copy.deepcopy(trainer.model)
        if hasattr(trainer, "sentences"):  # CoPrompt's, encoded before the first step
            trainer.sentences = copy.deepcopy(trainer.sentences)
    trainer.model.device = trainer.device = CUDA
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    # Without CUDA the fused attention is taken apart; on a GPU it is one kernel.
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", _attention)
    return mode


def _attention(query, key, value, attn_mask=None):
    assert attn_mask is None or attn_mask.dtype == query.dtype
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    return fused(query, key, value, attn_mask, compute_log_sumexp=True)[0]
