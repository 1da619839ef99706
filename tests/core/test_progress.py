"""The progress of long work: what a terminal and a log file show."""

import os
import re

import pytest

from robnet_zoo.core.progress import bar, sparkline

LINE = re.compile(r"pgd20: +\d+%\|.*\| \d+/100 \[\d\d:\d\d<[\d:?]+, +[\d.?]+ +images/s")  # rate and remaining time


def work(total=100, done=0):
    with bar(total=total, done=done) as shown:
        shown.mininterval = 0
        shown.set_description("pgd20")
        for _ in range(total - done):
            shown.update(1)


def test_a_log_file_gets_whole_lines_with_rate_and_remaining_time(capfd):
    work()
    text = capfd.readouterr().err
    assert "\r" not in text
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if line]
    assert len(lines) > 2
    assert all(LINE.match(line) for line in lines[2:])
    assert "100%" in lines[-1]


def test_a_log_file_gets_a_line_every_half_minute_and_no_more(capfd):
    with bar(total=10_000) as shown:
        for _ in range(9_999):
            shown.update(1)
        assert shown.mininterval == 30
        assert len(capfd.readouterr().err.splitlines()) == 1


def test_slow_work_has_the_same_unit_as_fast_work(capfd):
    with bar(total=4) as shown:
        shown.start_t -= 1000
        shown.update(1)
    assert "0.00 images/s" in capfd.readouterr().err


def test_work_that_resumes_begins_where_it_was(capfd):
    with bar(total=100, done=40):
        assert "40/100" in capfd.readouterr().err


def test_a_terminal_shows_one_line_again_and_again(monkeypatch):
    termios = pytest.importorskip("termios", reason="the system has no terminals")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr(os, "isatty", lambda descriptor: True)
        work(total=5)
        text = ""
        while "5/5" not in text:
            text += os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert text.count("\r") > 2
    assert "\n" not in text.partition("5/5")[0]


def test_work_that_is_not_shown_says_nothing(capfd):
    with bar(total=3, shown=False) as shown:
        shown.update(3)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([0.3], "▁"),
        ([0.2, 0.2], "▁▁"),
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([0.3, 0.2, 0.1], "█▅▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        (range(1000), "▁▁▂▂▂▃▃▄▄▄▅▅▅▆▆▇▇▇██"),
    ],
)
def test_a_curve_goes_from_its_least_to_its_greatest_value(values, curve):
    assert sparkline(values) == curve
