"""A protocol: the data, budget, attacks and randomness of a measurement, as one document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from robnet_zoo.attacks import AnyAttack, BatchAttack
from robnet_zoo.attacks.attack import MOST_SLOTS
from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, Tuple, called, exactly, problems_error
from robnet_zoo.core.precision import Arithmetic
from robnet_zoo.core.units import Pixels, in_image_units, radius_problem

Count = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z"), called("64 hex digits")]
Threat = Literal["white_box", "transfer"]
Look = Literal["straight_through", "twin"]
LOOKS: tuple[Look, ...] = get_args(Look)


class DataRequest(Document):
    """The images that a protocol is for. sha256: `Images.sha256` of the first n of them."""

    name: str
    sha256: Sha256 | None = None


class Protocol(Document):
    """Attacks, their budget and their randomness.

    threat: in a white box the attacks look at the target itself; in a transfer they run their full length on a source,
    and the target judges their last images. batch: the slots of the attacks (`robnet_zoo.attacks.continuous_batching`).
    dtype: of the arithmetic that proposes (`robnet_zoo.core.precision`); what counts is judged in float32 by the
    original. looks: how gradient attacks look at a quantised file, each image as bad as the worst of them: through its
    rounding as if that were the identity, or at the same graph without rounding, its float twin; both if not given.
    in_turn: names of attacks, each of which is tried only on the images that those named before it left; the images
    that they fooled count as fooled by it too. Without it every attack is tried on every image.
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\z"), called("letters, digits, _ and -")]
    description: str = ""
    threat: Threat = "white_box"
    data: DataRequest | None = None
    n: Count | None = None
    eps: Pixels = "8/255"
    attacks: Tuple[AnyAttack]
    seed: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1, le=MOST_SLOTS)] = 64
    dtype: Arithmetic = "bfloat16"
    looks: Annotated[Tuple[Look], Field(min_length=1)] | None = None
    in_turn: Annotated[Tuple[str], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        titles = Counter(attack.title for attack in self.attacks)
        repeated = [title for title, times in titles.items() if times > 1 or title in ("clean", "worst_case")]
        if repeated:
            expected = "expected a name of its own for each attack, got"
            raise problems_error([(("attacks",), f"{expected} {name} again") for name in repeated])
        for norm in sorted({attack.ball for attack in self.attacks}):
            if problem := radius_problem(self.eps, norm=norm):
                raise problems_error([(("eps",), problem)])
        batched = next((attack.title for attack in self.attacks if isinstance(attack, BatchAttack)), None)
        if batched is not None:
            if self.dtype != "float32":
                raise problems_error([(("dtype",), f"expected float32 for {batched}, got {self.dtype}")])
            if self.threat == "transfer":
                raise problems_error([(("threat",), f"expected white_box for {batched}, got transfer")])
        if self.in_turn is not None:
            self._check_turn(self.in_turn)
        return self

    def _check_turn(self, names: tuple[str, ...]) -> None:
        if self.threat == "transfer":
            raise problems_error([(("in_turn",), "expected none in a transfer, whose attacks run on every image")])
        able = [attack.title for attack in self.attacks if not isinstance(attack, BatchAttack)]
        if names != tuple(title for title in able if title in names):
            expected = f"expected names of attacks in their order, of {', '.join(able)}"
            raise problems_error([(("in_turn",), f"{expected}, got {', '.join(names)}")])
        norms = {attack.ball for attack in self.attacks if attack.title in names}
        if len(norms) > 1:  # an image in one ball would count as found in the other
            raise problems_error([(("in_turn",), f"expected attacks in one norm, got {' and '.join(sorted(norms))}")])

    def before(self, attack: str) -> tuple[str, ...]:
        """Return the names of the attacks that leave to this one only what they could not fool."""
        names = self.in_turn or ()
        return names[: names.index(attack)] if attack in names else ()

    @property
    def turns(self) -> str:
        """Return in words which attacks took turns, or nothing."""
        return f"in turn, each on what those before it left: {', '.join(self.in_turn)}" if self.in_turn else ""

    @property
    def eps_value(self) -> float:
        """Return eps in image units."""
        return in_image_units(self.eps)


PROTOCOLS = Bundled(Protocol, Path(__file__).parent / "protocols", "protocol")
protocol_names, load_protocol = PROTOCOLS.names, PROTOCOLS.load
