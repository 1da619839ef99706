"""The harness: its figures against closed forms, and that neither a kill nor a shard changes a document."""

import random
import signal
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo import cli, data
from robnet_zoo.attacks import AdaptiveApgd, Apgd, AutoAttack, CarliniWagner, DeepFool, Fgsm, Pgd, Square
from robnet_zoo.benchmarks import evaluation as robustness
from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
from robnet_zoo.benchmarks.kept import Verified, verify
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.target import is_narrow
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import AttackError, DataError, DocumentError, TargetError
from tests.benchmarks.grey_images import SHORT, WHITE_BOX, without_times
from tests.brightness import Brightness
from tests.fitted import EPS
from tests.processes import start_command

HOW = ("steps", "margins", "distances")  # an image was fooled


class Darkness(Brightness):
    """Sees every second column alone, so that its gradients are half of those of Brightness."""

    def forward(self, x):
        return super().forward(x[:, :, :, ::2])


@pytest.mark.parametrize("eps", ["2/255", "8/255", "1/4"])
def test_accuracies_are_those_of_the_closed_form(grey, eps):
    protocol = WHITE_BOX.model_copy(update={"eps": eps, "batch": 7})
    result = evaluate(of_module(Brightness(), name="brightness"), grey, protocol, progress=False)
    distance = (torch.arange(100, 156) - 127.5).abs()
    expected = (distance > protocol.eps_value * 255).int()
    expected[0] = 0
    assert result.measurement("clean").correct == (0,) + (1,) * 55
    assert result.measurement("fgsm").correct == tuple(expected.tolist())
    assert result.measurement("pgd20").correct == tuple(expected.tolist())
    assert result.accuracy("worst_case") == pytest.approx(expected.float().mean().item())


def test_the_ledger_of_a_linear_model_is_known(grey):
    result = evaluate(of_module(Brightness(), name="brightness"), grey, WHITE_BOX, progress=False)
    fgsm, pgd = result.measurement("fgsm"), result.measurement("pgd20")
    assert fgsm.forwards == fgsm.backwards == (0,) + (1,) * 55  # the first image is wrong without attack
    fooled = [index for index in range(1, 56) if not fgsm.correct[index]]
    assert all(fgsm.steps[index] == 1 for index in fooled)
    assert all(fgsm.distances[index] == pytest.approx(8 / 255) for index in fooled)
    standing = [index for index in range(56) if pgd.correct[index]]
    assert all(pgd.forwards[index] == pgd.backwards[index] == 20 and pgd.judged[index] == 1 for index in standing)
    assert all(pgd.steps[index] == -1 and pgd.margins[index] < 0 for index in standing)
    assert sum(pgd.unconfirmed) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attacks_look_at_a_form_in_the_dtype_of_the_protocol(dtype, grey, monkeypatch):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: True)
    target, looked_at = of_module(Brightness(), name="brightness"), []
    monkeypatch.setattr(robustness, "probed", lambda target, shown, fine: looked_at.append(target) or target)
    evaluate(target, grey, WHITE_BOX.model_copy(update={"dtype": dtype, "n": 4}), progress=False)
    assert [is_narrow(each.proposer) for each in looked_at] == [dtype == "bfloat16"]


def test_attacks_in_turn_get_what_those_before_left(grey, tmp_path):
    target = of_module(Brightness(), name="brightness")
    apart = WHITE_BOX.model_copy(update={"attacks": (Pgd(steps=2, step="1/255"), Fgsm())})
    in_turn = apart.model_copy(update={"in_turn": ("pgd2", "fgsm")})
    alone = evaluate(target, grey, apart, progress=False)
    output = tmp_path / "result.json"
    result = evaluate(target, grey, in_turn, output=output, keep_images=True, progress=False)
    first, then = result.measurement("pgd2"), result.measurement("fgsm")
    assert first.correct == alone.measurement("pgd2").correct
    assert then.correct == alone.measurement("fgsm").correct
    assert then.forwards == then.backwards == first.correct  # one step on each that is left
    taken = [index for index, right in enumerate(first.correct) if not right]
    assert 0 < len(taken) < len(then.correct) - sum(then.correct)
    assert all(then.judged[index] == then.tries[index] == 0 for index in taken)
    assert all(getattr(then, part)[index] == getattr(first, part)[index] for part in HOW for index in taken)
    assert {alarm.name for alarm in result.alarms} == {"cannot_cross_ball"}  # not that one step beats many
    assert {(example.attack, example.before != example.after) for example in result.examples} == {("pgd2", True)}
    claims = {"clean": 55, "pgd2": len(taken) - 1, "fgsm": 55 - sum(then.correct)}  # image 0 is wrong without attack
    assert verify(output, target, grey) == [Verified(attack, claimed, ()) for attack, claimed in claims.items()]


