"""Worker processes side by side: what one that fails does to the others."""

import sys

import pytest

from leandnn.errors import LeandnnError
from leandnn.studies.pool import Job, run_jobs


def job(title: str, code: str) -> Job:
    return Job(title, [sys.executable, "-c", code])


def failing(title: str) -> Job:
    return job(title, f"import sys; print('leandnn: {title} has 3, expected 4'); sys.exit(1)")


def test_a_failing_worker_stops_the_others_and_is_quoted():
    done: list[str] = []
    jobs = [failing("first"), job("second", "pass")]
    with pytest.raises(LeandnnError, match=r"^first failed: first has 3, expected 4$"):
        run_jobs(jobs, 1, 1, on_done=lambda job: done.append(job.title))
    assert done == []


def test_where_others_go_on_every_failure_is_said(capsys: pytest.CaptureFixture[str]):
    done: list[str] = []
    failed: dict[str, str] = {}
    killed = job("fourth", "import os; os.kill(os.getpid(), 9)")
    jobs = [failing("first"), job("second", "pass"), failing("third"), killed, job("fifth", "pass")]
    with pytest.raises(LeandnnError, match=r"^first failed: .* \(and 2 more, named above\)$"):
        run_jobs(
            jobs, 1, 1,
            on_done=lambda job: done.append(job.title),
            on_failed=lambda job, why: failed.update({job.title: why}),
        )  # fmt: skip
    assert done == ["second", "fifth"]
    assert failed == {name: f"{name} has 3, expected 4" for name in ("first", "third")}, "a kill is no result"
    said = capsys.readouterr().err
    assert said.count("the other runs go on") == 3
    assert "third has 3, expected 4" in said


def test_where_no_terminal_is_a_run_prints_a_line_an_epoch(capsys: pytest.CaptureFixture[str]):
    steps = (
        "from leandnn.studies.pool import report; [report(i, 1000, f'epoch {i // 500}') for i in range(1000)]"
    )
    run_jobs([job("bf16-vision/fp32-s0", steps)], 1, 1)
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"bf16-vision/fp32-s0 epoch {epoch}" for epoch in (0, 1)]
    assert said.err == ""
