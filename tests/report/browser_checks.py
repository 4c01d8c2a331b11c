"""What any page of the report must hold in a real browser; every check here takes the path of a written page."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = 1280, 390
EACH_ONCE = ((WIDE, "light"), (PHONE, "dark"))
EVERY_SCREEN = ((WIDE, "dark"), (PHONE, "light"), *EACH_ONCE)

# (text, ratio, ratio required) of every visible text whose contrast is below WCAG AA; the numbers in the cells of a
# heat map stand on their cell, not on the page, and are held by the test of the theme
_LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();  // reading a pixel takes long, and a page has few colors
  const rgba = (color) => {
    if (known.has(color)) return known.get(color);
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    known.set(color, [...canvas.getImageData(0, 0, 1, 1).data]);
    return known.get(color);
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let read = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("style, desc, title, .visually-hidden") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    if (drawn && /heat-ink/.test(element.getAttribute("style"))) continue;
    let behind = element;
    while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const pair = [luminance(rgba(drawn ? style.fill : style.color)),
                  luminance(rgba(behind ? getComputedStyle(behind).backgroundColor : "white"))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
    const required = !drawn && (size >= 24 || (bold && size >= 18.66)) ? 3 : 4.5;
    read += 1;
    if (ratio < required) low.push([text, ratio, required]);
  }
  if (!read) low.push(["no text was read", 0, 4.5]);
  return low;
}"""

_EMPTY_FIGURES = """() => [...document.querySelectorAll("figure svg, figure img, main table")].filter((shown) => {
  const box = shown.getBoundingClientRect();
  const empty = shown instanceof HTMLImageElement && !(shown.complete && shown.naturalWidth > 0);
  return empty || !shown.checkVisibility() || box.width < 8 || box.height < 8;
}).map((shown) => shown.outerHTML.slice(0, 200))"""

# what sticks out of the page and is in no scroll container
_OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [`the document is ${document.documentElement.scrollWidth} wide`,
    ...[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 0.5
    && !e.closest(".scroll, nav ol")).map((e) => e.outerHTML.slice(0, 200))];
}"""

# the smallest letters of any figure as they stand on the screen, in CSS pixels
_SMALLEST_LETTER = """() => Math.min(Infinity, ...[...document.querySelectorAll(".plot text")].map((text) =>
  parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a || Infinity))"""

# opened, and the page has had its two frames to react
_UNFOLD = """async () => {
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
}"""

_STOPS = """() => [...document.querySelectorAll("nav a, .skip, .card a, summary, .scroll")].filter((stop) =>
  stop.checkVisibility()).length"""

_FOCUSED = """() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return null;
  const box = focused.getBoundingClientRect(), style = getComputedStyle(focused);
  document.stops ??= new Map();
  if (!document.stops.has(focused)) document.stops.set(focused, document.stops.size);
  return {
    number: document.stops.get(focused),
    expected: focused.matches("nav a, .skip, .card a, summary, .scroll"),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    inside: box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight,
    html: focused.outerHTML.slice(0, 120),
  };
}"""


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium; the test is skipped, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=_QUIET)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser, path: Path, *, width: int, scheme: str) -> Iterator:
    """The page as a reader with that screen and that theme sees it; leaving checks that it was quiet and fetched
    nothing but itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    said: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(path.resolve().as_uri())
    try:
        yield page
        assert said == []
        assert {url for url in requested if not url.startswith("data:")} == {path.resolve().as_uri()}
    finally:
        context.close()


def check_page(browser, path: Path, screens: Sequence[tuple[int, str]] = EACH_ONCE) -> None:
    """The whole list on every screen, and the keyboard on the last.

    What overflows depends on the width and what has contrast on the theme, so that each once is enough for most pages.
    """
    for width, scheme in screens:
        with opened(browser, path, width=width, scheme=scheme) as page:
            page.evaluate(_UNFOLD)
            assert page.evaluate(_EMPTY_FIGURES) == []
            assert page.evaluate(_OVERFLOWING) == []
            assert page.evaluate(_LOW_CONTRAST) == []
            assert page.evaluate(_SMALLEST_LETTER) >= 9.0
            if (width, scheme) == screens[-1]:
                check_keyboard(page)


def check_keyboard(page) -> None:
    """Tab alone reaches the skip link, every section and everything that scrolls, each visibly focused."""
    page.evaluate(_UNFOLD)
    expected = page.evaluate(_STOPS)
    reached: set[int] = set()
    for _ in range(2 * expected + 20):
        page.keyboard.press("Tab")
        stop = page.evaluate(_FOCUSED)
        if stop is None or (stop["expected"] and stop["number"] in reached):
            break
        assert stop["outlined"], f"no visible focus: {stop['html']}"
        assert stop["inside"], f"focus outside of the screen: {stop['html']}"
        if stop["expected"]:
            reached.add(stop["number"])
    assert len(reached) == expected
