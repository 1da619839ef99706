"""PGD-100 by this package and by other libraries, in one run: seconds, passes and robust accuracy.

    python -m robnet_zoo.benchmarks.speed.attacks --model robnet_micro.cifar10 --data IMAGES.npz -n 500 --threads 1
        --output attack_speed.json

Ours proposes on the inference form in bfloat16 (or in float32, as --dtype says) and judges with the compiled network in
float32. The others attack the naive form in float32 (`robnet_zoo.benchmarks.speed.naive`), which is what a user of the
original code has. With --processes, ours also shares the images out among processes, as `torchrun` does for `robnet-zoo
benchmark`. For a model that was not compiled from a spec, ours proposes on its traced form
(`robnet_zoo.nn.forms.traced`), and the others attack the model itself. Two more methods then show what each part of the
speed comes from: ours on the model itself, which is faster by its slots alone, and torchattacks on the traced form.
Equal for all:

- images, eps, step, number of steps, a random start, threads;
- the verdict: the model that the others attack judges the image that a method gives, in float32, after a check of ball
  and box. Neither is in any method's time or counts; ours also pays for judging its own claims, and foolbox for its own
  check of success;
- parameters ask for no gradients, which spares foolbox those that it would compute and drop.

The others attack every image in full length, even one that is misclassified without attack, as they always do. They
take turns, chunk by chunk, so that a drift of the machine's speed reaches them all; ours needs the whole queue, and
runs before them and again after them. Every turn is written down when it is done: after an interruption, the same
command resumes.

The others are not dependencies: torchattacks pins an old requests, and adv-lib imports visdom. They go into a folder of
their own, which is thrown away afterwards. (A virtual environment would not do if Python runs in one already: with
--system-site-packages it sees the packages of the base installation alone.) visdom's setup needs an old setuptools:

    echo 'setuptools<81' > build.txt
    PIP_CONSTRAINT=build.txt pip install --no-deps --target others torchattacks==3.5.1 foolbox==3.3.4 adv-lib==0.2.8 \
        eagerpy GitPython gitdb smmap requests urllib3 idna certifi charset-normalizer \
        visdom tornado jsonpatch jsonpointer websocket-client six
    PYTHONPATH=others python -m robnet_zoo.benchmarks.speed.attacks ...

One that cannot be imported is left out, and a line says so.
"""

from __future__ import annotations

import copy
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter
from pydantic import Field
from torch import Tensor, nn

from robnet_zoo.attacks import Classifier, Pgd
from robnet_zoo.attacks.ball import length, within
from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.journal import Journal
from robnet_zoo.benchmarks.protocol import Count
from robnet_zoo.benchmarks.result import Bit, DataIdentity
from robnet_zoo.benchmarks.speed.methods import (
    FORM_ALONE,
    OURS,
    SLOTS_ALONE,
    Library,
    Method,
    Setup,
    in_processes,
    installed,
    other,
    ours,
)
from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.probe import PROBED, probed
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.documents import Document, Tuple, version
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.precision import Arithmetic, resolve_dtype
from robnet_zoo.core.progress import bar as progress_bar
from robnet_zoo.core.statistics import ShareInterval, wilson
from robnet_zoo.data import Images, check_fits, load
from robnet_zoo.errors import DataError, DocumentError, SpeedError, TargetError
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.forms.traced import Traced
from robnet_zoo.nn.network import Network

REFERENCE = "torchattacks"


class Turn(Document):
    """A method's work on the images from `first` on, one after the other, as it was done at the turn `number` of all.

    cpu_seconds: those of `seconds` that the process had a processor, of all threads, and those of processes that it
    began. forwards, backwards: rows that went through the model attacked, judged: through the original, for these
    images together. correct: 1 if the image is still classified rightly.
    """

    number: Annotated[int, Field(ge=0)]
    method: str
    first: Annotated[int, Field(ge=0)]
    seconds: float
    cpu_seconds: float
    forwards: int
    backwards: int
    judged: int = 0
    correct: Tuple[Bit]


class MethodResult(Document):
    """One method on the first `images` images; where it took two turns on the same ones, their times' median counts.

    seconds: in all. seconds_per_image, cpu_seconds_per_image: medians of the turns. forwards, backwards, judged: an
    image.
    """

    method: str
    images: Count
    seconds: float
    seconds_per_image: float
    cpu_seconds_per_image: float
    images_per_second: float
    forwards: float
    backwards: float
    judged: float
    accuracy: float
    interval: ShareInterval  # Wilson, 95 %
    correct: Tuple[Bit]
    turns: Tuple[Turn]


