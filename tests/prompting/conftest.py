import pytest
import torch


@pytest.fixture(scope="session")
def assert_exact():
    """Equal up to the rounding of fp32: within 1e-5 of the expected tensor's norm."""

    def check(found: torch.Tensor, expected: torch.Tensor) -> None:
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-5 * expected.norm()

    return check
