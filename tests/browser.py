"""A real browser for the tests of pages: Debian's Chromium without a window, by its own driver."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
PATIENCE = 60  # seconds that a page may take on a machine that is busy

# Writes theta into the number fields, one point after the other, and gives what is told of each.
_POINTED = """
const [thetas, done] = arguments;
const fields = [...document.querySelectorAll('[data-axis] input[type=number]')];
const frame = () => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
(async () => {
  const told = [];
  for (const theta of thetas) {
    fields.forEach((field, i) => {
      field.value = String(theta[i]);
      field.dispatchEvent(new Event('change'));
    });
    await frame();
    told.push({ ...document.getElementById('pointed').dataset });
  }
  done(told);
})();
"""


class Page:
    """The page that the browser shows."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, scripts: bool = True, part: str = "pointing") -> None:
        """Opens a file; waits until that part of it is alive, if scripts may run."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        if scripts:
            WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(
                lambda _: self.run("return document.getElementById(arguments[0])?.dataset.ready", part)
            )
            self.settle()

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def settle(self) -> None:
        """Waits for the next frames, in which what changed is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def until(self, script: str) -> None:
        """Waits until a script returns what is true."""
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: self.run(script))

    def one(self, selector: str) -> Any:
        """The element of that selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Brings an element into view and clicks it."""
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        self.settle()

    def told(self) -> dict[str, Any]:
        """What is told of the place that is pointed at, as data."""
        told = self.run("return { ...document.getElementById('pointed').dataset }")
        return read(told)

    def pointed(self, thetas: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        """What is told at each of these theta."""
        points = [[float(value) for value in theta] for theta in thetas]
        return [read(told) for told in self.driver.execute_async_script(_POINTED, points)]

    def text(self, part: str) -> str:
        """The words in a part of the panel."""
        return self.run(f"return document.querySelector('[data-part=\"{part}\"]').textContent")

    def shown(self, selector: str) -> bool:
        """Whether an element takes up any room."""
        return self.run("return document.querySelector(arguments[0])?.getClientRects().length > 0", selector)

    def picture(self, selector: str) -> str:
        """The pixels of a canvas, as text."""
        return self.run("return document.querySelector(arguments[0]).toDataURL()", selector)

    def barriers(self) -> list[str]:
        """What axe-core finds that keeps people from using the page without a mouse, or without seeing it."""
        self.run(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        return self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document).then((found) => done(found.violations.flatMap("
            "(rule) => rule.nodes.map((node) => `${rule.id} at ${node.target}: ${node.failureSummary}`))))"
        )

    def errors(self) -> list[str]:
        """What the console has complained of since the page was opened, or this was asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def size(self, width: int, height: int = 1000) -> None:
        """Gives the page so much room."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def medium(self, name: str = "", **features: str) -> None:
        """Shows the page on paper (``print``), or to who prefers, say, ``prefers_color_scheme="dark"``."""
        wanted = [{"name": key.replace("_", "-"), "value": value} for key, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": name, "features": wanted})


def read(told: dict[str, str]) -> dict[str, Any]:
    """The data of the panel with its numbers as numbers."""
    parsed: dict[str, Any] = dict(told)
    for name in ("theta", "scores"):
        parsed[name] = json.loads(told[name])
    for name in {"inconsistency", "gap"} & told.keys():
        parsed[name] = float(told[name])
    parsed["cells"] = [int(cell) for cell in told["cells"].split()]
    return parsed


@contextmanager
def started(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile; skips the test where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no Chromium here with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    try:
        yield Page(driver)
    finally:
        driver.quit()