class AttackSpeedResult(Document):
    """A results document of this benchmark. clean: which images are classified rightly without attack."""

    schema_version: Annotated[Literal[2], version(2, oldest=1)] = 2
    setup: Setup
    clean: Tuple[Bit]
    methods: Tuple[MethodResult]


def compare(
    network: Network, images: Images, setup: Setup, libraries: Mapping[str, Library], *, output: Path
) -> AttackSpeedResult:
    """Measure this package on the fast forms of a network, and the other libraries on its naive form.

    Args:
        network: in eval mode.
        images: the images to attack.
        setup: the attack, and what else decides the result.
        libraries: the other libraries, by name.
        output: where the document is saved.

    Raises: DocumentError and SpeedError as `measure` does.
    """
    slow = naive(copy.deepcopy(network), network.spec).requires_grad_(False)
    fast = for_inference(network, dtype=resolve_dtype(setup.dtype))
    for model, count in ((slow, setup.chunk), (fast, setup.slots)):  # the first call of a shape takes longer
        input_gradient(model, *images.batch(torch.arange(count) % len(images)))
    others = [other(name, library, slow, setup) for name, library in libraries.items()]
    first = images.batch(torch.arange(setup.slots) % len(images))
    with in_processes(fast, network, setup, first) if setup.processes > 1 else nullcontext() as shared_out:
        others = [shared_out, *others] if shared_out else others
        return measure(setup, images, slow, ours(fast, network, setup), others, output=output)


def compare_foreign(
    target: Target, images: Images, setup: Setup, libraries: Mapping[str, Library], *, output: Path
) -> AttackSpeedResult:
    """Measure this package on the traced form of a model, others on the model itself, and either part of ours alone.

    Args:
        target: of a torch module, or of a foreign ONNX file, whose graph takes the place of the model.
        images: the images to attack.
        setup: the attack, and what else decides the result.
        libraries: the other libraries, by name.
        output: where the document is saved.

    Raises: SpeedError if the target has no traced form, DocumentError and SpeedError as `measure` does.
    """
    target = probed(target, images.batch(slice(PROBED))[0])
    form = target.proposer
    if not isinstance(form, Traced):
        raise SpeedError(f"{target.name}: expected a model with a traced form, got one without: {target.why_not}")
    slow = form.classifier
    assert isinstance(slow, nn.Module), "a target's classifiers are modules"
    for model, count in ((slow, setup.chunk), (form, setup.chunk), (form, setup.slots)):
        input_gradient(model, *images.batch(torch.arange(count) % len(images)))
    others = [ours(slow, target.judge, setup, name=SLOTS_ALONE)]
    for name, library in libraries.items():
        others.append(other(name, library, slow, setup))
        if name == REFERENCE:
            others.append(other(FORM_ALONE, library, form, setup))
    return measure(setup, images, slow, ours(form, target.judge, setup), others, output=output)


def measure(
    setup: Setup,
    images: Images,
    judge: Classifier,
    ours: Method,
    others: Sequence[Method],
    *,
    output: Path,
    progress: bool = True,
) -> AttackSpeedResult:
    """Let the methods take their turns, and return the document, which is saved.

    After an interruption of any kind, the same call resumes with the turn that was interrupted.

    Args:
        setup: the attack, and what else decides the result.
        images: the images to attack.
        judge: the classifier that decides on success.
        ours: this package's method.
        others: the other methods.
        output: where the document is saved; until then, a journal lies beside it.
        progress: whether a bar is shown.

    Raises: DocumentError if the journal is of another setup, SpeedError if a method leaves its ball or the box.
    """
    key = hashlib.sha256(setup.dumps().encode()).hexdigest()
    plan = list(enumerate(_plan(setup, ours, others)))
    path = output.with_name(f"{output.name}.journal")
    with Journal(path, key) as journal:
        done = [Turn.parse(entry, source=str(path)) for entry in journal.entries]
        left = [(number, step) for number, step in plan if number not in {turn.number for turn in done}]
        gradients = sum(len(part) for _, (_, part) in plan) * setup.attack.steps
        finished = sum(len(turn.correct) for turn in done) * setup.attack.steps
        with progress_bar(total=gradients, done=finished, unit="gradients", shown=progress) as bar:
            for number, (method, part) in left:
                bar.set_description(method.name)
                turn = _turn(number, method, part, images, judge, setup, bar.update)
                journal.add(turn.model_dump(mode="json"))
                done.append(turn)
                bar.update(finished + len(turn.correct) * setup.attack.steps - bar.n)  # less what was announced before
                finished += len(turn.correct) * setup.attack.steps
        clean = torch.cat([_right(judge, *batch) for batch in images.batches(setup.chunk)])
        result = AttackSpeedResult(
            setup=setup,
            clean=_bits(clean),
            methods=tuple(
                _summary(method.name, [turn for turn in done if turn.method == method.name])
                for method in (ours, *others)
            ),
        )
        result.save(output)
        journal.close(delete=True)
    return result


