"""The spec of an architecture: a small, strict, frozen JSON document. Imports no torch.

A cell is a directed acyclic graph. Nodes 0 and 1 are its inputs, the outputs of the cell before the previous one
and of the previous one; nodes 2, 3, ... are intermediate. Every pair (source, target) with source < target and
target >= 2 is an edge, and α says which operations it carries (paper, section 3.2):

    node j = sum over i < j, k of α[(i, j), k] * operation k (node i)

A node whose edges carry nothing is zero. The cell's output is the concatenation of the nodes in `concat`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from robnet_zoo.core.documents import (
    Document,
    Place,
    Problem,
    Tuple,
    called,
    exactly,
    nearest,
    problems_error,
    problems_in,
    renamed,
    shown,
)
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.layers import DenoiseForm
from robnet_zoo.genotype.operations import OPERATIONS

SCHEMA_VERSION = 1
MAX_NODES = 32  # intermediate nodes of a cell
MAX_EDGES = MAX_NODES * (MAX_NODES + 3) // 2
MAX_OPERATIONS = 64
MAX_DEPTH = 1000
STEM_STRIDES = {"cifar": 1, "imagenet": 8}

Bit = Annotated[Literal[0, 1], exactly(0, 1)]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100), called("a letter, then letters, digits and _")
]
Text = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Budget = Literal["small", "medium", "large"]


class FrozenDict(dict[str, "Cell"]):
    """A dict that cannot be changed, so that a frozen document that holds one is frozen too."""

    def _refuse(self, *_: object, **__: object) -> Any:
        raise TypeError("a genotype is frozen; make a changed copy with model_copy(update=...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Cell]]]:
        return (FrozenDict, (dict(self),))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))  # like ==, whatever the order


class Edge(tuple[int, int]):
    """An edge, (source, target); prints as `0->2`."""

    def __str__(self) -> str:
        return f"{self[0]}->{self[1]}"


@cache
def edges(nodes: int) -> tuple[Edge, ...]:
    """Return the edges of a cell with `nodes` intermediate nodes, by target, then source: α's first axis."""
    return tuple(Edge((source, target)) for target in range(2, 2 + nodes) for source in range(target))


def _live_nodes(alpha: Sequence[tuple[int, ...]], concat: tuple[int, ...]) -> frozenset[int]:
    """Return the nodes, inputs included, from which operations lead to the output."""
    live = set(concat)
    every = edges(MAX_NODES)[: len(alpha)]
    for edge, row in reversed(list(zip(every, alpha, strict=True))):
        if edge[1] in live and any(row):
            live.add(edge[0])
    return frozenset(live)


