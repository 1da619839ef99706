"""A comparison whose outcome is known in closed form, for several test files."""

from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks.result import DataIdentity, ModelIdentity
from robnet_zoo.benchmarks.speed.methods import Setup
from robnet_zoo.data import Images

N, STEPS, CHUNK = 7, 8, 3  # 8 steps of 2 lead from one end of the ball to the other
REACHED = (0, 1, 0, 0, 0, 0, 1)  # 8 of 255 reach the half, or the label is wrong


def setup_of(images: Images, **changes) -> Setup:
    known = {
        "model": ModelIdentity(name="brightness", state_sha256="0" * 64),
        "data": DataIdentity(name=images.name, sha256=images.sha256, n=len(images)),
        "attack": Pgd(steps=STEPS),
        "chunk": CHUNK,
        "slots": 4,
        "software": {"robnet_zoo": "0", "torchattacks": "1", "slow": "2"},
        "device": "here",
    }
    return Setup(**(known | changes))
