"""For tests of what is drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leandnn.report import style


@pytest.fixture
def drawn() -> Iterator[None]:
    """The reports' look, without a screen; what a test has drawn is closed after it."""
    import matplotlib as mpl

    mpl.use("agg")
    style.use_style()
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
