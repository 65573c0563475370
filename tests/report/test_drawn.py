"""What a figure draws is read back: lines, marks, bars and pixels, named by axes and legends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leandnn.report import drawn as reading
from leandnn.report import style


@pytest.mark.usefixtures("drawn")
def test_numbers_of_every_mark_are_those_that_are_drawn():
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3)
    left.plot([1, 2], [3.5, 4.5], color="red", label="BF16")
    left.plot([1, 2], [7, 8], color="red", alpha=0.5)  # of the same colour: a seed of the same arm
    left.axhline(2, color="red")
    left.scatter([5], [6], label="published")
    left.set(title="Accuracy", xlabel="epoch", ylabel="%")
    left.legend()
    middle.barh([0, 1], [10, 20])
    middle.set_yticks([0, 1], ["conv1", "fc6"])
    right.imshow(np.array([[0.0, 1.0]]))
    found = reading.numbers(figure)
    lines = found[found["drawn as"] == "line"]
    assert lines[["panel", "x axis", "label", "x", "y"]].values.tolist() == [
        ["Accuracy", "epoch", "BF16", x, y] for x, y in ((1, 3.5), (2, 4.5), (1, 7), (2, 8))
    ]
    marks = found[found["drawn as"] == "mark"]
    assert marks[["label", "x", "y"]].values.tolist() == [["published", 5, 6]]
    bars = found[found["drawn as"] == "bar"]
    assert bars[["x", "y", "value"]].values.tolist() == [[10, "conv1", 10], [20, "fc6", 20]]
    assert found[found["drawn as"] == "pixel"].value.tolist() == [0, 1]


@pytest.mark.usefixtures("drawn")
def test_a_long_line_is_thinned_and_an_own_frame_kept_whole(tmp_path: Path):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.plot(range(1001), range(1001))
    assert reading.DENSE / 2 < len(reading.numbers(figure)) <= reading.DENSE
    frame = pd.DataFrame({"arm": ["a", "b"], "seed": [0, 1]})
    style.save(figure, "x-a", "A line.", tmp_path, data=frame)
    assert pd.read_csv(tmp_path / "x-a.csv").equals(frame)
    style.save(plt.figure(), "x-a", "Nothing.", tmp_path)
    assert not (tmp_path / "x-a.csv").exists(), "an older one must not stay"
