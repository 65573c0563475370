"""The table of mistakes fits the source: what cannot be applied proves nothing."""

from __future__ import annotations

from collections import Counter

from tests.mutation.mutants import KERNELS, LEDGER, ROOT, STATISTICS, every


def test_every_mutant_can_be_applied_and_has_tests_to_ask():
    for mutant in every():
        text = (ROOT / "src" / "leandnn" / mutant.file).read_text()
        assert mutant.text in text, f"{mutant.file} has no {mutant.text!r}: mend {mutant.what!r}"
        assert mutant.text != mutant.other
        for name in mutant.tests:
            assert (ROOT / "tests" / name).exists(), f"there is no tests/{name}: mend {mutant.what!r}"


def test_mutants_have_names_and_texts_of_their_own():
    assert [what for what, n in Counter(mutant.what for mutant in every()).items() if n > 1] == []
    for mutant in (*KERNELS, *STATISTICS, *LEDGER):
        found = (ROOT / "src" / "leandnn" / mutant.file).read_text().count(mutant.text)
        assert found == 1, f"{mutant.what}: {found} places in {mutant.file}"
