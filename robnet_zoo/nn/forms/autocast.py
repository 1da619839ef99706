"""The modules that training computes with: fast forms of a compiled network, or any other module under autocast."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robnet_zoo.nn.changes import build_of
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.forms.inference import InferenceNetwork
from robnet_zoo.nn.forms.training import TrainingForm
from robnet_zoo.nn.network import Network, check_floating

BLOCK = 16  # channels that oneDNN takes at once, at most


def safe_layout(network: nn.Module) -> torch.memory_format:
    """Return the faster layout of images and kernels, channels last, if it is safe, else the default one.

    It is not safe for strided 1x1 convolutions of few channels: oneDNN's gradient of their kernels writes past its
    memory on a CPU (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    strided = (
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    )
    unsafe = any(layer.weight.device.type == "cpu" and layer.in_channels // layer.groups < BLOCK for layer in strided)
    return torch.contiguous_format if unsafe else torch.channels_last


class Cast(nn.Module):
    """A module under autocast, in its `layout`: for networks that were not compiled from a spec.

    Images: (N, C, H, W) in [0, 1], float32. Logits: (N, num_classes), float32.
    """

    def __init__(self, network: nn.Module, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype, self.layout = network, dtype, safe_layout(network)

    def forward(self, x: Tensor) -> Tensor:
        check_floating(x)
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.network(x)
        return logits.float()


def training_form(network: nn.Module, *, dtype: torch.dtype, traced: bool = False) -> nn.Module:
    """Return the module to train: the same parameters and batch norms, arranged for speed.

    A compiled network must be as its spec builds it. That is not checked here, in every update, but by `state_of`.

    Args:
        network: any module.
        dtype: of the arithmetic.
        traced: whether torch.compile shall trace the module when it is called.
    """
    form = TrainingForm(network, dtype=dtype) if isinstance(network, Network) else Cast(network, dtype=dtype)
    if traced:
        _trace(form)
    return form


def attack_form(network: nn.Module, *, dtype: torch.dtype, traced: bool = False) -> nn.Module:
    """Return the module that attacks run on: the function of a network in eval mode, in which it must stay meanwhile.

    The module has the network's present weights; the next call for the same network refreshes and returns it again.

    Args:
        network: any module.
        dtype: of the arithmetic.
        traced: whether torch.compile shall trace the form of a compiled network when it is called.
    """
    if not isinstance(network, Network):
        return Cast(network, dtype=dtype)
    device = next(network.parameters()).device
    made_of = build_of(network)  # with other layers or hooks, the form has to be rebuilt, or is refused
    forms = _FORMS.setdefault(network, {})
    before, form = forms.get((dtype, device, traced), ((), None))
    if form is not None and before == made_of:
        form.refresh()
        return form
    form = for_inference(network, dtype=dtype)
    if traced:
        _trace(form)
    forms[dtype, device, traced] = made_of, form
    return form


def _trace(form: nn.Module) -> None:
    """Have torch.compile trace a module anew for each shape of images that it is called with."""
    form.compile(dynamic=False)


_Forms = dict[tuple[torch.dtype, torch.device, bool], tuple[tuple[object, ...], InferenceNetwork]]
_FORMS: WeakKeyDictionary[Network, _Forms] = WeakKeyDictionary()
