"""A headless Firefox of this machine, spoken to by WebDriver BiDi, which it understands without a driver."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from book_reader import PROBE
from websocket import WebSocket, create_connection

SECONDS = 60  # for any answer
PREFERENCES = {  # Firefox asks nobody for news by itself, and opens one empty page
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.startup.page": 0,
    "browser.safebrowsing.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,none",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One window. `errors` collects what its pages report on their consoles, `requests` what they ask for."""

    def __init__(self, address: str) -> None:
        self._socket: WebSocket = create_connection(f"{address}/session", timeout=SECONDS, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._call("session.new", capabilities={})
        self._call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self._window = self._call("browsingContext.create", type="window")["context"]  # the first has no focus for keys
        probe = PROBE.read_text(encoding="utf-8")
        self._call("script.addPreloadScript", functionDeclaration=f"() => {{ {probe} }}")

    def resize(self, width: int, height: int) -> None:
        """Make the window as large as this, in CSS pixels."""
        self._call("browsingContext.setViewport", context=self._window, viewport={"width": width, "height": height})

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._call("browsingContext.navigate", context=self._window, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of its promise, by way of JSON.

        Raises:
            AssertionError: the expression raised an error.
        """
        answer = self._call(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then(value => JSON.stringify(value ?? null))",
            target={"context": self._window},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def wait(self, expression: str) -> None:
        """Wait until the expression is true.

        Raises:
            TimeoutError: it was not, for a minute.
        """
        end = time.monotonic() + SECONDS
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {SECONDS} s: {expression}")
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Press keys one after another, given as their characters."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call(
            "input.performActions",
            context=self._window,
            actions=[{"type": "key", "id": "keyboard", "actions": actions}],
        )

    def _call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert message["type"] == "success", f"{method}: {message.get('message')}"
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "log.entryAdded" and params["level"] == "error":
            self.errors.append(params["text"])
        elif event.get("method") == "network.beforeRequestSent":
            self.requests.append(params["request"]["url"])


@contextmanager
def firefox() -> Iterator[Firefox]:
    """A window of a Firefox with an empty profile; the test is skipped where there is none."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("no Firefox: install the package `firefox-esr` (Debian: apt-get install firefox-esr)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        Path(profile, "user.js").write_text("".join(lines), encoding="utf-8")
        command = [path, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield Firefox(_address(Path(profile, "WebDriverBiDiServer.json")))
            finally:
                process.terminate()


def _address(written: Path) -> str:
    """Where the browser listens, which it writes into its profile."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            found = json.loads(written.read_text(encoding="utf-8"))
            return f"ws://{found['ws_host']}:{found['ws_port']}"
        except (FileNotFoundError, json.JSONDecodeError):
            assert time.monotonic() < end, "Firefox does not say where it listens"
            time.sleep(0.05)
