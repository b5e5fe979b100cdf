"""What a precision is on a device. Whether a GPU then computes so, `benchmark.gpu` shows on one."""

import pytest
import torch

from prompting import load_backbone
from prompting.precision import needs_scaler, settle_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def flags():
    """What a GPU computes in, put back afterwards."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def read():
        return {
            "matmul": torch.get_float32_matmul_precision(),
            "conv": cudnn.allow_tf32,
            "fp16 sums": matmul.allow_fp16_reduced_precision_reduction,
            "bf16 sums": matmul.allow_bf16_reduced_precision_reduction,
            "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
        }

    before = read()
    yield read
    torch.set_float32_matmul_precision(before["matmul"])
    cudnn.allow_tf32 = before["conv"]
    matmul.allow_fp16_reduced_precision_reduction = before["fp16 sums"]
    matmul.allow_bf16_reduced_precision_reduction = before["bf16 sums"]
    torch.backends.cuda.enable_cudnn_sdp(before["cudnn"])


def test_auto_is_fp32_on_a_cpu_and_half_precision_on_a_gpu(flags):
    assert settle_precision("auto", CPU) == "fp32" and settle_precision("auto", GPU) == "amp"
    for named in ("fp32", "tf32", "amp", "bf16", "fp16"):
        assert settle_precision(named, CPU) == settle_precision(named, GPU) == named


def test_the_backbone_says_what_auto_is():
    assert load_backbone("demo", "auto").precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "tf32", "amp", "bf16", "fp16"])
def test_a_gpu_is_told_everything(flags, precision):
    tf32 = precision == "tf32"
    settle_precision("fp32" if tf32 else "tf32", GPU)  # the last one counts
    settle_precision(precision, GPU)
    assert flags() == {
        "matmul": "high" if tf32 else "highest",
        "conv": tf32,
        "fp16 sums": False,
        "bf16 sums": False,
        "cudnn": False,
    }


def test_a_cpu_is_told_nothing(flags):
    before = flags()
    settle_precision("tf32", CPU)
    assert flags() == before


def test_gradients_in_fp16_are_scaled():
    """Those of a loss over 500 classes are smaller than what fp16 can hold."""
    precisions = ("fp32", "tf32", "amp", "bf16", "fp16")
    assert [p for p in precisions if needs_scaler(p, GPU)] == ["amp", "fp16"]
    assert not needs_scaler("fp16", CPU)