@pytest.mark.parametrize("levels", [0, 40])
def test_square_goes_on_after_its_trial_where_a_model_hides_its_gradients(levels, grey):
    class Stepped(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * levels).round() / levels if levels else images)

    attacks = (AdaptiveApgd(explore=4, probe=4, steps=8), Square(queries=400, trial=10))
    protocol = WHITE_BOX.model_copy(update={"attacks": attacks, "in_turn": ("adaptive_apgd", "square")})
    result = evaluate(of_module(Stepped(), name="stepped"), grey, protocol, progress=False)
    gradients, square = result.measurement("adaptive_apgd"), result.measurement("square")
    longer = [index for index, right in enumerate(gradients.correct) if right and square.forwards[index] > 10]
    if levels:
        assert sum(gradients.correct) == sum(result.measurement("clean").correct)
        assert any(not square.correct[index] for index in longer)
    else:
        assert sum(square.correct) == sum(gradients.correct) < sum(result.measurement("clean").correct)
        assert longer == []


def test_a_transfer_is_judged_by_each_target_and_attacks_the_source(grey):
    protocol = Protocol(name="t", threat="transfer", eps="16/255", attacks=(Fgsm(), Pgd(steps=3, step="16/255")))
    bright, dark = of_module(Brightness(), name="bright"), of_module(Darkness(), name="dark")
    through_dark = evaluate_transfer([bright, dark], dark, grey, protocol, progress=False)
    on_bright, on_dark = through_dark
    assert on_bright.source == on_dark.source == dark.identity
    distance = (torch.arange(100, 156) - 127.5).abs()
    own, half = (distance > 16).int(), (distance > 8).int()  # only every second column changes for Brightness
    own[0] = half[0] = 0
    assert on_dark.measurement("fgsm").correct == tuple(own.tolist())
    assert on_bright.measurement("fgsm").correct == tuple(half.tolist())


@pytest.mark.parametrize("attack", [DeepFool(mode="minimal"), CarliniWagner(steps=20, searches=4, initial_c=1.0)])
def test_an_image_that_a_source_leads_out_of_the_ball_fools_no_target(attack, grey):
    # Each adversarial image lies just behind the boundary: as far away as the clean one is from 127.5.
    protocol = Protocol(name="t", threat="transfer", eps="8/255", attacks=(attack,))
    bright, dark = of_module(Brightness(), name="bright"), of_module(Brightness(), name="dark")
    (result,) = evaluate_transfer([bright], dark, grey, protocol, progress=False)
    attacked, clean = result.measurement(attack.title), result.measurement("clean")
    inside = [distance <= 8 / 255 for distance in attacked.distances]
    assert any(distance > 0.05 for distance in attacked.distances)
    assert any(clean.correct[i] and not attacked.correct[i] for i in range(len(grey))) == any(inside[1:])
    assert all(attacked.correct[i] for i in range(len(grey)) if clean.correct[i] and not inside[i])


def test_labels_without_a_logit_are_refused(grey):
    images = replace(grey, labels=grey.labels + 5)
    with pytest.raises(TargetError, match=r"b: expected logits \(N, K\) with K > 6, the highest label, got \(56, 2\)"):
        evaluate(of_module(Brightness(), name="b"), images, WHITE_BOX, progress=False)


