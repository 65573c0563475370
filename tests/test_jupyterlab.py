"""`make lab`, as a reader uses it: the tour opened in JupyterLab, all cells run, figures seen."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "browser.py")
assert SPEC is not None and SPEC.loader is not None
tool = sys.modules["browser"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)
browser = tool.browser


@pytest.fixture
def laboratory(tmp_path: Path) -> Path:
    """A root of its own, so that neither the checkout nor the reader's Jupyter settings are touched."""
    shutil.copytree(
        ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    for name in ("params.yaml", "dvc.yaml", "claims.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # By default JupyterLab takes cells out of the page while they are out of sight.
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    return tmp_path


@pytest.fixture
def address(laboratory: Path) -> Iterator[str]:
    """Where a JupyterLab on that root answers; it and its kernels are gone afterwards."""
    runtime = laboratory / "runtime"
    log = (laboratory / "jupyter.log").open("w")
    server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={laboratory}",
            "--IdentityProvider.token=", "--ServerApp.password=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
        ],
        env={
            **os.environ,
            "LEANDNN_ROOT": str(laboratory),
            "JUPYTER_RUNTIME_DIR": str(runtime),
            **{f"JUPYTER_{name}_DIR": str(laboratory / name.lower()) for name in ("CONFIG", "DATA")},
            "JUPYTERLAB_SETTINGS_DIR": str(laboratory / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(laboratory / "workspaces"),
            "IPYTHONDIR": str(laboratory / "ipython"),
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    children: list[psutil.Process] = []
    try:
        yield wait_for(server, runtime, laboratory / "jupyter.log")
        children = psutil.Process(server.pid).children(recursive=True)
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        for process in alive:
            process.kill()
        log.close()
    assert not alive, f"kernels outlived their server: {alive}"


def wait_for(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """The server's address, from the file that it writes once it listens."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            try:
                return str(json.loads(path.read_text())["url"])
            except ValueError:  # not whole yet
                pass
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab does not answer:\n{log.read_text()}")


def wait_for_kernel(page: Page) -> None:
    """What is run before the page is connected to a kernel is forgotten without a word."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        kernels = page.evaluate("fetch('/api/kernels').then(answer => answer.json())")
        if any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels):
            page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=10_000)
            return
        time.sleep(0.2)
    raise AssertionError("the notebook got no kernel within 30 seconds")


def test_the_tour_runs_in_jupyterlab_and_shows_its_figure(browser, address: str, laboratory: Path):
    before = (ROOT / "notebooks" / "00_tour.ipynb").read_bytes()
    cells = json.loads(before)["cells"]
    with tool.opened(browser, address) as (page, log):
        page.goto(f"{address}lab/tree/notebooks/00_tour.ipynb", wait_until="domcontentloaded")
        notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
        code = notebook.locator(".jp-CodeCell")
        code.nth(sum(cell["cell_type"] == "code" for cell in cells) - 1).wait_for(timeout=30_000)
        wait_for_kernel(page)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(
            """() => {
                 const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                 const errors = document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
                 return errors || prompts.every(p => /^\\[\\d+\\]:$/.test(p.textContent.trim()));
               }""",
            timeout=40_000,
        )
        errors = notebook.locator('[data-mime-type="application/vnd.jupyter.error"]')
        assert errors.all_inner_texts() == []
        image = notebook.locator(".jp-OutputArea-output img").first
        image.wait_for(timeout=10_000)
        assert image.evaluate("i => i.complete && i.naturalWidth") > 100
        assert "bf16-vision" in notebook.locator(".jp-OutputArea-output table").first.inner_text()
    assert log.outside == []
    assert (ROOT / "notebooks" / "00_tour.ipynb").read_bytes() == before
    assert list((laboratory / "build" / "scratch" / "00_tour").glob("tour-claims.svg"))
