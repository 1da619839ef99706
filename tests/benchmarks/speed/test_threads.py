"""How threads wait: what is timed, what is chosen, and the table."""

import sys
from typing import get_args

import pytest

from robnet_zoo.benchmarks.speed import threads
from robnet_zoo.benchmarks.speed.threads import DEFAULT, ThreadsResult, WaitingSpeed
from robnet_zoo.core.threads import SPIN
from tools import committed

SHORT, LONG = "GOMP_SPINCOUNT=1000", "GOMP_SPINCOUNT=50000"


def result_of(speeds: dict[str, tuple[float, float, float]]) -> ThreadsResult:
    rows = tuple(
        WaitingSpeed(setting=setting, spec="tiny", batch=8, beside=load, images_per_second=speed, rounds=(speed,))
        for setting, row in speeds.items()
        for load, speed in zip(get_args(threads.Load), row, strict=True)
    )
    return ThreadsResult(rounds=1, seconds=1, limit=1, cores=2, device="here", software={}, speeds=rows)


def test_the_fastest_beside_loads_is_chosen_of_what_costs_an_idle_machine_little():
    speeds = {DEFAULT: (100, 4, 0.1), LONG: (99, 5, 2), SHORT: (97.5, 6, 3), "OMP_WAIT_POLICY=PASSIVE": (90, 12, 9)}
    assert threads.chosen(result_of(speeds)) == SHORT


def test_one_thread_is_never_chosen_since_sums_depend_on_their_number():
    speeds = {DEFAULT: (100, 4, 0.1), "OMP_NUM_THREADS=1": (120, 90, 30)}
    assert threads.chosen(result_of(speeds)) == DEFAULT


def test_the_table_has_a_line_a_setting_and_a_column_a_load():
    lines = threads.table(result_of({DEFAULT: (100, 4, 0.1), SHORT: (97.5, 6, 3)})).splitlines()
    assert lines[-2:] == [f"| {DEFAULT} | 100.0 | 4.0 | 0.1 |", f"| {SHORT} | 97.5 | 6.0 | 3.0 |"]


@pytest.mark.slow  # starts two processes that import torch, and makes the machine busy
@pytest.mark.skipif(sys.platform == "win32", reason="select takes no pipes on Windows")
def test_every_setting_is_timed_beside_every_load_in_a_process_of_its_own(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.json")
    settings = {name: threads.SETTINGS[name] for name in (DEFAULT, SHORT)}
    works = [(str(tmp_path / "tiny.json"), 2)]
    result = threads.measure(works, settings=settings, rounds=1, seconds=0.01)
    assert {(row.setting, row.beside) for row in result.speeds} == {
        (setting, load) for setting in settings for load in get_args(threads.Load)
    }
    assert all(row.images_per_second > 0 for row in result.speeds)
    result.save(tmp_path / "threads.json")
    assert ThreadsResult.load(tmp_path / "threads.json") == result


def test_the_command_sets_what_the_committed_measurement_chooses():
    result = ThreadsResult.load(committed.SPEED / "threads.json")
    assert dict(threads.SETTINGS[threads.chosen(result)]) == SPIN
