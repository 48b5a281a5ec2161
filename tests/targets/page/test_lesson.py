"""docs/lesson.md, click by click: what is read on the page is also in the answers."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


class Lesson:
    """A person at the page: what is read there must also be in the answers of the lesson."""

    def __init__(self, browser, page):
        self.browser, self.page = browser, page
        self.text = (ROOT / "docs" / "lesson.md").read_text(encoding="utf-8")

    def visit(self, address):
        assert f"`play.html{address}`" in self.text
        self.browser.open(self.page, address)

    def reads(self, selector, *strings, answer=True):
        shown = self.browser.text(selector).replace("−", "-")
        for string in strings:
            assert string in shown, (string, shown)
            assert not answer or string in self.text, string


@pytest.fixture
def lesson(browser, lenet5_page):
    browser.window(1366, 768)
    person = Lesson(browser, lenet5_page)
    yield person
    assert browser.problems() == []


def test_lesson_forward(lesson, browser):
    lesson.visit("#draw")  # task 1
    browser.click("#clear")
    browser.stroke("#pad", [(0.5, 0.15), (0.5, 0.85)])
    assert browser.text("#answer b") == "1"
    browser.stroke("#pad", [(0.15, 0.15), (0.5, 0.15)])
    assert browser.text("#answer b") == "7"

    lesson.visit("#im2col/3/3/1/2/1/0")  # task 2
    lesson.reads("#im2col-result tr.sum", "Z25314349", answer=False)
    browser.click("#im2col-result thead button", label="3")
    lesson.reads("#im2col-result", "0·5 + 1·6 + 2·8 + 3·9 = 49", answer=False)
    lesson.visit("#im2col/5/5/1/3/2/1")  # task 3
    lesson.reads("#im2col-result .formula", "Ho = ⌊(5 + 2·1 - 3)/2⌋ + 1 = 3", answer=False)
    lesson.visit("#im2col/6/6/1/2/3/0")
    lesson.reads("#im2col-result .formula", "+ 1 = 2, Wo = 2", answer=False)

    lesson.visit("#forward/C1/3/8/14")  # task 4
    lesson.reads("#forward-unit .formula", "-1.933", "0.113", "-2.046", "y = max(z, 0) = 0")
    lesson.reads("#forward-unit", "20 of 25")
    browser.click("#forward-unit button", label="▶")
    assert browser.evaluate("location.hash") == "#forward/C1/3/8/15"
    browser.click("#forward-unit button", label="◀")
    browser.click("#unfold")
    assert browser.evaluate("location.hash") == "#forward/C1/3/8/14/matrix"
    lesson.reads("#forward-unit", "238")
    lesson.reads("#path li:nth-last-child(2)", "F7·8", answer=False)
    lesson.visit("#forward/C1/3/8/14/matrix")  # task 5
    lesson.reads("#forward-unit .matrix", "cols (25×784)", answer=False)
    lesson.visit("#forward/C3/2/4/5/matrix")
    lesson.reads("#forward-unit .matrix", "W (16×150)", "cols (150×100)", answer=False)
    browser.click("#slide")
    browser.run("await new Promise((resolve) => setTimeout(resolve, 900))")
    browser.click("#slide")
    row, column = map(int, browser.evaluate("location.hash").split("/")[3:5])
    assert 10 * row + column > 45


def test_lesson_backward(lesson, browser):
    lesson.visit("#backward?label=3")  # task 6
    lesson.reads("#loss", "5.3848", "0.46 %", answer=False)
    lesson.reads("#loss", "-0.9954")
    browser.choose("#loss select", "8")
    lesson.reads("#loss", "E = -log p(8) = 0.0099", answer=False)
    assert browser.evaluate("location.hash") == "#backward"
    lesson.visit("#backward/F7/3?label=3")  # task 7
    lesson.reads("#backward-unit", "-0.9954 · 4.3288", answer=False)
    lesson.reads("#backward-unit", "-0.9954", "4.32")

    lesson.visit("#backward/C3/12/0/1?label=3")  # task 8
    lesson.reads("#backward-unit", "2 of 100", "dz = 0.", answer=False)
    browser.click("#backward-unit button", label="+1")
    lesson.reads("#backward-unit output", "3 of 100", answer=False)
    browser.click("#backward-unit .stepper button", label="▶ play")
    browser.run("await new Promise((resolve) => setTimeout(resolve, 900))")
    browser.click("#backward-unit .stepper button", label="❚❚ stop")
    assert int(browser.text("#backward-unit output").split()[0]) > 3

    lesson.visit("#im2col/5/5/1/3/2/0")  # task 9
    counts = "[...document.querySelectorAll('#im2col-result table')].find((table) =>"
    counts += " table.caption.textContent.startsWith('overlaps'))"
    cells = f"[...{counts}.querySelectorAll('tbody td')].map((td) => td.textContent).join('')"
    assert browser.evaluate(cells) == "1121111211224221121111211"
    lesson.visit("#backward/C1/3/8/14?label=3")  # task 10
    lesson.reads("#backward-unit", "dz = 0 ×", "turned by 180°", answer=False)
    lesson.reads("#backward-unit", "Largest difference of the two: ", "e-1", answer=False)


def test_lesson_pooling_and_a_step(lesson, browser):
    lesson.visit("#im2col/4/4/1/2/2/0")  # task 11
    four = ["1", "0", "1", "0", "2", "1", "3", "2", "1", "2", "0", "4", "2", "2", "3", "0"]
    for place, value in enumerate(four):
        cell = f"image x, row {place // 4}, column {place % 4}"
        browser.write(f"#im2col-result input[aria-label='{cell}']", value)
    cells = "[...document.querySelectorAll('#im2col-pooling table:nth-child(K) tbody td')]"
    cells += ".map((td) => td.textContent).join('')"
    assert browser.evaluate(cells.replace("K", "2")) == "2324"
    assert browser.evaluate(cells.replace("K", "3")) == "0000101001010000"

    lesson.visit("#backward?label=3")  # task 12
    for rate, p3, answers in (
        (0.01, "99.87 %", "0123456339"),
        (1, "100.00 %", "3333333333"),
    ):
        browser.write("#descent input", str(rate))
        browser.click("#descent button", label="Take one step")
        lesson.reads("#descent summary", f"p(3) 0.46 % → {p3}", answer=False)
        browser.click("#views a:nth-child(1)")
        found = ""
        for digit in range(10):
            browser.click(f"#examples button:nth-child({digit + 1})")
            found += browser.text("#answer b")
        assert found == answers
        assert f"[{' '.join(answers)}]" in lesson.text
        browser.click("#views a:nth-child(3)")
        browser.click("#descent button", label="Go back")  # with the weights comes the 8
    browser.click("#views a:nth-child(1)")
    lesson.reads("#answer", "8 with a probability of 99.01 %", answer=False)


def test_the_tour_asks_before_it_answers(lesson, browser):
    lesson.visit("#tour/1")
    texts = set()
    for step in range(1, 13):
        assert browser.text("#tour b") == f"Step {step} of 12."
        assert not browser.evaluate("document.getElementById('tour-answer').open")
        browser.click("#tour-answer summary")
        assert browser.evaluate("document.getElementById('tour-answer').open")
        texts.add(browser.text("#tour"))
        if step < 12:
            browser.evaluate("document.getElementById('tour-next').focus()")
            browser.press("Enter")
            browser.run("await new Promise((resolve) => setTimeout(resolve, 60))")
            assert browser.evaluate("location.hash") == f"#tour/{step + 1}"
    assert len(texts) == 12
    browser.click("#tour-end")
    assert browser.text("#tour") == ""


# --- By touch, and with the keyboard alone -------------------------------------------------------


def tap(browser, selector, across=0.5, down=0.5, label=None):
    x, y = browser.place(selector, across, down, label)
    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.run("await new Promise((resolve) => setTimeout(resolve, 350))")


def test_the_lesson_by_touch(browser, lenet5_page):
    browser.window(390, 844, phone=True)
    browser.open(lenet5_page)
    tap(browser, "#examples button:nth-child(4)")
    assert browser.text("#answer b") == "3"
    tap(browser, "#live .column:nth-of-type(2) [role=grid]", 0.5, 0.5)
    assert browser.evaluate("location.hash").startswith("#forward/C1/0/")
    tap(browser, "#unfold")
    assert browser.evaluate("location.hash").endswith("/matrix?digit=3")
    tap(browser, "#views a:nth-child(3)")
    browser.choose("#loss select", "5")
    tap(browser, "#descent button", label="Take one step")
    assert "Steps taken: 1" in browser.text("#descent summary")
    tap(browser, "#views a:nth-child(5)")
    browser.place("#train-status")
    tap(browser, "#train-step")
    browser.run(
        "while (!document.getElementById('train-status').textContent.includes('Step 1,'))"
        " await new Promise((resolve) => setTimeout(resolve, 50));"
    )
    stays = "getComputedStyle(document.querySelector('.stay')).position"
    assert browser.evaluate(stays) == "sticky"  # field and answer stay in view
    assert browser.problems() == []


REACHED = {
    "#draw": ["pad", "clear", "language"],
    "#forward/C1/3/8/14": ["slide", "unfold"],
    "#train": ["train-kind", "train-play", "train-step"],
}


@pytest.mark.parametrize("address", REACHED)
def test_everything_is_reached_with_the_keyboard(browser, lenet5_page, address):
    """Tab visits every button, field, link and grid that is shown, one after the other."""
    browser.window(1366, 768)
    browser.open(lenet5_page, address)
    if address == "#train":
        browser.place("#train-status")
    wanted = """
    const folded = (e) => e.closest("details:not([open]) > :not(summary)");
    const shown = (e) => e.getClientRects().length && !folded(e);
    window.wanted = [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")]
      .filter((e) => shown(e) && !e.disabled && e.tabIndex >= 0);
    window.visited = new Set();
    document.addEventListener("focusin", (event) => window.visited.add(event.target));
    return window.wanted.length;
    """
    for _ in range(browser.run(wanted) + 5):
        browser.press("Tab")
    missed = "wanted.filter((e) => e.isConnected && !visited.has(e)).map((e) => e.outerHTML)"
    assert browser.evaluate(missed) == []
    for name in REACHED[address]:
        assert browser.evaluate(f"visited.has(document.getElementById('{name}'))"), name
