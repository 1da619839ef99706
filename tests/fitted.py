"""A small network that knows the digits, for tests that need a trained model and not a large one.

Its body keeps its random weights and its classifier is the least-squares fit of the labels: it takes a second instead
of a training run, and a pass takes a tenth of one of robnet_micro. Under attack some of its answers hold within `EPS`.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from robnet_zoo import data
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo.architecture import config_of
from robnet_zoo.zoo.registry import CONFIG

EPS = "1/2550"  # a tenth of a step of grey


def save_fitted(spec: Genotype, folder: Path, *, seed: int = 0) -> None:
    """Save a spec and weights of it that know scikit-learn's digits, as a training run leaves them."""
    torch.manual_seed(seed)
    spec = spec.model_copy(update={"name": "fitted", "network": spec.network.model_copy(update={"channels": 4})})
    network, features = compile(spec), []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    pixels, labels = data.digits()[0].batch(slice(512))
    hook = network.classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    with torch.no_grad():
        for batch in pixels[:256].split(64):
            network.train()(batch)
        features.clear()
        network.eval()(pixels)
        hook.remove()
        known = torch.cat([features[0], torch.ones(512, 1)], dim=1).double()  # (512, D + 1)
        right = nn.functional.one_hot(labels, 10).double()
        ridge = 0.1 * torch.eye(known.shape[1], dtype=torch.float64)
        fit = 10 * torch.linalg.solve(known.T @ known + ridge, known.T @ right)
        network.classifier.weight.copy_(fit[:-1].T)
        network.classifier.bias.copy_(fit[-1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / CONFIG).write_text(json.dumps(config_of(spec)))
    spec.save(folder / Genotype.file_name)
