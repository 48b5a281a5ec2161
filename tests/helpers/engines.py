"""The engines that run the scripts of ``lenet play``: Node, and a headless Chromium.

Chromium is driven through its debugging pipe, without a server, a port or a library. The messages
are those of the Chrome DevTools protocol, in JSON, each ended by a zero byte. Mouse, touch and keys
are those of the browser, not events made by a script, so that a test does what a person does. The
page's content security policy stays as it is.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from lenet.targets.page.html import scripts

Value: TypeAlias = Any  # what JSON can express
NODE = shutil.which("node")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None) if os.name == "posix" else None
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Delete": 46}
KEYS |= {f"Arrow{way}": 37 + k for k, way in enumerate(("Left", "Up", "Right", "Down"))}
TIMEOUT = 60  # seconds for one answer
DRAWN = """
const drawn = () =>
  new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
"""
SCRIPTS = ("network.js", "prepare.js", "train.js")  # those that need no browser


def in_node(code: str, **values: object) -> Value:
    """Return what the body of a function on top of the page's arithmetic returns, in Node.

    The values are its ``input``.
    """
    call = f"const input = {json.dumps(values)};\n"
    call += f"console.log(JSON.stringify((() => {{{code}}})()));"
    done = subprocess.run(
        [str(NODE), "-"],
        input=f"{scripts(SCRIPTS)}\n{call}",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


class Browser:
    """A browser with one page; use it in a ``with`` statement.

    Parameters
    ----------
    profile
        A directory for the browser's files.
    """

    def __init__(self, profile: Path) -> None:
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        # The browser reads from descriptor 3 and writes to descriptor 4.
        call = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        options = (*OPTIONS, f"--user-data-dir={profile}", "about:blank")
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", call, str(CHROMIUM), *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.number, self.received = 0, b""
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        try:
            pages = self.send("Target.getTargets")["targetInfos"]
            page = next(page["targetId"] for page in pages if page["type"] == "page")
            attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
            self.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.send(f"{domain}.enable")
            self.send("Page.setLifecycleEventsEnabled", enabled=True)
        except BaseException:
            self.process.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.session = None
            self.send("Browser.close")
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.commands)
            os.close(self.answers)

    # --- Messages -------------------------------------------------------------------------------

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the result of a command of the protocol."""
        self.number += 1
        message: dict[str, object] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer.get('error')}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def receive(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self.answers, 1 << 20)
            assert part, "the browser has ended"
            self.received += part
        message, _, self.received = self.received.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        return received

    def wait_for_load(self, loader: str) -> None:
        def loaded(event: dict[str, Any]) -> bool:
            facts = event.get("params", {})
            return bool(facts.get("loaderId") == loader and facts.get("name") == "load")

        while not any(map(loaded, self.events)):
            self.events.append(self.receive())

    # --- The page -------------------------------------------------------------------------------

    def open(self, file: Path, address: str = "") -> None:
        """Load a page."""
        self.send("Page.navigate", url="about:blank")  # or a new address would load nothing
        self.events.clear()
        loader = self.send("Page.navigate", url=file.as_uri() + address)["loaderId"]
        self.wait_for_load(loader)

    def window(self, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window, and the colours that the user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[colours])

    def evaluate(self, code: str) -> Value:
        """Return the value of a JavaScript expression; a promise is awaited."""
        result = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        problem = result.get("exceptionDetails", {})
        assert not problem, problem.get("exception", {}).get("description", problem["text"])
        return result["result"].get("value")

    def run(self, code: str, **values: object) -> Value:
        """Return what the body of an asynchronous function returns; the values are its `input`."""
        return self.evaluate(f"(async (input) => {{{code}}})({json.dumps(values)})")

    def problems(self) -> list[str]:
        """Errors of the page's scripts and messages of its policy, since it was loaded."""
        self.evaluate("0")  # all messages before this one have come
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"].get("text", "an exception"))
            elif event.get("method") == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
        return found

    # --- A person -------------------------------------------------------------------------------

    def place(
        self, selector: str, across: float = 0.5, down: float = 0.5, label: str | None = None
    ) -> tuple[float, float]:
        """Scroll to an element once it is shown, and return a point of it on the screen.

        With a label, the element is the one of those that match which has this text.
        """
        code = """
        const element = () => [...document.querySelectorAll(input.selector)].find((e) =>
          e.getClientRects().length && [null, e.textContent.trim()].includes(input.label));
        while (!element()) await new Promise((resolve) => setTimeout(resolve, 10));
        element().scrollIntoView({ block: "center" });
        await drawn();
        const box = element().getBoundingClientRect();
        return [box.left + input.across * box.width, box.top + input.down * box.height];
        """
        x, y = self.run(DRAWN + code, selector=selector, across=across, down=down, label=label)
        return x, y

    def mouse(self, kind: str, x: float, y: float, **options: object) -> None:
        options = {"button": "left", "clickCount": 1, **options}
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **options)

    def click(
        self, selector: str, across: float = 0.5, down: float = 0.5, label: str | None = None
    ) -> None:
        """Click an element, or the one that has a label, and wait until its effect is drawn."""
        x, y = self.place(selector, across, down, label)
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, x, y)
        self.run(DRAWN + "await drawn();")

    def stroke(
        self, selector: str, points: list[tuple[float, float]], pointer: str = "mouse"
    ) -> None:
        """Draw a line through points, given as parts of the element's width and height."""
        places = [self.place(selector, *point) for point in points]
        for k, (x, y) in enumerate([*places, places[-1]]):
            kind = 0 if k == 0 else 2 if k == len(places) else 1
            if pointer == "touch":
                name = ("touchStart", "touchMove", "touchEnd")[kind]
                touched = [] if kind == 2 else [{"x": x, "y": y}]
                self.send("Input.dispatchTouchEvent", type=name, touchPoints=touched)
            else:
                self.mouse(("Pressed", "Moved", "Released")[kind], x, y, pointerType=pointer)

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                options = {"windowsVirtualKeyCode": KEYS[key]}
                if (kind, key) == ("keyDown", "Enter"):
                    options["text"] = "\r"  # without it no button is pressed
                self.send("Input.dispatchKeyEvent", type=kind, key=key, **options)

    def write(self, selector: str, text: str) -> None:
        """Go to a field, and type over what it contains."""
        self.place(selector)
        code = (
            "const field = document.querySelector(input.selector); field.focus(); field.select();"
        )
        self.run(code, selector=selector)
        self.send("Input.insertText", text=text)
        self.press("Tab")

    def choose(self, selector: str, value: object) -> None:
        """Set a field, a slider or a choice as a person would leave it."""
        self.evaluate(f"""(() => {{
            const field = document.querySelector({json.dumps(selector)});
            field.value = {json.dumps(value)};
            for (const name of ["input", "change"])
              field.dispatchEvent(new Event(name, {{ bubbles: true }}));
        }})()""")

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))
