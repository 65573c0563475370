"""What is seen of runs while they train."""

from __future__ import annotations

import pytest

from leandnn.train import workers


def test_an_epoch_of_many_numbers_is_cut_to_a_line(capsys: pytest.CaptureFixture[str]):
    screen = workers._Screen(1)
    screen.terminal = False
    numbers = ", ".join(f"column_{i} {i}" for i in range(200))
    screen.show(workers.Job("run", []), 1, 2, f"epoch 1/2: {numbers}")
    screen.show(workers.Job("run", []), 2, 2, "epoch 2/2: test_accuracy 0.5")
    long, short = capsys.readouterr().out.splitlines()
    assert long.startswith("run epoch 1/2: column_0 0, column_1 1") and long.endswith(" …")
    assert len(long) <= len("run ") + workers.LONGEST
    assert short == "run epoch 2/2: test_accuracy 0.5"
