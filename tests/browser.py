"""A real Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.ledger import wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


def browser_path() -> str:
    """Return the path of the browser of this machine."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    assert found, f"these tests need a browser: install one of {', '.join(BROWSERS)}, as in `apt-get install chromium`"
    return found[0]


class Page:
    """A page of a browser of its own, on which a script runs; `errors` are those of its console and its exceptions."""

    def __init__(self, folder: Path, *, width: int = 900, height: int = 1000) -> None:
        profile = folder / "profile"
        self.errors: list[str] = []
        self._ids = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        command = [browser_path(), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        self._log = (folder / "browser.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--remote-debugging-port=0", "about:blank"], stdout=self._log, stderr=subprocess.STDOUT
        )
        port_file = profile / "DevToolsActivePort"  # written once the browser listens: its port, its path
        wait_until(lambda: port_file.exists() and len(port_file.read_text().split()) == 2, timeout=60)
        port, path = port_file.read_text().split()
        self._socket: WebSocketClientConnection = self._loop.run_until_complete(
            _connected(f"ws://127.0.0.1:{port}{path}")
        )
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()
        self._loop.run_until_complete(self._leave())
        self._loop.close()

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._ask("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete'")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression of the page's own language; a promise is waited for."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true on the page."""
        wait_until(lambda: self.evaluate(condition), timeout=60)

    def prefer(self, scheme: str) -> None:
        """Have the page drawn for a reader who likes it `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path) -> None:
        """Write the page as it looks as a PNG."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    async def _leave(self) -> None:
        self._socket.close()
        while await asyncio.wait_for(self._socket.read_message(), 60) is not None:
            pass

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._answer(method, params))

    async def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        await self._socket.write_message(json.dumps(message))
        while True:
            received = await asyncio.wait_for(self._socket.read_message(), 60)
            assert received is not None, "the browser has closed the connection"
            said = json.loads(received)
            if said.get("id") == number:
                assert "error" not in said, said["error"]
                return dict(said["result"])
            self._note(said)

    def _note(self, event: dict[str, Any]) -> None:
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(event["params"]["exceptionDetails"]))
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(str(event["params"]["entry"]["text"]))


async def _connected(url: str) -> WebSocketClientConnection:
    return await websocket_connect(url, max_message_size=100 * 2**20)
