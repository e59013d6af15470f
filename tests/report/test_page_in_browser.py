"""The report in a headless Chromium: sorted, both themes, keyboard, print, accessible, and asking for nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_html import ODD, odd_run

from kompakt.errors import InputError
from kompakt.records import Run, from_json
from kompakt.report import html
from kompakt.targets.web_browser import chromium
from kompakt.targets.web_packages import WEB, packages
from kompakt.targets.web_process import NodeProcess, node_process

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
TOOLS = Path(__file__).parent
DESKTOP, PHONE, PAPER = (1200, 900), (360, 760), (1032, 700)
"""Width and height of the window; PAPER is A4 on its side between margins of 12 mm, at 96 dots an inch."""

Ask = Callable[..., Any]
Open = Callable[..., Ask]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Skips where there is no Node, no registry and no browser."""
    profile = tmp_path_factory.mktemp("profile")
    try:
        folders = (packages("browser"), packages("browser", TOOLS))
        launcher = str(WEB / "browser" / "launch.mjs")
        script = TOOLS / "browser" / "page.mjs"
        with node_process(script, launcher, chromium(), str(profile), *map(str, folders)) as process:
            process.ask(do="open", url="data:text/html,<title>t</title>", width=100, height=100, scale=1, dark=False)
            yield process
    except InputError as error:
        pytest.skip(f"no Chromium: {error}")


