"""The site as a reader meets it: in a browser, on a desk and on a phone, without a network."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import re
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from leandnn import paths
from leandnn.claims import verdicts, words
from leandnn.errors import LeandnnError
from leandnn.report import scoreboard
from leandnn.report.papers import Drawn
from leandnn.report.site import build, landing

ROOT = paths.ROOT


def load(path: Path) -> ModuleType:
    """A module that no package holds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load(ROOT / "tests" / "browser.py")
browser = tool.browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository, built once."""
    return build.build(ROOT, tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    """Where a local server shows it."""
    handler = functools.partial(Quiet, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def pages(built: Path) -> list[str]:
    return sorted(path.relative_to(built).as_posix() for path in built.rglob("*.html"))


# --- in the browser ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_is_whole_quiet_and_fits_the_screen(browser, built: Path, address: str, width: int):
    names = pages(built)
    expected = ("index", "README", "bf16", "huffman", "kernels", "api/kernels", "notebooks/00_tour")
    assert {f"{name}.html" for name in expected} <= set(names)
    figures, faults = 0, []
    with tool.opened(browser, address, width=width) as (page, log):
        for name in names:
            page.goto(address + name, wait_until="load")
            figures += page.evaluate("document.images.length")
            broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
            faults += [f"{name} does not show {source}" for source in broken]
            wide = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
            faults += [f"{name} is {wide} pixels wide"] if wide > width else []
    assert faults + log.outside + log.complaints == []
    assert figures >= len(list((ROOT / "reports" / "figures").glob("*.svg")))


@pytest.mark.slow
def test_the_landing_page_has_each_claim_with_its_verdicts(browser, address: str):
    with tool.opened(browser, address) as (page, _):
        page.goto(address)
        for result in verdicts.compute(ROOT):
            link = page.locator(f'article a[href="{result.claim.paper}.html#{result.claim.id}"]')
            assert link.get_attribute("title") == result.claim.statement
            row = link.locator("xpath=ancestor::tr").inner_text()
            _, finding = scoreboard.strongest(result)
            assert finding.verdict in row and finding.effect in row
        link.click()
        page.wait_for_url("**/huffman.html#*")
        assert page.locator(f"section h3:has-text('{result.claim.id}')").is_visible()
        page.go_back()
        page.fill("input[name=q]", "round_to")
        page.press("input[name=q]", "Enter")
        page.wait_for_selector("#search-results li a")  # the index is local


@pytest.mark.slow
def test_formulas_are_drawn_in_the_font_that_comes_along(browser, address: str):
    with tool.opened(browser, address) as (page, _):
        page.goto(address + "method.html")
        page.evaluate("document.fonts.ready")
        for display in ("inline", "block"):
            box = page.locator(f'math[display="{display}"]').first.bounding_box()
            assert box is not None and box["width"] > 5 and box["height"] > 5
        assert page.evaluate("""document.fonts.check('16px "STIX Two Math"')""")
        assert page.evaluate("[...document.fonts].filter(f => f.status == 'loaded').length") == 1


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_verdicts_and_figures_are_readable_in_both_modes(browser, address: str, dark: bool):
    with tool.opened(browser, address, dark=dark) as (page, _):
        page.goto(address + "method.html")
        chips = page.evaluate(
            """[...document.querySelectorAll('.verdict')].map(chip => {
                 const own = getComputedStyle(chip), body = getComputedStyle(document.body);
                 const bare = own.backgroundColor == 'rgba(0, 0, 0, 0)';
                 return [chip.innerText, own.color, bare ? body.backgroundColor : own.backgroundColor];
               })"""
        )
        assert {text for text, *_ in chips} == set(words.WORDS)
        for text, *colours in chips:
            low, high = sorted(map(luminance, colours))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, colours)
        page.goto(address + "bf16.html")
        cards = page.evaluate(
            "[...document.querySelectorAll('article img')].map(i => getComputedStyle(i).backgroundColor)"
        )
        assert set(cards) == {"rgb(255, 255, 255)"}


@pytest.mark.slow
def test_it_opens_from_the_disk_without_a_server(browser, built: Path):
    base = built.as_uri() + "/"
    with tool.opened(browser, base) as (page, log):
        for name in ("index.html", "notebooks/10_bf16.html"):
            page.goto(base + name)
            assert page.evaluate(
                "[...document.images].every(i => i.naturalWidth > 0) && document.images.length > 0"
            )
    assert (log.outside, log.complaints) == ([], [])


# --- the files -------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """The ids of a page, where it leads, and what the browser loads for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.leads.append(values["href"])
        self.loads += [values["src"]] if "src" in values else []
        self.loads += [values["href"]] if tag == "link" and "href" in values else []


