"""The sample page in a real browser: quiet, offline, readable on both screens and in both themes, by keyboard."""

import pytest
from browser_checks import PHONE, WIDE, check_keyboard, check_page, chromium, opened
from sample_report import sample_page

from diffuscope.report import write_page


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_page(sample_page(), tmp_path_factory.mktemp("report") / "index.html")


def test_page_is_sound_on_both_screens_in_both_themes(browser, written):
    check_page(browser, written)


def test_theme_button_turns_page_and_figures_by_keyboard_and_is_remembered(browser, written):
    with opened(browser, written, width=WIDE, scheme="light") as page:
        background = "getComputedStyle(document.body).backgroundColor"
        letters = "getComputedStyle(document.querySelector('.plot text')).fill"
        light = page.evaluate(background), page.evaluate(letters)
        page.focus("#theme")
        page.keyboard.press("Enter")
        dark = page.evaluate(background), page.evaluate(letters)
        assert all(before != after for before, after in zip(light, dark, strict=True))
        assert page.get_attribute("#theme", "aria-pressed") == "true"
        page.reload()
        assert page.evaluate(background) == dark[0]
        page.focus("#theme")
        page.keyboard.press("Space")
        assert (page.evaluate(background), page.evaluate(letters)) == light


def test_scroll_containers_hold_what_is_wider_than_a_phone(browser, written):
    with opened(browser, written, width=PHONE, scheme="light") as page:
        wide = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
        assert page.evaluate(f"{wide}.length") > 0
        assert page.evaluate(f"{wide}.every((box) => box.tabIndex === 0)")


def test_nothing_to_scroll_is_no_stop_for_the_keyboard(browser, written):
    with opened(browser, written, width=WIDE, scheme="light") as page:
        idle = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth <= box.clientWidth)"
        assert page.evaluate(f"{idle}.length") > 0
        assert page.evaluate(f"{idle}.every((box) => !box.hasAttribute('tabindex'))")


def test_folded_table_scrolls_by_keyboard_once_it_is_open_and_prints_open(browser, written, tmp_path):
    wide = '<div class="scroll" tabindex="0"><p style="width: 99rem">wide</p></div>'
    folded = tmp_path / "folded.html"
    inserted = f"<details id='fold'><summary>Show</summary>{wide}</details></main>"
    folded.write_text(written.read_text(encoding="utf-8").replace("</main>", inserted), encoding="utf-8")
    check_keyboard(browser, folded, width=PHONE)
    with opened(browser, folded, width=PHONE, scheme="light") as page:
        assert not page.is_visible("#fold .scroll")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.is_visible("#fold .scroll")


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
        assert not page.is_visible("#theme")


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
