"""The attacks of the page: what there is to choose from, and one that runs in a thread and tells its messages.

Torch, models and pictures are loaded when the first attack begins: drawing a cell needs none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from robnet_zoo.attacks import ATTACKS, AnyAttack
from robnet_zoo.core.documents import Document
from robnet_zoo.core.units import Pixels
from robnet_zoo.editor.desk import Desk
from robnet_zoo.editor.recent import Recent
from robnet_zoo.errors import DocumentError, EditorError, RobnetZooError, StoppedError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import LOCAL
from robnet_zoo.zoo import weights

if TYPE_CHECKING:
    from robnet_zoo.benchmarks.targets.target import Target
    from robnet_zoo.editor.pictures import Pictures

THREAD = "attack"  # the name of the threads in which attacks run
MAX_AHEAD = 16  # messages that an attack is ahead of whoever watches it
POLL = 0.1  # seconds between two looks at whether there is still somebody
MAX_MODELS = 2  # that are kept loaded
Json = dict[str, Any]


class Watching(Document):
    """An attack that is to be watched.

    model: one of those that `start` names. pictures: `digits`, or the key of a file that was sent. index: of the image.
    label: its class, by default its own or, if it has none, the one that the model sees.
    """

    model: str
    pictures: str
    index: Annotated[int, Field(ge=0)]
    label: Annotated[int, Field(ge=0)] | None = None
    attack: AnyAttack
    eps: Pixels
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Attacker:
    """What attacks need, which is loaded when the first begins: torch, models, and pictures.

    desk: which names the models.
    """

    def __init__(self, desk: Desk) -> None:
        self.names = {model["name"] for model in models(desk)}
        self.targets: Recent[Target] = Recent(MAX_MODELS)
        self.running: set[Event] = set()  # set, they stop the attacks that run

    @cached_property
    def pictures(self) -> Pictures:
        """Return the pictures of the page."""
        from robnet_zoo.editor.pictures import Pictures

        return Pictures()

    def target(self, name: str) -> Target:
        """Return a model that was named at the start. Raises EditorError or TargetError."""
        from robnet_zoo.benchmarks.targets.load import load_target

        if name not in self.names:
            raise EditorError(f"expected a model that was named at the start, got {name!r}")
        return self.targets.get(name, lambda: load_target(name, dtype="float32"))

    def stop(self) -> None:
        """Stop all attacks at their next query."""
        for stop in tuple(self.running):
            stop.set()

    def messages(self, asked: Watching, stop: Event) -> Iterator[Json]:
        """Yield the messages of an attack, which runs in a thread of its own. stop: once set, it ends the attack."""
        queue: Queue[Json] = Queue(MAX_AHEAD)

        def tell(message: Json) -> None:
            while True:
                with suppress(Full):
                    return queue.put(message, timeout=POLL)
                if stop.is_set():  # nobody may be watching any more
                    return None

        # Not a daemon: an interpreter that ends while a thread is in torch aborts.
        thread = Thread(target=self.watch, args=(asked, tell, stop), name=THREAD)
        self.running.add(stop)
        thread.start()
        try:
            while thread.is_alive() or not queue.empty():
                with suppress(Empty):
                    yield queue.get(timeout=POLL)
        finally:
            stop.set()
            self.running.discard(stop)

    def watch(self, asked: Watching, tell: Callable[[Json], None], stop: Event) -> None:
        """Carry out an attack, and send its messages; the last one is of the kind `end` or `error`.

        Args:
            asked: the model, the picture, the attack and its radius.
            tell: takes each message.
            stop: ends the attack at its next query.
        """
        try:
            tell({"kind": "loading", "text": f"loading {asked.model} …"})
            from robnet_zoo.editor.watch import Watch

            target = self.target(asked.model)
            image, label = self.pictures.chosen(asked.pictures, asked.index, target)
            chosen = label if asked.label is None else asked.label
            Watch(target, image, chosen, asked.attack, eps=asked.eps, seed=asked.seed, tell=tell, stop=stop).run()
        except StoppedError:
            tell({"kind": "stopped"})
        except RobnetZooError as error:
            tell({"kind": "error", "text": str(error)})
        except Exception as error:  # a model of anybody's may raise anything
            logging.getLogger(__name__).exception("an attack failed")
            tell({"kind": "error", "text": f"{type(error).__name__}: {error}"})


def models(desk: Desk) -> list[Json]:
    """Return the models to choose from: those named at the start, then the bundled ones, with their spec's hash."""
    named = [{"name": name, "spec": _spec_hash(name)} for name in desk.models]
    bundled = weights.manifest().entries
    return named + [{"name": f"{entry.model}.{entry.tag}", "spec": entry.spec_hash} for entry in bundled]


def _spec_hash(name: str) -> str | None:
    """Return the hash of the spec in the folder of a training run, None for a model of another kind."""
    file = Path(name.removeprefix(LOCAL)) / Genotype.file_name
    with suppress(DocumentError):
        return Genotype.load(file).hash
    return None


def offered() -> list[Json]:
    """Return every attack with its parameters, as JSON Schema describes them."""
    schemas = [(kind, kind.model_json_schema()["properties"]) for kind in ATTACKS]
    return [
        {
            "kind": schema["kind"]["default"],
            "summary": (kind.__doc__ or "").splitlines()[0],
            "norm": kind().ball,
            "parameters": {
                key: value for key, value in schema.items() if key not in ("kind", "name") and "default" in value
            },
        }
        for kind, schema in schemas
    ]
