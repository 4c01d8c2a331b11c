"""The sample page in a real browser: quiet, offline, readable on both screens and in both themes, by keyboard."""

import pytest
from browser_checks import EVERY_SCREEN, PHONE, WIDE, check_keyboard, check_page, chromium, opened
from sample_report import sample_page

from diffuscope.report import write_page
from diffuscope.report.theme import DARK, LIGHT


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_page(sample_page(), tmp_path_factory.mktemp("report") / "index.html")


def test_page_is_sound_on_both_screens_in_both_themes(browser, written):
    check_page(browser, written, EVERY_SCREEN)
    with opened(browser, written, width=WIDE, scheme="light") as page:
        check_keyboard(page)


def test_page_and_figures_follow_the_color_scheme_of_the_reader(browser, written):
    background = "getComputedStyle(document.body).backgroundColor"
    letters = "getComputedStyle(document.querySelector('.plot text')).fill"
    with opened(browser, written, width=WIDE, scheme="light") as page:
        light = page.evaluate(background), page.evaluate(letters)
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate(background), page.evaluate(letters)
        assert light == tuple(rgb(LIGHT[name]) for name in ("paper", "muted"))
        assert dark == tuple(rgb(DARK[name]) for name in ("paper", "muted"))
        page.emulate_media(color_scheme="light")
        assert (page.evaluate(background), page.evaluate(letters)) == light


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[k : k + 2], 16)) for k in (1, 3, 5))})"


def test_scroll_containers_hold_what_is_wider_than_a_phone(browser, written):
    with opened(browser, written, width=PHONE, scheme="light") as page:
        wide = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
        assert page.evaluate(f"{wide}.length") > 0
        assert page.evaluate(f"{wide}.every((box) => box.tabIndex === 0)")


def test_folded_table_scrolls_by_keyboard_once_it_is_open(browser, written):
    with opened(browser, written, width=PHONE, scheme="light") as page:
        assert not page.is_visible("details .scroll")
        page.focus("summary")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('details .scroll')")
        assert page.is_visible("details .scroll")


def test_paper_shows_what_is_folded(browser, written):
    """The height of the printed table is that of the open one, though nobody has opened it."""
    with opened(browser, written, width=WIDE, scheme="light") as page:
        height = "document.querySelector('details').getBoundingClientRect().height"
        folded = page.evaluate(height)
        page.emulate_media(media="print")
        assert page.evaluate("document.querySelector('details').open") is False
        assert page.evaluate(height) > 10 * folded
        printed = page.evaluate("document.querySelector('details td').checkVisibility({contentVisibilityAuto: true})")
        assert printed
        assert not page.is_visible("summary")
        assert page.pdf().startswith(b"%PDF")


def test_browser_refuses_what_a_hostile_page_would_fetch(browser, written, tmp_path):
    hostile = tmp_path / "hostile.html"
    inserted = '<img src="https://example.org/spy.png"><script>document.title = "taken"</script></main>'
    hostile.write_text(written.read_text(encoding="utf-8").replace("</main>", inserted), encoding="utf-8")
    page = browser.new_page()
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.goto(hostile.as_uri())
    assert page.title() == sample_page().title
    assert [url for url in asked if url.startswith("http")] == []
    page.close()


def test_page_prints_light_and_whole_without_navigation(browser, written):
    with opened(browser, written, width=WIDE, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        page.set_viewport_size({"width": 660, "height": 930})  # A4 within margins of 18 mm
        assert page.evaluate("document.documentElement.scrollWidth") == 660
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.is_visible("nav")


CORRUPTIONS = {
    "text too pale": ("</style>", ".how { color: #a8a8a8 !important; }</style>"),
    "letters of a figure too pale": ("</style>", ".plot text { fill: #b8b8b8 !important; }</style>"),
    "wider than a phone": ("</main>", '<p style="width: 60rem">wide</p></main>'),
    "a picture that is none": ("data:image/png;base64,", "data:image/png;base64,AAAA"),
    "a figure of no height": ("</style>", ".plot { height: 0 !important; }</style>"),
    "focus that cannot be seen": ("</style>", "a:focus-visible { outline: none !important; }</style>"),
    "a section out of the keyboard's reach": ('<a href="#method">', '<a tabindex="-1" href="#method">'),
    "an error on the console": ("</main>", "<script>undefined()</script></main>"),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_checks_refuse_a_page_with(browser, written, tmp_path, corruption):
    sound, unsound = CORRUPTIONS[corruption]
    page = tmp_path / "unsound.html"
    original = written.read_text(encoding="utf-8")
    assert sound in original
    page.write_text(original.replace(sound, unsound, 1), encoding="utf-8")
    with pytest.raises(AssertionError):
        check_page(browser, page)
