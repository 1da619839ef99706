"""Methods behind one interface: they count their passes, and reach what the closed form says."""

import sys

import pytest
import torch

from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks.speed import methods
from robnet_zoo.benchmarks.speed.methods import Attacked, Counted, Method, in_processes, other, ours
from tests.benchmarks.speed.setups import REACHED, STEPS, N, setup_of
from tests.brightness import Brightness


def test_the_ledger_of_ours_is_what_its_models_saw(images):
    setup = setup_of(images, slots=1)  # so that no slot ever waits
    proposer, judge = Counted(Brightness().requires_grad_(False)), Counted(Brightness().requires_grad_(False))
    attacked = ours(proposer, judge, setup).attack(*images.batch(slice(None)), lambda gradients: None)
    assert attacked.forwards == attacked.backwards == proposer.forwards == proposer.backwards > STEPS
    assert attacked.judged == judge.forwards > N


def test_processes_that_share_images_out_find_what_one_finds_at_the_same_price(images):
    setup = setup_of(images, processes=2)
    model, batch, reports = Brightness().requires_grad_(False), images.batch(slice(None)), []
    with in_processes(model, model, setup, batch) as method:
        shared_out = method.attack(*batch, reports.append)
    alone = ours(model, model, setup).attack(*batch, lambda gradients: None)
    assert method.name == "robnet_zoo, in 2 processes"
    assert torch.equal(shared_out.images, alone.images)
    ledger = ("forwards", "backwards", "judged")
    assert [getattr(shared_out, name) for name in ledger] == [getattr(alone, name) for name in ledger]
    assert sorted(reports) == [3 * STEPS, 4 * STEPS]
    assert shared_out.cpu_seconds > 0 == alone.cpu_seconds


def test_a_library_that_cannot_be_imported_is_left_out_and_a_line_says_so(monkeypatch, capsys):
    for _, module, _ in methods.OTHERS:
        monkeypatch.setitem(sys.modules, module, None)
    assert methods.installed() == {}
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{name} is left out" for name, _, _ in methods.OTHERS]


@pytest.mark.parametrize(
    ("name", "module", "library", "forwards"),
    [(*known, STEPS + (known[0] == "foolbox")) for known in methods.OTHERS],
)
def test_an_installed_library_reaches_the_closed_form_in_its_steps(name, module, library, forwards, images):
    pytest.importorskip(module, reason=f"{name} is not a dependency: see robnet_zoo/benchmarks/speed/attacks.py")
    setup = setup_of(images, attack=Pgd(steps=STEPS, step="8/255"))
    method = Method(name, other(name, library, Brightness().requires_grad_(False), setup).attack)
    attacked = method.attack(*images.batch(slice(None)), lambda gradients: None)
    assert isinstance(attacked, Attacked)
    assert (attacked.forwards, attacked.backwards) == (forwards * N, STEPS * N)
    assert tuple((Brightness()(attacked.images).argmax(1) == images.labels).int().tolist()) == REACHED
