"""The comparison with other libraries: its counts, its verdicts, its table, and that it resumes where it stopped."""

import pytest
import torch
from torch import nn

from robnet_zoo.benchmarks.speed import attacks as attack_speed
from robnet_zoo.benchmarks.speed.attacks import AttackSpeedResult, Turn, compare, compare_foreign, measure, table
from robnet_zoo.benchmarks.speed.methods import other, ours
from robnet_zoo.benchmarks.targets.target import is_narrow
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.data import Images
from robnet_zoo.errors import DocumentError, SpeedError
from robnet_zoo.nn.compiler import compile
from tests.benchmarks.speed.setups import REACHED, STEPS, N, setup_of
from tests.brightness import Brightness


def signs(model, images, labels, setup):
    """Return a library of two forwards and one backward a step, which draws from the global generator."""
    x = (images + torch.empty_like(images).uniform_(-setup.eps_value, setup.eps_value)).clamp(0, 1)
    for _ in range(setup.attack.steps):
        x = x.detach().requires_grad_()
        model(x.detach())
        loss = nn.functional.cross_entropy(model(x), labels)
        x = x + 2 / 255 * torch.autograd.grad(loss, x)[0].sign()
        x = (images + (x - images).clamp(-setup.eps_value, setup.eps_value)).clamp(0, 1)
    return x


def idle(model, images, labels, setup):
    """Return a library that gives back random images of the ball, after one forward."""
    with torch.no_grad():
        model(images)
    noise = torch.empty_like(images).uniform_(-setup.eps_value, setup.eps_value)
    return (images + noise).clamp(0, 1)


def run(images, output, setup=None, libraries=(signs, idle)):
    setup = setup or setup_of(images)
    model = Brightness().requires_grad_(False)
    others = [
        other(name, library, model, setup) for name, library in zip(("torchattacks", "slow"), libraries, strict=True)
    ]
    return measure(setup, images, model, ours(model, model, setup), others, output=output, progress=False)


def without_times(result: AttackSpeedResult) -> list[dict]:
    times = {"seconds": 0.0, "cpu_seconds": 0.0}
    return [turn.model_copy(update=times).model_dump() for method in result.methods for turn in method.turns]


def test_verdicts_are_those_of_the_closed_form(images, tmp_path):
    result = run(images, tmp_path / "result.json")
    first, second, third = result.methods
    assert result.clean == (0, 1, 1, 1, 1, 1, 1)
    assert first.correct == second.correct == REACHED
    assert second.accuracy == 2 / 7
    assert third.correct[1] == 1


def test_rows_of_a_library_are_counted_as_they_pass(images, tmp_path):
    _, second, third = run(images, tmp_path / "result.json").methods
    assert (second.forwards, second.backwards, second.judged) == (2 * STEPS, STEPS, 0)
    assert (third.forwards, third.backwards, third.judged) == (1, 0, 0)
    assert [turn.forwards for turn in second.turns] == [2 * STEPS * 3, 2 * STEPS * 3, 2 * STEPS]


def test_every_image_is_attacked_once_by_others_and_twice_by_ours(images, tmp_path):
    result = run(images, tmp_path / "result.json")
    parts = {method.method: [(turn.first, len(turn.correct)) for turn in method.turns] for method in result.methods}
    assert parts == {
        "robnet_zoo": [(0, 7), (0, 7)],
        "torchattacks": [(0, 3), (3, 3), (6, 1)],
        "slow": [(0, 3), (3, 3), (6, 1)],
    }
    numbers = [[turn.number for turn in method.turns] for method in result.methods]
    assert numbers == [[0, 7], [1, 3, 5], [2, 4, 6]]


def test_others_can_be_limited_to_the_first_images_but_torchattacks_not(images, tmp_path):
    result = run(images, tmp_path / "result.json", setup_of(images, others=4))
    assert [method.images for method in result.methods] == [7, 7, 4]


