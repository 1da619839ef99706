"""The records of a run."""

import re

from robnet_zoo import training


def test_a_line_tells_the_rate_the_loss_the_accuracies_and_the_time_that_is_left(tiny, images, recipe, tmp_path, capfd):
    training.train(tiny, images, recipe, tmp_path)
    line = [line for line in capfd.readouterr().err.splitlines() if line][-1]
    figures = r"[\d.]+ images/s, epoch 3/3, loss [\d.]+, clean [\d.]+%, robust [\d.]+% [▁-█]{2}, 0 min left"
    assert re.fullmatch(rf"100%\|#+\| 288/288 \[\d\d:\d\d, +{figures}\]", line)
