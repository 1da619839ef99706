"""Work is timed in turns."""

import time

from robnet_zoo.core.timing import in_turns


def test_each_takes_its_turn_in_every_round_and_the_first_round_is_not_counted(capsys):
    calls = []
    seconds = in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b") or time.sleep(0.002)}, rounds=3, progress=False
    )
    assert calls == ["a", "b"] * 4
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert min(seconds["b"]) >= 0.002
    assert capsys.readouterr().err == ""