def test_a_result_survives_its_file_and_leaves_no_journal(images, tmp_path):
    result = run(images, tmp_path / "result.json")
    assert AttackSpeedResult.load(tmp_path / "result.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("calls", range(6))
def test_an_interrupted_run_goes_on_to_the_same_outcomes(images, tmp_path, calls):
    undisturbed = run(images, tmp_path / "undisturbed.json")
    started = []

    def interrupted(model, images, labels, setup):
        if len(started) == calls:
            raise KeyboardInterrupt
        started.append(len(images))
        return signs(model, images, labels, setup)

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "result.json", libraries=(interrupted, lambda *rest: interrupted(*rest)))
    before = len(started)

    def resumed(model, images, labels, setup):
        started.append(len(images))
        return signs(model, images, labels, setup)

    whole = run(images, tmp_path / "undisturbed.json", libraries=(signs, signs))
    result = run(images, tmp_path / "result.json", libraries=(resumed, resumed))
    assert without_times(result) == without_times(whole)
    assert before == calls
    assert sum(started) == 2 * N  # no image twice
    assert result.methods[1].correct == undisturbed.methods[1].correct


def test_a_journal_cut_anywhere_leads_to_the_same_outcomes(images, tmp_path):
    undisturbed = run(images, tmp_path / "undisturbed.json")
    output, journal = tmp_path / "result.json", tmp_path / "result.json.journal"

    def stops(model, images, labels, setup):
        if len(images) == 1:
            raise KeyboardInterrupt
        return idle(model, images, labels, setup)

    with pytest.raises(KeyboardInterrupt):
        run(images, output, libraries=(signs, stops))
    whole = journal.read_bytes()
    for length in range(0, len(whole), 97):
        journal.write_bytes(whole[:length])
        assert without_times(run(images, output)) == without_times(undisturbed)


def test_the_journal_of_another_setup_is_refused(images, tmp_path):
    def stops(model, images, labels, setup):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "result.json", libraries=(signs, stops))
    with pytest.raises(DocumentError, match=r"result\.json\.journal: expected the journal of this run"):
        run(images, tmp_path / "result.json", setup_of(images, seed=1))


def test_a_method_that_leaves_the_ball_is_refused(images, tmp_path):
    def far(model, images, labels, setup):
        return images + 9 / 255

    with pytest.raises(RuntimeError, match=r"slow: expected images in \[0, 1\] and within 0\.031373"):
        run(images, tmp_path / "result.json", libraries=(signs, far))


def test_the_global_generator_is_left_as_it_was(images, tmp_path):
    before = torch.get_rng_state()
    run(images, tmp_path / "result.json")
    assert torch.equal(torch.get_rng_state(), before)


def turn(number, method, first, seconds, correct) -> Turn:
    return Turn(
        number=number,
        method=method,
        first=first,
        seconds=seconds,
        cpu_seconds=seconds / 2,
        forwards=len(correct) * 3,
        backwards=len(correct) * 2,
        judged=len(correct) if method == "robnet_zoo" else 0,
        correct=correct,
    )


def test_the_table_compares_medians_and_the_same_images(images):
    done = [
        turn(0, "robnet_zoo", 0, 6.0, (0, 1, 1, 1, 0, 0, 1)),
        turn(1, "torchattacks", 0, 30.0, (0, 1, 1)),
        turn(2, "slow", 0, 60.0, (0, 0, 1)),
        turn(3, "torchattacks", 3, 15.0, (1, 1, 0)),
        turn(4, "torchattacks", 6, 10.0, (1,)),
        turn(5, "robnet_zoo", 0, 8.0, (0, 1, 1, 1, 0, 0, 1)),
    ]
    names = ("robnet_zoo", "torchattacks", "slow")
    result = AttackSpeedResult(
        setup=setup_of(images, others=3),
        clean=(1, 1, 1, 1, 1, 1, 0),
        methods=tuple(attack_speed._summary(name, [turn for turn in done if turn.method == name]) for name in names),
    )
    lines = table(result).splitlines()
    assert lines[0].startswith("pgd8 at 8/255, brightness, grey, n = 7, 85.7% right without attack")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:7]]
    # 7 s for 7 images by ours, and 10, 5 and 10 s an image by torchattacks
    assert cells[0][:6] == ["robnet_zoo 0", "7", "7.0", "1.00", "10.00x", "10.00x"]
    assert cells[0][6:8] == ["4.0", "2.0"]
    assert cells[0][9] == "-14.3"  # 4 of 7 instead of 5
    assert cells[1][:6] == ["torchattacks 1", "7", "55.0", "0.13", "1.00x", "1.00x"]
    assert cells[1][8:] == ["71.4% (35.9 – 91.8)", "+0.0"]
    assert cells[2][:5] == ["slow 2", "3", "~140.0", "0.05", "0.50x"]
    assert cells[2][9] == "-33.3"  # 1 of 3 instead of 2, on the same images
    runs = "robnet_zoo ran before and after the others: 6.0 s and 8.0 s."
    pairs = "Images that torchattacks alone leaves right: 1 of 7; that robnet_zoo alone leaves right: 0."
    assert lines[-1] == f"{runs} {pairs}"


