"""A page in a real headless Chromium, driven over its debugging pipe: no package and no port is needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " "), "/": (191, "/"), "Escape": (27, "")}
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


class Browser:
    """One Chromium with one page. *seen*: the events that it has reported so far."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        assert program, "no chromium: apt-get install chromium"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # its processes may still write
        (reads, commands), (answers, writes) = os.pipe(), os.pipe()
        # The browser reads commands at 3 and answers at 4: from where neither is overwritten by the other.
        ends = [fcntl.fcntl(number, fcntl.F_DUPFD, 10) for number in (reads, writes)]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", program, *_FLAGS,
             f"--user-data-dir={self._folder.name}", "about:blank"],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for number in (reads, writes, *ends):
            os.close(number)
        self._commands: BinaryIO = os.fdopen(commands, "wb", buffering=0)
        self._answers: BinaryIO = os.fdopen(answers, "rb")
        self._number = 0
        self._rest = b""
        self.seen: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        self._session = None
        self.call("Browser.close")
        self._process.wait(30)
        self._commands.close()
        self._answers.close()
        self._folder.cleanup()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._answers.fileno(), 1 << 20)
            assert read, f"the browser has ended: {self._process.poll()}"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command of the DevTools protocol answers."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.seen.append(answer)

    def _await(self, method: str) -> None:
        while all(event["method"] != method for event in self.seen):
            self.seen.append(self._next())

    def open(self, file: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file, of which nothing else is remembered."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.seen.clear()
        self.call("Page.navigate", url=file.absolute().as_uri())
        self._await("Page.loadEventFired")

    def run(self, code: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of the first element that is meant, as it is seen."""
        # What is in a drawing has no innerText.
        text: str = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " return e.innerText ?? e.textContent; })()"
        )
        return text

    def click(self, selector: str) -> None:
        """Press the mouse on the middle of the element."""
        place = self._middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def hover(self, selector: str) -> None:
        """Move the mouse there."""
        place = self._middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])

    def _middle(self, selector: str) -> list[float]:
        place: list[float] = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return place

    def press(self, *keys: str) -> None:
        """Press keys one after another: names as in KeyboardEvent.key."""
        for key in keys:
            code, text = _KEYS[key]
            common = {"key": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self.call("Input.insertText", text=text)

    def picture(self, file: Path, whole: bool = False) -> None:
        """A PNG of what is seen, or of the *whole* page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    def requested(self) -> Sequence[str]:
        """What the page has asked for since it was opened."""
        return [
            event["params"]["request"]["url"] for event in self.seen if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> Sequence[str]:
        """Exceptions of scripts, and what the console has said since the page was opened."""
        self.run("0")  # what was reported until now has arrived
        found = [event for event in self.seen if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        return [json.dumps(event["params"])[:400] for event in found]
