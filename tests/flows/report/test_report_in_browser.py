"""The report in a real browser, opened from disk, without a network: on a screen, on a phone, in the dark and on paper."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_chromium import started
from playwright.sync_api import Browser, Page, expect
from reported_results import WINNER, trial_rows, write_results

from flows.report import page as pages
from flows.report.charts import Chart, Point
from flows.report.facts import read
from flows.report.html import Markup, element, join


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the report lies."""
    found = read(write_results(tmp_path_factory.mktemp("report"), ["a <b>class</b>", "dog"]))
    path = tmp_path_factory.mktemp("a folder #1") / "report.html"
    path.write_text(pages.page(found, pages.sections(found)))
    return path.as_uri()


@pytest.fixture(scope="module")
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """The page, ready; at its end nothing was complained about and nothing else was asked for."""
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 800}).new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator("body[data-state=ready]").wait_for()
    yield page
    assert complaints == []
    assert {url.split("#")[0] for url in asked if not url.startswith("data:")} == {address}


def column(page: Page, index: int) -> list[str]:
    return page.locator("#trial-table tbody tr:not([hidden])").evaluate_all(f"(rows) => rows.map((row) => row.cells[{index}].textContent)")


def test_trials_are_sorted_both_ways_and_empty_cells_stay_last(opened: Page) -> None:
    head = opened.locator("#trial-table thead button", has_text="accuracy")
    head.click()
    rising = column(opened, 3)
    values = [float(text) for text in rising if text]
    assert values == sorted(values)
    assert rising[len(values) :] == ["", ""]
    expect(head.locator("..")).to_have_attribute("aria-sort", "ascending")
    head.press("Enter")
    falling = column(opened, 3)
    assert [float(text) for text in falling if text] == values[::-1]
    assert falling[-2:] == ["", ""]


def test_trials_are_filtered_by_words_and_status(opened: Page) -> None:
    opened.locator("#filter").fill("operation pool")
    wanted = [str(row["number"]) for row in trial_rows() if row["operation"] == "pool"]
    assert sorted(column(opened, 0), key=int) == wanted
    expect(opened.locator("#shown")).to_have_text(f"{len(wanted)} of 14")
    opened.locator("#status").select_option("failed")
    expect(opened.locator("#shown")).to_have_text("0 of 14")
    opened.locator("#filter").fill("")
    assert column(opened, 0) == ["3"]
    opened.locator("#decisions").check()
    expect(opened.locator("#trial-table th.choice").first).to_be_visible()
    opened.locator("#decisions").uncheck()
    expect(opened.locator("#trial-table th.choice").first).to_be_hidden()


def test_a_point_tells_its_trial_and_leads_to_it_whatever_is_filtered(opened: Page) -> None:
    opened.locator("#status").select_option("failed")
    point = opened.locator(f"#progress a[href='#trial-{WINNER}']")
    point.focus()
    expect(opened.locator("#tip")).to_contain_text(f"trial {WINNER}: accuracy")
    point.press("Enter")
    expect(opened.locator(f"#trial-{WINNER}")).to_be_in_viewport()
    expect(opened.locator("#shown")).to_have_text("14 of 14")


def test_another_cost_is_chosen_by_keyboard(opened: Page) -> None:
    panels = opened.locator(".panel")
    expect(panels.nth(0)).to_be_visible()
    opened.locator("#cost-0").focus()
    opened.keyboard.press("ArrowRight")
    expect(panels.nth(0)).to_be_hidden()
    expect(panels.nth(1)).to_be_visible()


def test_the_button_turns_dark_into_light_and_back(opened: Page) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.locator("#theme").click()
    dark = opened.evaluate(ground)
    assert dark != light
    opened.locator("#theme").click()
    assert opened.evaluate(ground) == light


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(browser: Browser, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(offline=True, viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
    assert page.locator(".tiles dd").evaluate_all("tiles => tiles.filter(one => one.scrollWidth > one.clientWidth).length") == 0
    assert min(page.locator("p, td, th, dd, a").evaluate_all(CONTRAST)) >= 4.5
    context.close()


def test_it_prints_without_a_script(browser: Browser, address: str, tmp_path: Path) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#trial-tools")).to_be_hidden()
    expect(page.locator(f"#trial-{WINNER}")).to_be_visible()
    assert page.pdf(path=tmp_path / "report.pdf").startswith(b"%PDF")
    page.emulate_media(media="print")
    for controls in ("nav", "#theme", ".tools", ".pick", ".pick + label"):
        assert page.locator(controls).evaluate_all("found => found.filter(one => one.checkVisibility()).length") == 0, controls
    assert page.locator(".panel").evaluate_all(VISIBLE) == [True, True], "no button chooses one of them"
    closed = page.locator("details pre")
    assert closed.evaluate_all(VISIBLE) == [True] * closed.count()
    context.close()


def test_what_is_closed_is_opened_for_paper_and_closed_again(opened: Page) -> None:
    states = "() => [...document.querySelectorAll('details')].map((one) => one.open)"
    opened.locator("details summary").first.click()
    before = opened.evaluate(states)
    assert (before[0], any(before[1:])) == (True, False)
    opened.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert all(opened.evaluate(states))
    opened.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate(states) == before


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_of_a_chart_lies_over_another_or_is_cut_off(browser: Browser, tmp_path: Path, width: int) -> None:
    """Whatever the numbers are: small steps far from zero, large ones, some below zero, and some that are all but equal."""
    ranges = [(0.0021, 0.0034), (-0.00012, 0.00017), (1_234_000, 1_236_500), (0.98011, 0.98139), (12, 12_000_000), (3e-6, 8e-6)]
    marks = [[Point(x, y, "") for x, y in zip(own, other, strict=True)] for own, other in zip(ranges, ranges[1:] + ranges[:1], strict=True)]
    body = join([element("section", {"class": "card"}, Chart("a chart", "latency, ms", "hypervolume", points).svg()) for points in marks])
    style = Markup((Path(pages.__file__).parent / "style.css").read_text())
    path = tmp_path / "charts.html"
    viewport = element("meta", {"name": "viewport", "content": "width=device-width"})
    path.write_text(element("html", None, viewport, element("style", None, style), element("body", None, body)))
    page = browser.new_context(offline=True, viewport={"width": width, "height": 800}).new_page()
    page.goto(path.as_uri())
    assert page.evaluate(OVERLAPS) == []
    labels = page.locator(".tick").evaluate_all("found => found.map(one => one.textContent)")
    assert len(labels) > 50
    assert {"0.98025", "-0.0001", "12.5M", "1.2355M"} <= set(labels), "every digit that tells two apart"
    page.context.close()


VISIBLE = "found => found.map((one) => one.checkVisibility() && one.getBoundingClientRect().height > 20)"
OVERLAPS = """
() => [...document.querySelectorAll("svg.chart")].flatMap((chart) => {
  const boxes = [...chart.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
  const card = chart.closest(".card").getBoundingClientRect();
  const out = boxes.filter(([, box]) => box.left < card.left || box.right > card.right).map(([text]) => `${text} is cut off`);
  return out.concat(boxes.flatMap(([text, one], at) => boxes.slice(at + 1).filter(([, other]) =>
    one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1
  ).map(([other]) => `${text} over ${other}`)));
})
"""
"""Which texts of the charts share pixels, and which leave the card."""


CONTRAST = """
(elements) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
    const [red, green, blue] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "white";
  };
  return elements.filter((element) => element.checkVisibility()).map((element) => {
    const [one, other] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  });
}
"""
"""The contrast of the text of elements with the ground behind them, as WCAG 2.2 defines it; 4.5 is its level AA."""