def test_the_table_has_no_ratios_without_torchattacks(images, tmp_path):
    setup, model = setup_of(images), Brightness().requires_grad_(False)
    result = measure(setup, images, model, ours(model, model, setup), [], output=tmp_path / "r.json", progress=False)
    assert "| – | – |" in table(result)
    assert [method.method for method in result.methods] == ["robnet_zoo"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_network_is_attacked_in_its_fast_form_by_ours_and_in_its_naive_form_by_others(
    dtype, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: True)
    monkeypatch.setattr(attack_speed, "ours", lambda form, judge, setup: forms.append(form) or ours(form, judge, setup))
    seen, forms = [], []

    def spy(model, images, labels, setup):
        seen.append(type(model.model.cells[0]).__name__)
        return signs(model, images, labels, setup)

    pixels = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = compile(tiny).eval()
    with torch.no_grad():
        labels = network(pixels.float() / 255).argmax(1)
    images = Images(pixels, labels, "noise")
    setup = setup_of(images, dtype=dtype)
    result = compare(network, images, setup, {"torchattacks": spy}, output=tmp_path / "result.json")
    assert set(seen) == {"NaiveCell"}
    assert [is_narrow(form) for form in forms] == [dtype == "bfloat16"]
    assert ("ours in float32" in table(result)) == (dtype == "float32")
    assert result.clean == (1,) * N
    first, second = result.methods
    assert first.turns[0].correct == first.turns[1].correct
    assert first.backwards <= STEPS == second.backwards
    assert first.judged >= 1


class Folding(nn.Module):
    """A foreign module with a batch norm to fold."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


def test_of_a_foreign_model_each_part_of_the_speed_is_measured_alone(images, tmp_path):
    seen = []

    def spy(model, images, labels, setup):
        seen.append(type(model.model).__name__)
        return signs(model, images, labels, setup)

    target = of_module(Folding(), name="foreign")
    result = compare_foreign(target, images, setup_of(images), {"torchattacks": spy}, output=tmp_path / "result.json")
    assert set(seen[:2]) == {"Logits", "Traced"}
    assert [method.method for method in result.methods] == [
        "robnet_zoo",
        "robnet_zoo, slots alone",
        "torchattacks",
        "torchattacks, form alone",
    ]
    both, slots, reference, form = result.methods
    assert both.correct == slots.correct == reference.correct == form.correct
    assert [turn.number for turn in (*both.turns, *slots.turns)] == [0, 9, 1, 8]
    assert (both.forwards, both.backwards) == (slots.forwards, slots.backwards)
    assert both.backwards < reference.backwards == form.backwards == STEPS
    assert "| torchattacks 1, form alone | 7 |" in table(result)


def test_a_foreign_model_without_a_traced_form_is_refused(images, tmp_path):
    class Deciding(Folding):
        def forward(self, x):
            return super().forward(x) * (2 if x.sum() > 0 else 1)

    with pytest.raises(SpeedError, match="foreign: expected a model with a traced form, got one without: its fast"):
        compare_foreign(of_module(Deciding(), name="foreign"), images, setup_of(images), {}, output=tmp_path / "r.json")
