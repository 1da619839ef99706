"""Grey images and a model in closed form, for several test files."""

from robnet_zoo.attacks import DeepFool, Fgsm, Pgd
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.benchmarks.result import Result
from tests.fitted import EPS

WHITE_BOX = load_protocol("white_box")


SHORT = Protocol(
    name="short",
    eps=EPS,
    n=24,
    batch=8,
    attacks=(Fgsm(), Pgd(steps=4, step=EPS, restarts=2), DeepFool(steps=3, candidates=2)),
)


def without_times(result: Result) -> dict:
    """Return the document without the seconds."""
    document = result.model_dump(mode="json")
    for measurement in [*document["measurements"], document["worst_case"]]:
        measurement.pop("seconds")
    return document