def test_labels_that_count_from_1_are_not_blamed_on_the_model(grey):
    images = replace(grey, labels=grey.labels + 1)
    message = "grey: expected labels from 0 to 1, got 1 to 2; do they count from 1"
    with pytest.raises(DataError, match=message):
        evaluate(of_module(Brightness(), name="b"), images, WHITE_BOX, progress=False)


def test_a_target_without_gradients_offers_square_alone(grey):
    target = replace(of_module(Brightness(), name="b"), proposer=None, why_not="it is a stone")
    message = "b: expected gradients for fgsm, pgd20, got none: it is a stone; the protocol `square` needs none"
    with pytest.raises(TargetError, match=message):
        evaluate(target, grey, WHITE_BOX, progress=False)
    protocol = Protocol(name="square", attacks=(Square(queries=20),))
    result = evaluate(target, grey, protocol, progress=False)
    exact = evaluate(of_module(Brightness(), name="b"), grey, WHITE_BOX, progress=False).accuracy("fgsm")
    assert result.accuracy("clean") > result.accuracy("square") >= exact


def test_a_transfer_needs_a_source_and_a_white_box_none(grey):
    target = of_module(Brightness(), name="b")
    transfer = WHITE_BOX.model_copy(update={"threat": "transfer"})
    with pytest.raises(TargetError, match="white_box: expected a source to attack, as this is a transfer, got none"):
        evaluate(target, grey, transfer, progress=False)
    with pytest.raises(TargetError, match="white_box: expected no source, as this is a white box, got b"):
        evaluate_transfer([target], target, grey, WHITE_BOX, progress=False)


def test_the_seconds_of_a_transfer_contain_the_attack(grey):
    class Slow(Darkness):
        def forward(self, x):
            time.sleep(0.01)
            return super().forward(x)

    protocol = Protocol(name="t", threat="transfer", eps="8/255", attacks=(Fgsm(), Pgd(steps=40)))
    target = of_module(Brightness(), name="bright")
    source = replace(of_module(Darkness(), name="dark"), proposer=Slow())
    for result in evaluate_transfer([target, target], source, grey, protocol, progress=False):
        assert result.measurement("pgd40").seconds > 0.4


def test_what_is_no_target_and_no_images_is_refused(grey):
    with pytest.raises(TargetError, match=r"expected a target, made by of_module.*, got Brightness"):
        evaluate(Brightness(), grey, WHITE_BOX)
    with pytest.raises(DataError, match=r"expected images as data.load.* gives them, got tuple"):
        evaluate(of_module(Brightness(), name="b"), grey.batch(slice(None)), WHITE_BOX)


