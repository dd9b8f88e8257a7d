"""The page in a real browser, opened from disk, without a network: what it answers is what the file answers in Python."""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from digits_classifier import BYTES, CLASSES, EXAMPLES
from local_chromium import started
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from export import predict

DROP = """
([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
  }
}
"""
READ = """
(seen) => {
  const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  copy.drawImage(seen, 0, 0);
  return [...copy.getImageData(0, 0, seen.width, seen.height).data];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, which reaches nobody."""
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(browser: Browser, bundle: Path) -> Iterator[Page]:
    """The page, ready; at its end nothing was complained about and nothing has left the folder."""
    page = browser.new_context(offline=True, has_touch=True).new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((bundle / "web" / "index.html").as_uri())
    page.locator("body[data-state=ready]").wait_for(timeout=60_000)
    yield page
    assert complaints == []
    inside = (f"{(bundle / 'web').as_uri()}/", "blob:", "data:")
    assert len(asked) >= 8, "so few requests were seen that others may have been missed"
    assert [url for url in asked if not url.startswith(inside)] == []


@pytest.fixture
def page(opened: Page) -> Page:
    """The page with an empty sheet."""
    opened.locator("#clear").click()
    expect(opened.locator("#answer")).to_have_text("Nothing drawn yet")
    return opened


def answers(page: Page) -> NDArray[np.float64]:
    """The probabilities on the bars, once the page has answered."""
    expect(page.locator("#answer")).to_contain_text("%")
    values = page.locator("#classes [role=meter]").evaluate_all("(bars) => bars.map((bar) => bar.ariaValueNow)")
    return np.array(values, float)


def expected(bundle: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    answer: NDArray[np.float32] = session.run(["probabilities"], {"images": images})[0]
    return answer


def seen(page: Page) -> NDArray[np.uint8]:
    """The image that the page says the model gets, H x W."""
    return np.array(page.locator("#seen").evaluate(READ), np.uint8).reshape(8, 8, 4)[..., 0]


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """One stroke of the mouse through points in shares of the sheet."""
    page.evaluate("() => window.scrollTo(0, 0)")
    box = page.locator("#sheet").bounding_box()
    assert box is not None
    for at, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        if at == 0:
            page.mouse.down()
    page.mouse.up()


def test_examples_are_answered_as_in_python(page: Page, bundle: Path) -> None:
    buttons = page.locator("#examples button")
    expect(buttons).to_have_count(len(EXAMPLES))
    for index, row in enumerate(expected(bundle, EXAMPLES)):
        buttons.nth(index).click()
        expect(page.locator("#answer")).to_have_text(f"{CLASSES[row.argmax()]}, {100 * row.max():.1f} %")
        np.testing.assert_allclose(answers(page), row, atol=1e-4)
        expect(buttons.nth(index)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#classes .name").all_inner_texts() == CLASSES
    expect(page.locator("#check")).to_contain_text("at most from those of the export: as exported")


def test_a_drawing_is_answered_while_it_is_drawn(page: Page) -> None:
    draw(page, [(0.5, 0.2), (0.5, 0.8)])
    expect(page.locator("#answer")).to_contain_text("1, ")
    one = answers(page)
    draw(page, [(0.35, 0.2), (0.35, 0.8)])
    draw(page, [(0.65, 0.2), (0.65, 0.8)])
    expect(page.locator("#answer")).not_to_contain_text("1, ")
    assert np.abs(answers(page) - one).max() > 0.1
    for _ in range(2):
        page.keyboard.press("Control+z")
    expect(page.locator("#answer")).to_contain_text("1, ")
    np.testing.assert_array_equal(answers(page), one)


def test_a_small_drawing_in_a_corner_is_brought_to_where_the_examples_have_theirs(page: Page) -> None:
    stroke = [(0.1, 0.1), (0.25, 0.1), (0.15, 0.35)]
    draw(page, stroke)
    expect(page.locator("#answer")).to_contain_text("7, ")
    page.locator("#fit").uncheck()
    expect(page.locator("#answer")).not_to_contain_text("7, ")
    page.locator("#fit").check()
    expect(page.locator("#answer")).to_contain_text("7, ")


def test_the_keyboard_draws(page: Page) -> None:
    page.locator("#sheet").focus()
    for key in (*["ArrowUp"] * 7, "Space", *["ArrowDown"] * 14, "Space", *["ArrowRight"] * 3):
        page.keyboard.press(key)
    expect(page.locator("#answer")).to_contain_text("1, ")
    page.keyboard.press("Delete")
    expect(page.locator("#answer")).to_have_text("Nothing drawn yet")


def test_a_finger_draws(page: Page) -> None:
    page.locator("#sheet").tap()
    expect(page.locator("#answer")).to_contain_text("%")


def test_dropped_and_chosen_files_are_answered_as_by_predict(page: Page, bundle: Path, tmp_path: Path) -> None:
    large = np.kron(BYTES[3, ..., 0], np.ones((13, 11), np.uint8))
    coloured = np.stack([large, np.roll(large, 5, axis=0), 255 - large], axis=-1)
    small = coloured[30:33, 40:45]
    for name, pixels in {"large.png": coloured, "small.png": small}.items():
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        [answer] = predict.predict([path], bundle / "model.onnx", 10)
        wanted = {entry["class"]: entry["probability"] for entry in answer["top"]}
        page.evaluate(DROP, [name, "image/png", base64.b64encode(path.read_bytes()).decode()])
        expect(page.locator("#answer")).to_have_text(f"{answer['class']}, {100 * answer['probability']:.1f} %")
        np.testing.assert_allclose(answers(page), [wanted[name] for name in CLASSES], atol=1e-4)
        np.testing.assert_array_equal(
            seen(page), np.asarray(Image.fromarray(pixels).convert("L").resize((8, 8), Image.Resampling.BILINEAR))
        )
        page.locator("#clear").click()
        expect(page.locator("#answer")).to_have_text("Nothing drawn yet")
        page.locator("#file").set_input_files(path)
        expect(page.locator("#answer")).to_contain_text("%")
        np.testing.assert_allclose(answers(page), [wanted[name] for name in CLASSES], atol=1e-4)


def test_a_file_that_is_no_image_is_refused_in_a_sentence(page: Page) -> None:
    page.evaluate(DROP, ["notes.txt", "text/plain", base64.b64encode(b"not an image").decode()])
    expect(page.locator("#problem")).to_contain_text("notes.txt cannot be decoded as an image: give a PNG")
    page.locator("#clear").click()
    expect(page.locator("#problem")).to_be_hidden()


def test_no_part_of_the_page_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
