"""What the tests of attacks share."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo import data
from tests.attacks.classifiers import small


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """Return a small network, which no test may change."""
    return small()


@pytest.fixture(scope="session")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained on FGSM's images of handwritten digits, and 40 others that it gets right.

    Returns: (model, (40, 3, 8, 8), (40,)).
    """
    torch.manual_seed(0)
    sides = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, stride=2)]
    model = nn.Sequential(sides[0], nn.ReLU(), sides[1], nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    (images, labels), (others, answers) = (part.batch(slice(None)) for part in data.digits())
    images, others = (F.avg_pool2d(part, part.shape[-1] // 8) for part in (images, others))
    for _ in range(20):
        for batch in torch.randperm(len(images)).split(100):
            leaf = images[batch].requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), labels[batch]), leaf)
            adversarial = (leaf.detach() + 0.1 * gradient.sign()).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(model(adversarial), labels[batch]).backward()
            optimizer.step()
    right = (model(others).argmax(1) == answers).nonzero()[:40, 0]
    return model.eval().requires_grad_(False), others[right], answers[right]


@pytest.fixture
def linear() -> nn.Module:
    """Return a classifier of two classes with linear logits: the worst image of the ball is known in closed form."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(1))