def _plan(setup: Setup, ours: Method, others: Sequence[Method]) -> Iterator[tuple[Method, range]]:
    """Return which method attacks which images, in order."""
    n = setup.data.n
    whole = [ours, *(method for method in others if method.whole)]
    yield from ((method, range(n)) for method in whole)
    for start in range(0, n, setup.chunk):
        for method in others:
            if method.whole:
                continue
            limit = n if method.name in (REFERENCE, FORM_ALONE) else min(n, setup.others or n)
            if start < limit:
                yield method, range(start, min(start + setup.chunk, limit))
    yield from ((method, range(n)) for method in reversed(whole))


def _turn(
    number: int,
    method: Method,
    part: range,
    images: Images,
    judge: Classifier,
    setup: Setup,
    progress: Callable[[int], object],
) -> Turn:
    clean, labels = images.batch(slice(part.start, part.stop))
    with torch.random.fork_rng(devices=[]):  # the others draw from the global generator
        torch.manual_seed(setup.seed + part.start)
        started, cpu_started = time.perf_counter(), time.process_time()
        attacked = method.attack(clean.clone(), labels.clone(), progress)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started + attacked.cpu_seconds
    _check_inside(method.name, attacked.images, clean, setup.eps_value)
    batches = zip(attacked.images.split(setup.chunk), labels.split(setup.chunk), strict=True)
    return Turn(
        number=number,
        method=method.name,
        first=part.start,
        seconds=round(seconds, 6),
        cpu_seconds=round(cpu_seconds, 6),
        forwards=attacked.forwards,
        backwards=attacked.backwards,
        judged=attacked.judged,
        correct=_bits(torch.cat([_right(judge, *batch) for batch in batches])),
    )


def _check_inside(name: str, adversarial: Tensor, clean: Tensor, eps: float) -> None:
    low, high = (float(value) for value in adversarial.aminmax())
    far = length(adversarial - clean, "linf").max()
    if not (low >= 0 and high <= 1 and within(far, eps)):  # NaN too
        expected = f"expected images in [0, 1] and within {eps:.6f} of the clean ones"
        raise SpeedError(f"{name}: {expected}, got values from {low:.3g} to {high:.3g}, up to {float(far):.6f} away")


