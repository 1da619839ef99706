"""The bundled protocols: each is what the paper's table asks for, and says all of it."""

import pytest

from robnet_zoo.attacks import AdaptiveApgd, Apgd, DeepFool, MiFgsm, Pgd, Square, SquareL2
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol, protocol_names
from robnet_zoo.core.units import in_image_units
from robnet_zoo.data import Images
from robnet_zoo.errors import DocumentError
from robnet_zoo.reproduce.plan import load_plan, plan_names
from tests.attacks.classifiers import Opposites
from tests.benchmarks.checks.models import Stairs, greys, target_of

OF_THE_PAPER = {part.protocol for plan in plan_names() for part in load_plan(plan).parts}
BUDGETS = {True: ("4/255", "1/255"), False: ("8/255", "2/255")}  # of eps and step, on ImageNet or not


def of_kind(name, kind):
    """Return the attacks of a kind in a bundled protocol."""
    return [attack for attack in load_protocol(name).attacks if isinstance(attack, kind)]


@pytest.mark.parametrize("name", protocol_names())
def test_a_bundled_protocol_says_what_it_is_for(name):
    assert load_protocol(name).description.endswith(".")


@pytest.mark.parametrize("name", protocol_names())
def test_a_protocol_names_the_paper_if_it_is_of_one_of_its_tables(name):
    assert ("paper" in load_protocol(name).description) == (name in OF_THE_PAPER)


@pytest.mark.parametrize(
    ("name", "threat", "titles"),
    [
        ("table1", "white_box", ["fgsm", "pgd20", "pgd100", "deepfool", "mi_fgsm"]),
        ("table2", "transfer", ["fgsm", "pgd100"]),
        ("table6", "white_box", ["pgd10", "pgd50", "pgd100"]),
        ("table8", "transfer", ["pgd100"]),
        ("transfer", "transfer", ["mi_di_fgsm", "vmi_fgsm"]),
        (
            "transfer_attacks",
            "transfer",
            ["pgd20", "mi_fgsm", "mi_di_fgsm", "ni_fgsm", "si_ni_fgsm", "vmi_fgsm", "ssa", "bsr"],
        ),
        ("figure10", "white_box", [f"pgd{steps}" for steps in (7, 10, 20, 40, 100, 200, 500, 1000)]),
        ("quick", "white_box", ["fgsm", "pgd10", "pgd10_margin"]),
        ("white_box", "white_box", ["fgsm", "pgd20"]),
        ("square", "white_box", ["square"]),
        ("strong", "white_box", ["adaptive_apgd", "square"]),
        ("strong_l2", "white_box", ["adaptive_apgd", "square_l2"]),
        ("strong_autoattack", "white_box", ["adaptive_apgd", "square", "autoattack"]),
        ("strong_autoattack_l2", "white_box", ["adaptive_apgd", "square_l2", "autoattack"]),
        (
            "strong_parts",
            "white_box",
            [
                *("whole", "barely_explored", "one_class", "barely_probed", "no_long_try"),
                *("cross_entropy_alone", "nine_classes_alike", "square"),
            ],
        ),
        ("autoattack", "white_box", ["autoattack"]),
        ("apgd", "white_box", ["theirs", "apgd_ce", "apgd_dlr_t"]),
        ("full", "white_box", ["fgsm", "pgd20", "apgd_ce", "apgd_dlr_t", "square"]),
        ("apgd_l2", "white_box", ["theirs", "apgd_ce", "apgd_dlr_t"]),
        ("autoattack_l2", "white_box", ["autoattack"]),
        ("l2", "white_box", ["pgd20", "deepfool", "ddn", "cw_l2", "apgd_ce", "apgd_dlr_t", "square_l2"]),
    ],
)
def test_the_attacks_are_the_columns_of_the_table(name, threat, titles):
    protocol = load_protocol(name)
    assert (protocol.threat, [attack.title for attack in protocol.attacks]) == (threat, titles)


@pytest.mark.parametrize("name", protocol_names())
def test_the_budget_is_the_papers_with_steps_of_a_quarter_of_eps(name):
    protocol = load_protocol(name)
    norm = "l2" if name.endswith("l2") else "linf"
    eps, step = ("0.5", "0.125") if norm == "l2" else BUDGETS["ImageNet" in protocol.description]
    assert protocol.eps == eps
    assert {attack.ball for attack in protocol.attacks} == {norm}
    assert all(attack.restarts == 1 for attack in of_kind(name, Pgd))
    assert all(attack.step == step for attack in of_kind(name, Pgd | MiFgsm))


@pytest.mark.parametrize("name", protocol_names())
def test_every_iterated_attack_can_cross_its_ball(name):
    eps = load_protocol(name).eps_value
    assert all(attack.steps * in_image_units(attack.step) >= eps for attack in of_kind(name, Pgd | MiFgsm))


def test_deepfool_of_table_1_stays_in_the_ball():
    (attack,) = of_kind("table1", DeepFool)
    assert (attack.norm, attack.minimal) == ("linf", False)


def test_full_has_the_budgets_of_autoattack():
    first, aimed = of_kind("full", Apgd)
    assert (first.steps, first.loss, first.target_classes) == (100, "cross_entropy", 0)
    assert (aimed.steps, aimed.loss, aimed.target_classes) == (100, "dlr", 9)
    (square,) = of_kind("full", Square)
    assert (square.queries, square.share) == (5000, 0.8)