@pytest.mark.slow
def test_every_link_and_anchor_leads_somewhere(built: Path):
    parsed = {name: Links((built / name).read_text()) for name in pages(built)}
    for name, links in parsed.items():
        assert [url for url in links.loads if urlsplit(url).netloc] == [], f"{name} loads from elsewhere"
        for url in links.leads + links.loads:
            parts = urlsplit(url)
            if parts.scheme:
                assert parts.scheme in ("https", "data"), f"{name} leads to {url}"
                continue
            target = ((built / name).parent / unquote(parts.path)).resolve() if parts.path else built / name
            assert target.is_file(), f"{name} leads to {url}"
            if parts.fragment and target.suffix == ".html":
                there = parsed[target.relative_to(built.resolve()).as_posix()].ids
                assert unquote(parts.fragment) in there, f"{name} leads to {url}"


@pytest.mark.slow
def test_it_names_no_place_of_the_machine(built: Path):
    for path in built.rglob("*"):
        if path.suffix in (".html", ".js", ".css", ".inv", ".txt"):
            text = path.read_text(errors="replace")
            assert str(ROOT) not in text, path
            assert str(built.parent) not in text, path
            if path.suffix == ".css":
                assert not re.search(r"(url\(|@import)\s*['\"]?https?:", text), path


@pytest.mark.slow
def test_a_second_build_replaces_the_first(built: Path, monkeypatch: pytest.MonkeyPatch):
    (built / "old.html").touch()
    monkeypatch.setattr(build, "_assemble", lambda root, source: small(source, "Hello"))
    copy = built.parent / "copy"
    build.build(ROOT, copy)
    (copy / "old.html").touch()
    build.build(ROOT, copy)
    assert "Hello" in (copy / "index.html").read_text()
    assert not (copy / "old.html").exists()
    assert sorted(path.name for path in built.parent.iterdir()) == ["copy", "site"]
    (built / "old.html").unlink()


def small(source: Path, text: str) -> None:
    source.mkdir(parents=True)
    (source / "conf.py").write_text("html_theme = 'basic'")
    (source / "index.rst").write_text(f"Title\n=====\n\n{text}\n")


# --- what can go wrong -----------------------------------------------------------------------------------


def test_a_warning_names_the_page_and_keeps_the_old_site(moved_root: Path, monkeypatch: pytest.MonkeyPatch):
    texts = iter(["Hello", "See :ref:`nowhere`."])
    monkeypatch.setattr(build, "_check", lambda root, final: None)
    monkeypatch.setattr(build, "_assemble", lambda root, source: small(source, next(texts)))
    final = build.build(moved_root)
    assert final == moved_root / "site"
    with pytest.raises(LeandnnError, match=r"index\.rst:4: WARNING: undefined label.*build/site\.log"):
        build.build(moved_root)
    assert "Hello" in (final / "index.html").read_text()
    assert "nowhere" in (moved_root / "build" / "site.log").read_text()
    assert not (moved_root / "build" / "site.partial").exists()


def test_a_folder_that_is_no_site_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LeandnnError, match="is no site"):
        build.build(ROOT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_missing_packages_sources_and_reports_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LeandnnError, match=r"docs/conf\.py is missing"):
        build.build(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "conf.py").touch()
    with pytest.raises(LeandnnError, match=r"reports/README\.md is missing, run dvc repro"):
        build.build(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LeandnnError, match="sphinx, myst_nb, furo is missing: run make setup"):
        build.build(tmp_path)


# --- the generated text ----------------------------------------------------------------------------------


def test_the_landing_page_has_the_drawn_figure_of_each_page():
    drawn = [Drawn("n", "N", [{"name": name, "caption": "c"}]) for name in ("rbgp-x", "bf16-pairs")]
    shown = landing.figures(verdicts.compute(ROOT), drawn)
    assert re.findall(r"figures/(.*)\.svg", shown) == ["bf16-pairs"]
    assert "A Study of BFLOAT16" in shown


def test_docstrings_become_restructured_text():
    translate = load(ROOT / "docs" / "_ext" / "docstrings.py").translate
    assert translate(["±`a` and ``b``:", "- x: text,", "  more", "- y: text"]) == [
        "±\\ ``a``\\  and \\ ``b``\\ :", "", "- x: text,", "  more", "- y: text",
    ]  # fmt: skip
    assert translate(["Like this:", "", "    y = `f`(x)", "", "    z = y", "", "End."]) == [
        "Like this:", "", "::", "", "    y = `f`(x)", "", "    z = y", "", "End.",
    ]  # fmt: skip