class Cell(Document):
    """One cell: α over (edge, operation), edges ordered by target node, then source."""

    alpha: Annotated[
        Tuple[Annotated[Tuple[Bit], Field(max_length=MAX_OPERATIONS)]],
        Field(max_length=MAX_EDGES, description="(E, K) of 0 or 1; E = 2 + 3 + ... edges, K = len(operations)"),
    ]
    concat: Annotated[
        Tuple[Annotated[int, Field(ge=2)]],
        Field(max_length=MAX_NODES, description="nodes whose concatenation is the output, ascending"),
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise problems_error(problems)
        return self

    def _problems(self) -> Iterator[Problem]:
        sizes = {nodes * (nodes + 3) // 2: nodes for nodes in range(1, MAX_NODES + 1)}
        if len(self.alpha) not in sizes:
            yield ("alpha",), f"expected 2, 5, 9, 14, ... edges (2 + 3 + ... a node), got {len(self.alpha)}"
            return
        last = 1 + sizes[len(self.alpha)]
        if not self.concat or any(a >= b for a, b in pairwise(self.concat)):
            yield ("concat",), f"expected one or more nodes in ascending order, got {shown(self.concat)}"
        for index, node in enumerate(self.concat):
            if node > last:
                yield ("concat", index), f"expected a node from 2 to {last}, got {node}"

    @property
    def nodes(self) -> int:
        """Return how many intermediate nodes the cell has."""
        nodes = 0
        while nodes * (nodes + 3) // 2 < len(self.alpha):
            nodes += 1
        return nodes

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Return all E edges, in α's order."""
        return edges(self.nodes)

    @cached_property
    def live_nodes(self) -> frozenset[int]:
        """Return the nodes, inputs included, that the output depends on."""
        return _live_nodes(self.alpha, self.concat)

    def zeros(self, operations: tuple[str, ...]) -> frozenset[int]:
        """Return the nodes that are zero whatever the weights: sums of nothing, or of what keeps such a node zero."""
        zeros = set(range(2, 2 + self.nodes))
        for edge, row in zip(self.edges, self.alpha, strict=True):
            carried = [name for name, bit in zip(operations, row, strict=True) if bit]
            if carried and not (edge[0] in zeros and all(OPERATIONS[name].keeps_zero for name in carried)):
                zeros.discard(edge[1])  # edges are ordered by target, so whether the source is zero is known
        return frozenset(zeros)

    def without_dead_edges(self, operations: tuple[str, ...]) -> Cell:
        """Return the cell without operations that do not change its output, or the cell itself if it has none.

        They are those on edges into nodes that the output does not depend on, and those that add a zero.
        """
        zeros = self.zeros(operations)
        keeping = [OPERATIONS[name].keeps_zero for name in operations]
        alpha = [
            tuple(int(bit and not keeps) for bit, keeps in zip(row, keeping, strict=True)) if edge[0] in zeros else row
            for edge, row in zip(self.edges, self.alpha, strict=True)
        ]
        live = _live_nodes(alpha, self.concat)
        alpha = [row if edge[1] in live else (0,) * len(row) for edge, row in zip(self.edges, alpha, strict=True)]
        return self if tuple(alpha) == self.alpha else self.model_copy(update={"alpha": alpha})

    def active(self, operations: tuple[str, ...]) -> Iterator[tuple[Edge, str]]:
        """Yield (edge, operation) of every 1 in α on an edge into a live node, in α's order."""
        for edge, row in zip(self.edges, self.alpha, strict=True):
            if edge[1] in self.live_nodes:
                yield from ((edge, name) for name, bit in zip(operations, row, strict=True) if bit)


class Denoise(Document):
    """Denoising blocks between cells (Xie et al., 2019); what follows such a cell reads its denoised output."""

    after: Annotated[
        Tuple[Annotated[int, Field(ge=0)]],
        Field(min_length=1, max_length=MAX_DEPTH, description="0-based depths of the denoised cells, ascending"),
    ]
    form: Annotated[DenoiseForm, Field(description="how a pixel is made of the others")]


class NetworkConfig(Document):
    """The network around the cells."""

    stem: Annotated[
        Literal["cifar", "imagenet"],
        Field(description="cifar: one 3x3 conv to 3C; imagenet: three stride-2 convs to C"),
    ]
    channels: Annotated[Count, Field(description="C: channels of a node in the first cell")]
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH, description="number of cells; the layout has this length")]
    reductions: Annotated[
        Tuple[Annotated[int, Field(ge=0)]],
        Field(
            max_length=MAX_DEPTH,
            description="0-based depths of the cells that halve the size and double the channels, ascending",
        ),
    ]
    num_classes: Annotated[Count, Field(description="logits")]
    input_size: Annotated[
        tuple[Count, Count, Count], Field(strict=False, description="(channels, H, W) of an image in [0, 1]")
    ]
    affine: Annotated[bool, Field(description="whether the cells' batch norms learn a scale and shift")]
    denoise: Annotated[Denoise | None, Field(description="feature denoising; by default none")] = None


class Provenance(Document):
    """The origin of an architecture. It is not part of the hash."""

    source: Text | None = None  # in words
    paper: Text | None = None
    search: Text | None = None  # identifier of the search run
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    protocol: Text | None = None  # how candidates were judged
    state_sha256: Text | None = None  # of the supernet that candidates took their weights from

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "weights_sha256", "state_sha256")


def _unknown_names(data: object) -> Iterator[Problem]:
    """Yield the operations that there are not, and the cells of the layout that a document lacks."""
    if not isinstance(data, Mapping):
        return
    yield from _unknown_operations(data.get("operations"))
    layout, cells = data.get("layout"), data.get("cells")
    if isinstance(layout, list | tuple) and isinstance(cells, Mapping) and cells:
        yield from _unknown_cells(layout, cells)