def test_l2_has_the_budgets_of_autoattack():
    first, aimed = of_kind("l2", Apgd)
    assert [(attack.steps, attack.loss, attack.target_classes) for attack in (first, aimed)] == [
        (100, "cross_entropy", 0),
        (100, "dlr", 9),
    ]
    (square,) = of_kind("l2", SquareL2)
    assert (square.queries, square.share) == (5000, 0.8)


def test_strong_hears_square_where_gradients_are_masked():
    # Stairs rounds its images, so its gradient is zero everywhere; the attack that follows it goes nowhere.
    strong = load_protocol("strong").model_copy(update={"batch": 8})
    result = evaluate(target_of(Stairs()), greys(124, 132), strong, progress=False)
    clean, blind, heard = (sum(result.measurement(name).correct) for name in ("clean", "adaptive_apgd", "square"))
    assert blind > heard
    assert sum(result.worst_case.correct) == heard < clean
    assert "square_beats_gradient" in {alarm.name for alarm in result.alarms}


def test_strong_in_l2_fools_exactly_the_images_whose_boundary_lies_in_the_ball():
    model, greyscale = Opposites(), greys(124, 132)
    pixels, _ = greyscale.batch(slice(None))
    images = Images(greyscale.pixels, model.labels(pixels), "grey")
    distances = model.distances(pixels, "l2")
    middle = distances.sort().values[3:5]  # of 8: half of the images can be fooled
    strong = load_protocol("strong_l2").model_copy(update={"eps": float(middle.mean()), "batch": 8})
    result = evaluate(target_of(model), images, strong, progress=False)
    assert result.accuracy("clean") == 1
    assert result.worst_case.correct == tuple((distances > middle[0]).int().tolist())


@pytest.mark.parametrize("norm", ["", "_l2"])
def test_strong_is_what_is_compared_with_autoattack(norm):
    strong, compared = load_protocol(f"strong{norm}"), load_protocol(f"strong_autoattack{norm}")
    assert compared.attacks == (*strong.attacks, *load_protocol(f"autoattack{norm}").attacks)
    assert compared.in_turn == strong.in_turn == tuple(attack.title for attack in strong.attacks)
    assert load_protocol("strong").attacks[0] == AdaptiveApgd()


def test_parts_of_strong_are_taken_from_it_and_replaced_by_as_many_steps():
    strong, parts = load_protocol("strong"), load_protocol("strong_parts")
    adaptive, square = strong.attacks
    whole, *reduced, ce, alike, squared = parts.attacks
    assert (whole.model_copy(update={"name": None}), squared) == (adaptive, square)
    assert all(attack.cost(10).backwards < whole.cost(10).backwards for attack in reduced)
    assert {attack.cost(10).backwards for attack in (ce, alike)} == {whole.cost(10).backwards}


def test_transfer_is_of_the_attacks_that_are_compared():
    assert {*load_protocol("transfer").attacks} <= {*load_protocol("transfer_attacks").attacks}


def test_square_asks_for_no_gradient():
    assert all(attack.gradient_free for attack in load_protocol("square").attacks)


def test_l2_reaches_further_than_the_range_of_a_pixel_but_no_attack_beside_it_does():
    l2 = Pgd(norm="l2", step=1.5)
    assert Protocol(name="l2", attacks=[l2], eps=3).eps_value == 3
    with pytest.raises(DocumentError, match="eps: expected at most 1, the range of a pixel, got 3"):
        Protocol(name="both", attacks=[l2, MiFgsm()], eps=3)


def test_a_radius_beyond_every_pixel_is_refused():
    with pytest.raises(DocumentError, match="eps: expected at most 1, the range of a pixel, got 16"):
        load_protocol("table1").model_copy(update={"eps": "16"})


def test_autoattack_is_not_an_attack_through_a_source():
    with pytest.raises(DocumentError, match="threat: expected white_box for autoattack, got transfer"):
        load_protocol("autoattack").model_copy(update={"threat": "transfer"})


IN_TURN = "in_turn: expected names of attacks in their order, of adaptive_apgd, square, got"


@pytest.mark.parametrize("names", [("square", "adaptive_apgd"), ("square", "autoattack"), ("square", "square")])
def test_attacks_in_turn_are_named_in_their_order(names):
    with pytest.raises(DocumentError, match=f"{IN_TURN} {', '.join(names)}"):
        load_protocol("strong_autoattack").model_copy(update={"in_turn": names})


def test_attacks_do_not_take_turns_in_a_transfer():
    with pytest.raises(DocumentError, match="in_turn: expected none in a transfer"):
        load_protocol("strong").model_copy(update={"threat": "transfer"})


def test_attacks_in_turn_are_in_one_norm():
    norms = {"attacks": (Pgd(), Pgd(name="round", norm="l2")), "in_turn": ("pgd20", "round"), "eps": "1/2"}
    with pytest.raises(DocumentError, match="in_turn: expected attacks in one norm, got l2 and linf"):
        load_protocol("strong").model_copy(update=norms)


WHITE_BOX = load_protocol("white_box")


@pytest.mark.parametrize("eps", ["8 / 255", "-1/255", "8/", "1/0"])
def test_an_eps_that_is_not_a_distance_is_refused(eps):
    with pytest.raises(DocumentError, match="eps: expected"):
        Protocol.parse(WHITE_BOX.model_dump() | {"eps": eps})
