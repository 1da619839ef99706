"""Rounding passes gradients, and integers are held as their type asks for."""

import pytest
import torch
from onnx import TensorProto

from robnet_zoo.converters.onnx.operators.node import bounded, held, held_type, rounded, straight_through, torch_type
from robnet_zoo.errors import UnsupportedError


def test_rounding_passes_the_gradient():
    x = torch.tensor([0.5, 1.5, -0.5, 2.4], requires_grad=True)
    y = rounded(x)
    (gradient,) = torch.autograd.grad((y * torch.arange(4.0)).sum(), x)
    assert y.tolist() == [0.0, 2.0, 0.0, 2.0]
    assert gradient.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_value_without_a_gradient_is_handed_on():
    value = torch.ones(3)
    assert straight_through(torch.zeros(3), value) is value


def test_integers_are_held_without_loss():
    for kind, extreme in ((TensorProto.INT16, -32768), (TensorProto.INT32, 2**31 - 1), (TensorProto.UINT8, 255)):
        assert int(torch.tensor(extreme, dtype=torch_type(kind)).to(held_type(kind))) == extreme
    assert held(torch.tensor([2**31 - 1], dtype=torch.int32)).item() == 2**31 - 1
    assert held(torch.ones(2)).dtype == torch.float32


def test_type_that_torch_does_not_have_is_named():
    with pytest.raises(UnsupportedError, match="a type that torch has, got ONNX's type 8"):
        torch_type(TensorProto.STRING)


def test_gigabytes_are_refused():
    assert bounded([3, 4]) == [3, 4]
    with pytest.raises(UnsupportedError, match="at most 2,147,483,648 numbers, got one of"):
        bounded([2**16, 2**16])