def test_a_radius_that_no_ball_has_is_refused_before_anything_is_written(grey, tmp_path):
    protocol = Protocol(name="wide", eps="100", attacks=(Pgd(norm="l2"),))
    with pytest.raises(AttackError, match=r"expected eps in image units \(l2, such as 0.5\), from 0 to 6.9"):
        evaluate(of_module(Brightness(), name="b"), grey, protocol, output=tmp_path / "wide.json", progress=False)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_a_readable_part_and_goes_on(fitted, tmp_path, monkeypatch):
    target, images = load_target(fitted), data.load("digits")
    undisturbed = evaluate(target, images, SHORT, progress=False)
    real, calls = robustness.attacks.run, []

    def interrupt(*arguments, on_outcome, **options):
        def then(outcome):
            on_outcome(outcome)
            calls.append(outcome)
            if len(calls) == 56:
                raise KeyboardInterrupt

        return real(*arguments, on_outcome=then, **options)

    monkeypatch.setattr(robustness.attacks, "run", interrupt)
    output = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(target, images, SHORT, output=output, progress=False)
    part = Result.load(output)
    assert not part.complete
    # The attack in progress is left out: it is done first with the images that it fools.
    assert [len(measurement.correct) for measurement in part.measurements] == [24, 24, 24]
    assert [len(measurement.samples) for measurement in part.measurements] == [24, 24, 24]
    monkeypatch.setattr(robustness.attacks, "run", real)
    assert without_times(evaluate(target, images, SHORT, output=output, progress=False)) == without_times(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_an_interrupted_transfer_goes_on_and_makes_no_image_twice(fitted, another, tmp_path, monkeypatch):
    target, source, images = load_target(fitted), load_target(another), data.load("digits")
    through = Protocol(
        name="t", threat="transfer", eps="32/255", n=24, batch=8, attacks=(Fgsm(), Pgd(steps=4, step="8/255"))
    )
    (undisturbed,) = evaluate_transfer([target], source, images, through, progress=False)
    real, batches = robustness.attacks.craft, []

    def interrupt(*arguments, **options):
        batches.append(options["samples"])
        if len(batches) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(robustness.attacks, "craft", interrupt)
    output = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate_transfer([target], source, images, through, outputs=[output], progress=False)
    assert [len(measurement.correct) for measurement in Result.load(output).measurements] == [24, 24, 8]
    (resumed,) = evaluate_transfer([target], source, images, through, outputs=[output], progress=False)
    assert batches[5:] == [list(range(8, 16)), list(range(16, 24))]
    assert without_times(resumed) == without_times(undisturbed)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_answers_that_are_not_finite_are_wrong_clean_and_under_every_attack(value, grey):
    class Broken(Brightness):
        def forward(self, x):
            return super().forward(x) + torch.where(x.mean((1, 2, 3)) < 109.5 / 255, value, 0.0)[:, None]

    attacks = (Fgsm(), Pgd(steps=8, step="1/255"), Square(queries=20), DeepFool(), Apgd(steps=4))
    protocol = Protocol(name="all", attacks=attacks)
    images = replace(grey, labels=grey.labels * 0)  # of NaN, argmax is 0
    result = evaluate(of_module(Broken(), name="broken"), images, protocol, progress=False)
    for measurement in (*result.measurements, result.worst_case):
        assert measurement.correct[:10] == (0,) * 10
    assert result.measurement("clean").correct == (0,) * 10 + (1,) * 18 + (0,) * 28
    assert result.measurement("clean").margins[:11] == (*[None] * 10, pytest.approx(-20 * (127.5 - 110) / 255))
    (text,) = (alarm.text for alarm in result.alarms if alarm.name == "nan_logits")
    assert "of 56 images get logits that are not finite: 10 clean, 10 under fgsm" in text


def test_answers_that_are_not_finite_are_wrong_in_a_transfer(grey):
    class Broken(Brightness):
        def forward(self, x):
            return super().forward(x) + torch.where(x.mean((1, 2, 3)) < 109.5 / 255, torch.nan, 0.0)[:, None]

    images = replace(grey, labels=grey.labels * 0)[torch.arange(8, 28)]
    protocol = Protocol(name="t", threat="transfer", attacks=(Fgsm(),))
    darker = of_module(nn.Sequential(Brightness(), nn.Linear(2, 2, bias=False)), name="darker")
    darker.judge.requires_grad_(False)
    with torch.no_grad():
        next(module for module in darker.judge.modules() if isinstance(module, nn.Linear)).weight.copy_(-torch.eye(2))
    (result,) = evaluate_transfer([of_module(Broken(), name="b")], darker, images, protocol, progress=False)
    # The source makes images darker by 8: 108 to 117 then have no answer, as 108 and 109 have none to begin with.
    assert result.measurement("fgsm").correct == (0,) * 10 + (1,) * 10
    (text,) = (alarm.text for alarm in result.alarms if alarm.name == "nan_logits")
    assert text == "10 of 20 images get logits that are not finite: 2 clean, 10 under fgsm"


def test_memory_that_runs_out_under_autoattack_halves_its_batches_and_the_document_says_so(
    fitted, tmp_path, monkeypatch
):
    # The parts are those of a run with the smaller batch, also when it was interrupted between them.
    library = pytest.importorskip("pyautoattack", reason="it is part of the extra `autoattack`")

    class Short(library.AutoAttack):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            self.apgd.n_iter = 4

    monkeypatch.setattr(library, "AutoAttack", Short)
    images, target = data.load("digits", n=24), load_target(fitted, dtype="float32")
    attack = AutoAttack(version="custom", attacks=("apgd-ce",))
    protocol = Protocol(name="a", eps=EPS, batch=16, dtype="float32", attacks=(attack,))
    real, sizes = AutoAttack.run_batch, []

    def tight(self, model, images, labels, **options):
        sizes.append(len(images))
        if len(images) > 5:
            raise torch.OutOfMemoryError("too many")
        if len(sizes) == 7:
            raise KeyboardInterrupt
        return real(self, model, images, labels, **options)

    monkeypatch.setattr(AutoAttack, "run_batch", tight)
    output = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        evaluate(target, images, protocol, output=output, progress=False)
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    halved = evaluate(target, images, protocol, output=output, progress=False).measurement("autoattack")
    assert sizes[7:] == [8, 8, 4, 4]  # of the last batch, which has 8 images
    monkeypatch.setattr(AutoAttack, "run_batch", real)
    small = evaluate(target, images, protocol.model_copy(update={"batch": 4}), progress=False).measurement("autoattack")
    assert halved.flags == ("out of memory: attacked in batches of 4 instead of 16",)
    assert (halved.correct, halved.distances, halved.margins) == (small.correct, small.distances, small.margins)
    assert 0 < sum(halved.correct) < 24


@pytest.mark.slow  # five processes are started and killed
def test_kills_at_the_start_and_under_every_attack_change_nothing_but_times(fitted, tmp_path):
    protocol = tmp_path / "protocol.json"
    longer = SHORT.model_copy(update={"attacks": (Fgsm(), Pgd(steps=20, step=EPS), Square(queries=300)), "n": 40})
    longer.save(protocol)
    undisturbed = evaluate(load_target(fitted), data.load("digits"), longer, progress=False)
    output, journal = tmp_path / "result.json", tmp_path / "result.json.journal"
    command = ["benchmark", fitted, "--data", "digits", "--protocol", str(protocol), "-o", str(output)]
    dice = random.Random(0)
    for attack in (None, "clean", *(attack.title for attack in longer.attacks)):
        process = start_command(*command)
        if attack is None:
            time.sleep(dice.uniform(0, 0.5))  # wherever it is: at the start, in the probes, at work
        else:
            while process.is_alive() and (not journal.exists() or f'"{attack}"' not in journal.read_text()):
                time.sleep(0.005)  # until it has an outcome of the attack
            time.sleep(dice.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was through before it could be killed"
    cli.main(command)
    assert not journal.exists()
    assert without_times(Result.load(output)) == without_times(undisturbed)


class Steps(Brightness):
    """Brightness in steps, whose gradient is zero, as that of a quantiser is."""

    def forward(self, x):
        return super().forward(x).round() + 0 * x.flatten(1)[:, :2]


@pytest.mark.parametrize(
    ("looks", "fooling"), [(None, True), (("straight_through",), False), (("twin",), True), (("twin", "twin"), True)]
)
def test_a_quantised_target_is_as_bad_as_the_worst_way_to_look_at_it(looks, fooling, grey):
    protocol = WHITE_BOX.model_copy(update={"looks": looks})
    plain = of_module(Brightness(), name="brightness")
    target = replace(plain, proposer=Steps(), twin=plain.proposer, probed=True)
    result = evaluate(target, grey, protocol, progress=False)
    expected = evaluate(plain, grey, WHITE_BOX, progress=False)
    for attack in ("fgsm", "pgd20") if fooling else ("fgsm",):  # a random start may fool without a gradient
        got, wanted = result.measurement(attack), expected.measurement(attack if fooling else "clean")
        assert got.correct == wanted.correct
    if looks is None:  # both are paid for
        assert result.measurement("fgsm").forwards == (0,) + (2,) * 55


def test_looks_are_named_by_a_protocol_and_stay_out_of_documents_without_them():
    assert "looks" not in WHITE_BOX.dumps()
    with pytest.raises(DocumentError, match=r"looks\[0\]: expected 'straight_through' or 'twin', got .square."):
        WHITE_BOX.model_copy(update={"looks": ("square",)})
    with pytest.raises(DocumentError, match="looks"):
        WHITE_BOX.model_copy(update={"looks": ()})