def _unknown_cells(layout: Sequence[object], cells: Iterable[str]) -> Iterator[Problem]:
    for index, name in enumerate(layout):
        if isinstance(name, str) and name not in cells:
            yield ("layout", index), f"unknown cell {shown(name)}{nearest(name, cells)}"


def _unknown_operations(operations: object) -> Iterator[Problem]:
    for index, name in enumerate(operations if isinstance(operations, list | tuple) else ()):
        if isinstance(name, str) and name not in OPERATIONS:
            yield ("operations", index), f"unknown operation {shown(name)}{nearest(name, OPERATIONS)}"


class Genotype(Document):
    """An architecture.

    Genotype.load(path), .loads(text) and .parse(mapping) read one and raise DocumentError, one line that names the
    place; dumps() and save(path) write it. `hash` identifies the function that it compiles to.
    """

    file_name: ClassVar[str] = "spec.json"  # in the folder of a training run
    max_bytes: ClassVar[int] = 2**19  # the bundled ones take 4 kB; a hostile one of this size takes seconds

    schema_version: Annotated[Literal[1], exactly(SCHEMA_VERSION)]
    name: Name
    operations: Annotated[
        Tuple[str],
        Field(max_length=MAX_OPERATIONS, description="the operations that α's last axis indexes"),
    ]
    cells: Annotated[dict[Name, Cell], Field(max_length=MAX_DEPTH), AfterValidator(FrozenDict)]
    layout: Annotated[Tuple[str], Field(max_length=MAX_DEPTH, description="the cell at each depth")]
    network: NetworkConfig
    provenance: Provenance = Provenance()

    @model_validator(mode="wrap")
    @classmethod
    def _not_of_the_future(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse a document of a later schema for that reason alone: its other keys may be right there."""
        version = data.get("schema_version") if isinstance(data, Mapping) else None
        if type(version) is int and version > SCHEMA_VERSION:
            text = f"expected {SCHEMA_VERSION}, got {shown(version)}; a newer robnet_zoo reads it"
            raise problems_error([(("schema_version",), text)])
        return handler(data)

    @model_validator(mode="wrap")
    @classmethod
    def _no_unknown_names(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report unknown operations and cells where keys or types are wrong too, with which `_check` does not begin."""
        try:
            return handler(data)
        except ValidationError as error:
            problems = problems_in(error)
            unknown = [problem for problem in _unknown_names(data) if problem not in problems]
            raise problems_error([*unknown, *problems]) if unknown else error from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*self._operation_problems(), *self._layout_problems(), *self._size_problems()]
        problems = problems or list(self._zero_problems()) or list(self._unread_problems())
        if problems:
            raise problems_error(problems)
        return self

    def _operation_problems(self) -> Iterator[Problem]:
        if not self.operations:
            yield ("operations",), "expected one or more, got none"
            return
        yield from _unknown_operations(self.operations)
        for name, times in Counter(self.operations).items():
            if times > 1:
                yield ("operations",), f"expected each operation once, got {shown(name)} {times} times"
        for name, cell in self.cells.items():
            for index, row in enumerate(cell.alpha):
                if len(row) != len(self.operations):
                    text = f"expected {len(self.operations)} values, one an operation, got {len(row)}"
                    yield ("cells", name, "alpha", index), text

    def _layout_problems(self) -> Iterator[Problem]:
        network = self.network
        if len(self.layout) != network.depth:
            yield ("layout",), f"expected {counted(network.depth, 'cell')} (network.depth), got {len(self.layout)}"
        if not self.cells:
            yield ("cells",), "expected one or more, got none"
            return
        yield from _unknown_cells(self.layout, self.cells)
        yield from self._depth_problems(network.reductions, ("network", "reductions"))
        if network.denoise is not None:
            yield from self._depth_problems(network.denoise.after, ("network", "denoise", "after"))

    def _depth_problems(self, depths: tuple[int, ...], location: Place) -> Iterator[Problem]:
        if any(a >= b for a, b in pairwise(depths)):
            yield location, f"expected depths in ascending order, got {shown(depths)}"
        for index, depth in enumerate(depths):
            if depth >= self.network.depth:
                yield (*location, index), f"expected a depth from 0 to {self.network.depth - 1}, got {shown(depth)}"

    def _size_problems(self) -> Iterator[Problem]:
        """Yield sizes that a factorized reduction or the stem cannot halve. Reduced channels are even: doubled."""
        network = self.network
        stride = STEM_STRIDES[network.stem] * 2 ** len(network.reductions)
        for index, axis in ((1, "height"), (2, "width")):
            if network.input_size[index] % stride:
                text = f"expected a {axis} that {shown(stride)} divides, got {network.input_size[index]}"
                yield ("network", "input_size", index), text
        if network.stem == "imagenet" and network.channels % 2:
            yield ("network", "channels"), f"expected an even number for the imagenet stem, got {network.channels}"

    def _zero_problems(self) -> Iterator[Problem]:
        """Yield the cells of a network without any operation, of which it is simpler to say so than what reads what."""
        names = dict.fromkeys(self.layout)
        if not any(any(map(any, self.cells[name].alpha)) for name in names):
            for name in names:
                yield ("cells", name, "alpha"), "expected one or more operations, got zeros alone"

    def _unread_problems(self) -> Iterator[Problem]:
        """Yield the stem, or its last stage, and each cell whose output nothing reads."""
        reads = [self.cells[name].live_nodes & {0, 1} for name in self.layout]
        if self.network.stem == "cifar" and 0 in reads[0]:  # both inputs of the first cell are the stem's output
            reads[0] = frozenset({0, 1})
        for depth in range(-1, len(reads) - 1):
            if 1 in reads[depth + 1] or (depth + 2 < len(reads) and 0 in reads[depth + 2]):
                continue
            readers = " or ".join(f"layout[{later}]" for later in (depth + 1, depth + 2) if later < len(reads))
            location: Place = ("network", "stem") if depth < 0 else ("layout", depth)
            yield location, f"expected {readers} to read this output, got a network that skips it"

    @cached_property
    def hash(self) -> str:
        """Return the sha256 of the function that the spec compiles to, as 64 hex digits.

        Formatting, key order, names, provenance, unused cells and operations, dead edges and operations that add a
        zero do not change it; any change of the computed function does. The order of nodes is part of the function: it
        orders the channels.
        """
        described = {name: self._described(cell) for name, cell in self.cells.items()}
        function = {
            "network": self.network.model_dump(mode="json", exclude_none=True),
            "cells": [described[name] for name in self.layout],
        }
        text = json.dumps(function, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _described(self, cell: Cell) -> dict[str, Any]:
        cell = cell.without_dead_edges(self.operations)
        number = {node: index for index, node in enumerate(sorted(cell.live_nodes | {0, 1}))}
        active = sorted((number[edge[1]], number[edge[0]], name) for edge, name in cell.active(self.operations))
        return {"active": active, "concat": [number[node] for node in cell.concat]}

    @cached_property
    def density(self) -> float:
        """Return the share of the (edge, operation) pairs that are on, mean over the layout (paper, equation 2).

        The paper divides by the number of edges, which would allow values up to 2; here 1 is the maximum. It is a
        share of the search space: edges into dead nodes do not count as on, operations that no edge carries count as
        off, and those on nodes that are zero count like any other.
        """
        shares = [
            sum(1 for _ in self.cells[name].active(self.operations))
            / (len(self.cells[name].alpha) * len(self.operations))
            for name in self.layout
        ]
        return sum(shares) / len(shares)

    @property
    def signature(self) -> tuple[tuple[int, int, int], int]:
        """Return (channels, height, width) of the images that the network takes, and its number of classes."""
        return self.network.input_size, self.network.num_classes

    def fitted(self, *, num_classes: int | None = None, input_size: tuple[int, int, int] | None = None) -> Genotype:
        """Return the same architecture for other classes or images. Raises DocumentError if it cannot take them."""
        given = {"num_classes": num_classes, "input_size": input_size}
        changes = {key: value for key, value in given.items() if value is not None}
        return self._changed(network=self.network.model_dump() | changes)

    def scaled(self, *, width: float = 1.0, depth: float = 1.0, size: float = 1.0) -> Genotype:
        """Return the same architecture at another scale. Raises DocumentError if there is none.

        Args:
            width: share of the channels.
            depth: share of the cells, which are taken at even distances; there are as many reduction cells as before.
            size: share of the pixels on a side.
        """
        check_scale(self.name, width=width, depth=depth, size=size)
        network = self.network
        channels, *sides = network.input_size
        height, breadth = (max(1, round(size * side)) for side in sides)
        stride = STEM_STRIDES[network.stem] * 2 ** len(network.reductions)
        if height % stride or breadth % stride:
            expected = f"expected a size whose images are divisible by {stride}, got {height}x{breadth} pixels"
            raise DocumentError([expected], source=self.name)
        cells = max(len(network.reductions) + 1, round(depth * network.depth))
        layout = [self.layout[at * network.depth // cells] for at in range(cells)]
        reductions: list[int] = []
        for index, at in enumerate(network.reductions):  # the cell that reduces still does, at this share of the depth
            first, last = reductions[-1] + 1 if reductions else 0, cells - len(network.reductions) + index
            reductions.append(min(max(first, -(-at * cells // network.depth)), last))
            layout[reductions[-1]] = self.layout[at]
        changes: dict[str, Any] = {
            "channels": max(1, round(width * network.channels)),
            "depth": cells,
            "reductions": reductions,
            "input_size": (channels, height, breadth),
        }
        if network.denoise is not None:  # behind the end of the same stage, or share of the depth
            after = sorted({-(-(at + 1) * cells // network.depth) - 1 for at in network.denoise.after})
            changes["denoise"] = network.denoise.model_dump() | {"after": after}
        return self._changed(network=network.model_dump() | changes, layout=layout)

    def denoised(self, form: DenoiseForm) -> Genotype:
        """Return the architecture with a denoising block behind each stage (Xie et al., 2019).

        A stage ends where the size of the images changes.
        """
        network = self.network
        after = sorted({at - 1 for at in (*network.reductions, network.depth) if at})
        return self._changed(network=network.model_dump() | {"denoise": {"after": after, "form": form}})

    def _changed(self, *, network: Mapping[str, Any], layout: list[str] | None = None) -> Genotype:
        layout = list(self.layout) if layout is None else layout
        cells = {name: cell for name, cell in self.model_dump()["cells"].items() if name in layout}
        changed = self.model_dump() | {"network": network, "layout": layout, "cells": cells}
        return Genotype.parse(changed, source=self.name)

    def save_into(self, folder: Path) -> Path:
        """Write the document into a folder under its usual name, `spec.json`, and return the file."""
        path = folder / self.file_name
        self.save(path)
        return path

    def convs(self, name: str) -> tuple[int, int]:
        """Return the (direct, skip) convolutions of a cell; an edge is direct if its target follows its source."""
        carried = [edge for edge, op in self.cells[name].active(self.operations) if OPERATIONS[op].is_conv]
        direct = sum(1 for source, target in carried if target == source + 1)
        return direct, len(carried) - direct

    @property
    def direct_convs(self) -> int:
        """Return the number of convolutions on direct edges, over the whole layout."""
        return sum(self.convs(name)[0] for name in self.layout)

    @property
    def skip_convs(self) -> int:
        """Return the number of convolutions on skip edges, over the whole layout."""
        return sum(self.convs(name)[1] for name in self.layout)

    @property
    def budget(self) -> Budget:
        """Return the computational budget by convolutions a cell, mean over the layout (paper, section 3.4).

        small: at most 7; medium: above 7, at most 10; large: more.
        """
        mean = (self.direct_convs + self.skip_convs) / len(self.layout)
        return "small" if mean <= 7 else "medium" if mean <= 10 else "large"


def check_scale(name: str, **shares: float) -> None:
    """Raise DocumentError for shares, by name, that no scale has."""
    for what, share in shares.items():
        if not 0 < share < math.inf:
            raise DocumentError([f"{what}: expected a share above 0, got {share}"], source=name)
