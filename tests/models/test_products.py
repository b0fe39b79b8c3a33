"""Large products are torch's own but for rounding, with a gradient where one is asked for."""

import pytest
import torch
from torch import nn

from probekit.models.products import fast_linear_layers, linear

# Too few, as many as are worth it, and a stack of rows that does not lie in one piece.
ROWS = [torch.randn(3, 256), torch.randn(523, 256), torch.randn(2, 512, 256)[:, ::2]]


@pytest.mark.parametrize("x", ROWS)
@pytest.mark.parametrize("bias", [None, torch.randn(512)])
@torch.no_grad()
def test_a_product_is_torch_s(x: torch.Tensor, bias: torch.Tensor | None) -> None:
    weight = torch.randn(512, 256)
    exact = nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    torch.testing.assert_close(linear(x, weight, bias), exact.float(), rtol=1e-4, atol=1e-4)


def test_layers_multiply_so_and_keep_their_gradient() -> None:
    layer, x, own = nn.Linear(256, 512), ROWS[1], nn.Linear.forward
    layer(x).sum().backward()
    expected = layer.weight.grad
    assert expected is not None
    layer.zero_grad()
    with fast_linear_layers():
        layer(x).sum().backward()
    assert nn.Linear.forward is own
    torch.testing.assert_close(layer.weight.grad, expected)