@pytest.fixture
def opened(browser: NodeProcess, tmp_path: Path) -> Iterator[Open]:
    """``opened(run)``: the run's report in a new page; what is given back evaluates JavaScript in it."""

    def open_page(run: Run, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Ask:
        path = tmp_path / "report.html"
        html.write(run, path)
        browser.ask(do="open", url=path.as_uri(), width=size[0], height=size[1], scale=1, dark=dark)
        return lambda code: browser.ask(do="evaluate", code=code).get("value")

    yield open_page
    browser.ask(do="evaluate", code="localStorage.clear()")


@pytest.fixture(scope="module")
def golden_run() -> Run:
    return from_json(Run, (GOLDEN / "report_run.json").read_text(encoding="utf-8"))


def nothing_amiss(browser: NodeProcess) -> None:
    assert browser.ask(do="said") == {"errors": [], "requests": []}


OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
WIDTH = "[document.documentElement.scrollWidth, innerWidth]"
FIRST = "[...document.querySelectorAll('#variants tbody th bdi')].map(each => each.textContent)"
SORT = "[...document.querySelectorAll('#variants th[aria-sort]')].map(each => each.getAttribute('aria-sort'))"
PAPER_COLOR = "getComputedStyle(document.body).backgroundColor"
BUTTON = "(b => [b.textContent, b.getAttribute('aria-pressed')])(document.getElementById('theme'))"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(21, 24, 27)"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_and_no_page_scrolls_sideways(browser, opened, golden_run, size, dark) -> None:
    """Everything open, as the system's theme has it, then in the other one by the button."""
    ask = opened(golden_run, size, dark=dark)
    ask(OPEN_ALL)
    for theme in (dark, not dark):
        assert ask(PAPER_COLOR) == (DARK if theme else LIGHT)
        found = browser.ask(do="axe")
        assert found["violations"] == [] and found["passes"] > 30
        browser.ask(do="click", selector="#theme")
    assert ask(WIDTH) == [size[0], size[0]]
    nothing_amiss(browser)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_is_decided_of_all_text_but_that_of_plots(browser, opened, golden_run, dark) -> None:
    """Axe does not look through gradients, nor into SVG; the colours there are those of the rest (see test_html).

    Nor does it see cells that a frame cuts off: here the page is as wide as the window.
    """
    ask = opened(golden_run, (1800, 900), dark=dark)
    ask(OPEN_ALL)
    plain = ".scroll, .share { background: none !important; } body, main { max-width: none !important; }"
    ask(f"document.head.append(Object.assign(document.createElement('style'), {{textContent: '{plain}'}}))")
    found = browser.ask(do="axe")
    assert found["violations"] == [] and {each["id"] for each in found["undecided"]} <= {"color-contrast"}
    where = [html for each in found["undecided"] for html in each["where"]]
    assert not [html for html in where if not html.startswith(("<text ", '<span class="front" aria-hidden="true">'))]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_odd_names_run_nothing_and_stay_inside(browser, opened, size) -> None:
    name = " ".join(ODD.values())
    ask = opened(odd_run(name), size)
    ask(OPEN_ALL)
    assert ask(WIDTH) == [size[0], size[0]]
    assert ask("[document.images.length, document.scripts.length, document.forms.length]") == [0, 1, 0]
    assert browser.ask(do="axe")["violations"] == []
    nothing_amiss(browser)


def test_a_click_sorts_up_then_down_then_as_it_was(browser, opened, golden_run) -> None:
    ask = opened(golden_run)
    recipes = [trial.recipe for trial in golden_run.trials]
    sizes = {trial.recipe: trial.artifact.bytes if trial.artifact else None for trial in golden_run.trials}
    known = [recipe for recipe in recipes if sizes[recipe] is not None]
    none = [recipe for recipe in recipes if sizes[recipe] is None]
    assert ask(FIRST) == recipes and none
    file = "#variants thead tr:last-child th:nth-child(7) button"
    for order, expected in (
        ("ascending", sorted(known, key=lambda recipe: sizes[recipe]) + none),
        ("descending", sorted(known, key=lambda recipe: -sizes[recipe]) + none),
        ("none", recipes),
    ):
        browser.ask(do="click", selector=file)
        assert ask(FIRST) == expected
        assert ask(SORT) == [order if column == 6 else "none" for column in range(13)]
    assert ask("document.getElementById('said').textContent") == "Variants: in the order of the run"
    nothing_amiss(browser)


def test_the_keyboard_reaches_and_sorts_and_shows_where_it_is(browser, opened, golden_run) -> None:
    ask = opened(golden_run)
    seen = []
    for _ in range(27):
        browser.ask(do="press", key="Tab")
        where = ask(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.id || e.textContent.trim() || e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
        )
        assert where[1] == "solid" and where[2] >= 2, where
        seen.append(where[0])
    assert seen[0] == "theme"
    assert seen[1:10] == [
        "Variants", "Size against accuracy", "Latency against accuracy", "Layers", "Sensitivity of layers", "Agreement",
        "Training curves", "What was asked and not done", "Provenance",
    ]  # fmt: skip
    assert seen[11:24] == [
        "recipe", "file", "95 % interval", "to float", "p", "Keras", "file", "gzip", "ratio to float", "argmax",
        "largest difference", "zeros, %", "distinct a channel",
    ]  # fmt: skip
    ask("document.querySelector('#variants thead tr:last-child th button').focus()")
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        browser.ask(do="press", key=key)
        assert ask(SORT)[0] == order
    assert ask(FIRST) == [
        "qat_int8", "ptq_dynamic_int8", "prune_ptq_int8", "prune_2_4_int8", "prune_<script>$x_$", "pqat_int8",
        "pcqat_int8", "float",
    ]  # fmt: skip
    ask("document.getElementById('theme').focus()")
    browser.ask(do="press", key="Space")
    assert ask(PAPER_COLOR) == DARK
    nothing_amiss(browser)


def test_the_theme_is_remembered(browser, opened, golden_run) -> None:
    opened(golden_run)
    browser.ask(do="click", selector="#theme")
    again = opened(golden_run)
    assert again(PAPER_COLOR) == DARK
    assert again(BUTTON) == ["Light theme", None]
    assert again("getComputedStyle(document.querySelector('.plot text')).fill") != "rgb(0, 0, 0)"
    nothing_amiss(browser)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_button_says_what_a_press_gives(browser, opened, golden_run, dark) -> None:
    """Its label changes, so that it has no state beside it: "Light theme, pressed" would be two."""
    ask = opened(golden_run, dark=dark)
    for theme in (dark, not dark, dark):
        assert ask(BUTTON) == ["Light theme" if theme else "Dark theme", None]
        assert ask(PAPER_COLOR) == (DARK if theme else LIGHT)
        browser.ask(do="click", selector="#theme")
    nothing_amiss(browser)


def test_on_a_phone_no_dot_stands_alone_and_words_are_whole(browser, opened, golden_run) -> None:
    """A dot of the front is on the line of the end of its name; what is not done is told in whole words."""
    ask = opened(golden_run, PHONE)
    alone = (
        "[...document.querySelectorAll('.front')].filter(dot => { const r = document.createRange();"
        " const text = dot.parentElement.querySelector('bdi').lastChild; r.setStart(text, text.length - 1);"
        " r.setEnd(text, text.length); return Math.abs(r.getBoundingClientRect().bottom"
        " - dot.getBoundingClientRect().bottom) > 4; }).length"
    )
    assert ask("document.querySelectorAll('.front').length") > 0 and ask(alone) == 0
    lines = (
        "[...document.querySelectorAll('#undone tbody th')].filter(th => { const r = document.createRange();"
        " r.selectNodeContents(th); return r.getClientRects().length > 1; }).length"
    )
    assert ask(lines) == 0
    nothing_amiss(browser)


def test_on_a_desk_every_digest_is_seen_whole(browser, opened, golden_run) -> None:
    ask = opened(golden_run, (1280, 900))
    assert ask("(e => e.scrollWidth - e.clientWidth)(document.querySelector('#provenance .scroll'))") <= 0
    nothing_amiss(browser)


def test_where_nothing_may_be_stored_the_button_works_all_the_same(browser, golden_run) -> None:
    """A data: address has no storage: touching it is an error there."""
    text = base64.b64encode(html.render(golden_run).encode()).decode()
    address = f"data:text/html;base64,{text}"
    browser.ask(do="open", url=address, width=800, height=600, scale=1, dark=False)
    browser.ask(do="click", selector="#theme")
    assert browser.ask(do="evaluate", code=PAPER_COLOR).get("value") == DARK
    nothing_amiss(browser)


def test_printed_nothing_is_cut_off_whatever_the_theme(browser, opened, golden_run) -> None:
    ask = opened(golden_run, PAPER, dark=True)
    browser.ask(do="media", type="print")
    assert ask(PAPER_COLOR) == LIGHT
    ask("dispatchEvent(new Event('beforeprint'))")
    assert ask("document.querySelectorAll('details:not([open])').length") == 0
    wide = (
        "[...document.querySelectorAll('main *, header *')]"
        ".filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 100))"
    )
    assert ask(wide) == []
    hidden = "[...document.querySelectorAll('.scroll')].filter(e => getComputedStyle(e).overflowX !== 'visible').length"
    assert ask(hidden) == 0
    ask("dispatchEvent(new Event('afterprint'))")
    assert ask("document.querySelectorAll('details:not([open])').length") > 0


def test_the_policy_refuses_the_network_and_other_scripts(browser, opened, golden_run) -> None:
    """What an attacker would try does not get as far as a request."""
    ask = opened(golden_run)
    assert ask("fetch('https://example.com/').then(() => 'done', () => 'refused')") == "refused"
    ask("(() => { const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s); })()")
    assert ask("window.ran ?? null") is None
    said = browser.ask(do="said")
    assert said["requests"] == []
    assert sum("Content Security Policy" in each for each in said["errors"]) >= 2


def test_nothing_of_the_tests_tools_is_in_the_package() -> None:
    lock = json.loads((TOOLS / "browser" / "package-lock.json").read_text())["packages"]
    assert list(lock) == ["", "node_modules/axe-core"] and lock["node_modules/axe-core"]["integrity"]
    assert not [path for path in WEB.rglob("package*.json") if "axe" in path.read_text()]