@torch.no_grad()
def _right(judge: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    return judge(images).argmax(1) == labels  # (N,)


def _bits(right: Tensor) -> tuple[Bit, ...]:
    return tuple(1 if value else 0 for value in right.tolist())


def _summary(name: str, turns: Sequence[Turn]) -> MethodResult:
    parts: dict[int, list[Turn]] = {}  # by first image
    for turn in turns:
        parts.setdefault(turn.first, []).append(turn)
    once = [parts[first][0] for first in sorted(parts)]
    correct = tuple(bit for turn in once for bit in turn.correct)
    n = len(correct)
    seconds = sum(statistics.median(turn.seconds for turn in part) for part in parts.values())
    return MethodResult(
        method=name,
        images=n,
        seconds=round(seconds, 3),
        seconds_per_image=statistics.median(turn.seconds / len(turn.correct) for turn in turns),
        cpu_seconds_per_image=statistics.median(turn.cpu_seconds / len(turn.correct) for turn in turns),
        images_per_second=n / seconds,
        forwards=sum(turn.forwards for turn in once) / n,
        backwards=sum(turn.backwards for turn in once) / n,
        judged=sum(turn.judged for turn in once) / n,
        accuracy=sum(correct) / n,
        interval=wilson(sum(correct), n),
        correct=correct,
        turns=tuple(sorted(turns, key=lambda turn: turn.number)),
    )


def table(result: AttackSpeedResult) -> str:
    """Return the result as a Markdown table.

    seconds: for all n images, in proportion where a method attacked fewer. speed: torchattacks' median seconds an image
    by the method's; in CPU time, which a busy machine changes less. forwards: with those that judge. difference: to
    torchattacks' robust accuracy on the same images, in points.
    """
    setup, n = result.setup, result.setup.data.n
    reference = next((method for method in result.methods if method.method == REFERENCE), None)
    head = f"{setup.attack.title} at {setup.eps}, {setup.model.name}, {setup.data.name}, n = {n}"
    others = f"the others in chunks of {setup.chunk}"
    device = f"{setup.device}, ours in float32" if setup.dtype == "float32" else setup.device
    lines = [
        f"{head}, {sum(result.clean) / n:.1%} right without attack; {device}; {setup.slots} slots, {others}",
        "",
        "| library | images | seconds | images/s | speed | in CPU time | forwards | backwards "
        "| robust accuracy | difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in result.methods:
        speed = cpu_speed = difference = "–"
        if reference is not None:
            speed = f"{reference.seconds_per_image / method.seconds_per_image:.2f}x"
            cpu_speed = f"{reference.cpu_seconds_per_image / method.cpu_seconds_per_image:.2f}x"
            difference = f"{_points(method, reference):+.1f}"
        seconds = f"{method.seconds:.1f}" if method.images == n else f"~{method.seconds / method.images * n:.1f}"
        lines.append(
            f"| {_versioned(method.method, setup.software)} | {method.images} | {seconds} "
            f"| {method.images_per_second:.2f} | {speed} | {cpu_speed} | {method.forwards + method.judged:.1f} "
            f"| {method.backwards:.1f} | {method.accuracy:.1%} ({method.interval:.1%}) | {difference} |"
        )
    runs = " and ".join(f"{turn.seconds:.1f} s" for turn in result.methods[0].turns)
    notes = [f"{OURS} ran before and after the others: {runs}."]
    if reference is not None and reference is not result.methods[0]:
        notes.append(_disagreements(result.methods[0], reference))
    return "\n".join([*lines, "", " ".join(notes)])


def _versioned(name: str, software: Mapping[str, str]) -> str:
    library, comma, part = name.partition(",")
    return f"{library} {software[library]}{comma}{part}"


def _disagreements(ours: MethodResult, reference: MethodResult) -> str:
    pairs = list(zip(ours.correct, reference.correct, strict=False))
    only, theirs = pairs.count((0, 1)), pairs.count((1, 0))
    return (
        f"Images that {REFERENCE} alone leaves right: {only} of {len(pairs)}; that {OURS} alone leaves right: {theirs}."
    )


def _points(method: MethodResult, reference: MethodResult) -> float:
    n = min(method.images, reference.images)
    return 100 * (sum(method.correct[:n]) - sum(reference.correct[:n])) / n


def main(
    *,
    data: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    model: str | None = None,
    spec: str | None = None,
    weights: Path | None = None,
    n: Annotated[int | None, Parameter(name="-n")] = None,
    threads: int = 1,
    steps: int = 100,
    chunk: int = 25,
    slots: int = 64,
    dtype: Arithmetic = "bfloat16",
    processes: int = 1,
    others: int | None = None,
    seed: int = 0,
) -> None:
    """Attack a model with this package and with the others that are installed, and print the table.

    Args:
        data: The images: an .npz file, or anything else that `robnet_zoo.data.load` takes.
        output: Where the results document is saved; until then, a journal lies beside it.
        model: A model with weights of its own, such as robnet_micro.cifar10, or whatever else `load_target` takes.
        spec: Instead of a model: a bundled spec or the path of one, with --weights.
        weights: The spec's, a safetensors file.
        n: Attack the first n images; by default all.
        threads: For torch.
        steps: Of PGD, each of 2/255.
        chunk: Images that each other library gets at once.
        slots: Images that this package works on at once.
        dtype: Of this package's proposer: float32 is what a processor without bfloat16 takes in any case.
        processes: Let this package also attack in so many processes, which share out the images and the threads.
        others: Let the libraries other than torchattacks attack only this many images: their cost an image is constant.
        seed: Of all random starts.
    """
    named = model if model is not None else spec
    if named is None or (model is not None and spec is not None) or (spec is None) != (weights is None):
        raise DocumentError(["expected either --model, or --spec and --weights"])
    torch.set_num_threads(threads)
    target = load_target(named, weights=weights, dtype=dtype, device="cpu")
    images = load(data, n=n)
    if target.input_size is not None and target.num_classes is not None:
        check_fits(images, input_size=target.input_size, num_classes=target.num_classes)
    libraries = installed()
    setup = Setup(
        model=target.identity,
        data=DataIdentity(name=images.name, sha256=images.sha256, n=len(images)),
        attack=Pgd(steps=steps),
        seed=seed,
        chunk=chunk,
        others=others,
        slots=slots,
        dtype=dtype,
        processes=processes,
        software=software() | {name: metadata.version(name) for name in libraries},
        device=device(),
    )
    network = target.judge
    if processes > 1 and not isinstance(network, Network):
        raise DocumentError([f"--processes: expected a model compiled from a spec, got {target.name}"])
    if isinstance(network, Network):
        print(table(compare(network, images, setup, libraries, output=output)))
    else:
        print(table(compare_foreign(target, images, setup, libraries, output=output)))


if __name__ == "__main__":
    import cyclopts

    try:
        cyclopts.run(main)
    except (DocumentError, DataError, SpeedError, TargetError) as problem:
        sys.exit(f"error: {problem}")
