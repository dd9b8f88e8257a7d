"""The Chromium of this machine, in which pages are tested; it reaches nobody."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


@contextmanager
def started() -> Iterator[Browser]:
    """Start it; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: install it, on Debian by `apt-get install chromium`, to test pages")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        except Error as error:
            pytest.skip(f"{CHROMIUM} does not start here: {error.message.splitlines()[0]}")
        yield browser
        browser.close()
