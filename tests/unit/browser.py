"""Headless Chromium, driven by the DevTools protocol over two pipes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "PageDown": 34}
_CODES |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
SECONDS = 60  # for any answer; a page draws in one


def decoded(url: str) -> bytes:
    """What a data URL in base64 holds."""
    return base64.b64decode(url.split(",", 1)[1])


class Browser:
    """One tab, and what went wrong in it since it was opened.

    Attributes
    ----------
    errors : exceptions, and messages of the console and of the browser at level error.
    requests : addresses asked for; data URLs are none.
    """

    def __init__(self, read: int, write: int) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._pipes, self._rest, self._count = (read, write), b"", 0
        self._events: list[str] = []
        self._session: dict = {}
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _message(self) -> dict:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            if not select.select([self._pipes[0]], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium did not answer")
            part = os.read(self._pipes[0], 1 << 20)
            if not part:
                raise EOFError("Chromium ended")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict) -> None:
        method, about = event["method"], event["params"]
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self.errors.append(json.dumps(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = about["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]

    def call(self, method: str, **params: object) -> dict:
        """The answer to one command of the protocol."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._pipes[1], json.dumps(command).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._count:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            if "method" in message:
                self._note(message)

    def open(self, path: Path) -> None:
        """Show a file, forgetting what was noted before; returns when it has loaded and drawn."""
        self.errors.clear(), self.requests.clear(), self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(self._message())
        self.frame()

    def evaluate(self, expression: str) -> object:
        """Value of a JavaScript expression, awaited when it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def frame(self) -> None:
        """Wait until what was asked for is drawn."""
        self.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key, `text` being what it types."""
        code = _CODES.get(key, 0)
        more = {"windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.frame()

    def _mouse(self, kind: str, at: tuple[float, float], **more: object) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        """Press the mouse's left button, move it, release it."""
        button = {"button": "left", "clickCount": 1}
        end = (start[0] + by[0], start[1] + by[1])
        self._mouse("mousePressed", start, buttons=1, **button)
        self._mouse("mouseMoved", end, buttons=1, **button)
        self._mouse("mouseReleased", end, buttons=0, **button)
        self.frame()

    def click(self, at: tuple[float, float]) -> None:
        """Press and release the mouse's left button."""
        self.drag(at, (0, 0))

    def move(self, at: tuple[float, float]) -> None:
        """Move the mouse without a button."""
        self._mouse("mouseMoved", at)
        self.frame()

    def touch(self, steps: list[list[tuple[float, float]]]) -> None:
        """Put fingers down at the first step's points, move them, lift them."""
        for kind, points in zip(["touchStart", *["touchMove"] * len(steps)], steps, strict=False):
            at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=at)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.frame()

    def wheel(self, at: tuple[float, float], down: float) -> None:
        """Turn the mouse's wheel."""
        self._mouse("mouseWheel", at, deltaX=0, deltaY=down)
        self.frame()

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Show the page at another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.frame()


@contextlib.contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile in that folder, ended afterwards."""
    assert FOUND is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    flags += ["--no-first-run", f"--user-data-dir={profile}"]
    ours, theirs = [], []
    for number in (3, 4):  # Chromium reads commands from 3 and answers to 4
        pipe = os.pipe()
        child, parent = pipe if number == 3 else pipe[::-1]
        # A number above those it is copied to.
        theirs.append(fcntl.fcntl(child, fcntl.F_DUPFD_CLOEXEC, 10))
        ours.append(parent)
        os.close(child)
    null = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    copies = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(theirs, (3, 4), strict=True)]
    process = os.posix_spawn(
        FOUND, [FOUND, *flags], dict(os.environ), file_actions=[null, *copies], setpgroup=0
    )
    for fd in theirs:
        os.close(fd)
    try:
        yield Browser(ours[1], ours[0])
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        for fd in ours:
            os.close(fd)
