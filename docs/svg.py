"""Small figures as SVG: tables of numbers, matrices as rectangles, arrows and text.

A figure has its own light background, so that it can be read on a light page and on a dark one. The
same numbers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

INK, SOFT, RULE, MARK = "#1c1e21", "#5b6168", "#b6bcc4", "#d1004f"
ZERO, NEGATIVE, POSITIVE = (247, 247, 247), (245, 150, 40), (45, 105, 185)
CELL = 28
FONT = "font-family='Helvetica, Arial, sans-serif'"


def colour(value: float, scale: float) -> str:
    """From orange (negative) through white to blue (positive)."""
    part = min(abs(value) / scale, 1.0) if scale else 0.0
    end = NEGATIVE if value < 0 else POSITIVE
    mixed = (round(zero + part * 0.85 * (e - zero)) for zero, e in zip(ZERO, end, strict=True))
    return "#" + "".join(f"{v:02x}" for v in mixed)


def number(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
    return text.replace("-", "−")


@dataclass
class Figure:
    """An SVG image of a size in pixels; x and y are the upper left corner of what is drawn."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 13,
        anchor: str = "start",
        bold: bool = False,
        fill: str = INK,
    ) -> None:
        """Text on the base line y."""
        weight = " font-weight='bold'" if bold else ""
        self.parts.append(
            f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}' "
            f"fill='{fill}'{weight}>{escape(text)}</text>"
        )

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        stroke: str = RULE,
        thick: float = 1,
        dashed: bool = False,
    ) -> None:
        dash = " stroke-dasharray='4 3'" if dashed else ""
        self.parts.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' fill='{fill}' "
            f"stroke='{stroke}' stroke-width='{thick:g}'{dash}/>"
        )

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, stroke: str = SOFT, thick: float = 1.5
    ) -> None:
        self.parts.append(
            f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='{stroke}' "
            f"stroke-width='{thick:g}'/>"
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float, stroke: str = SOFT) -> None:
        """A line with a head at its end."""
        way = np.array([x2 - x1, y2 - y1])
        way = way / np.hypot(*way)
        across = np.array([-way[1], way[0]])
        end = np.array([x2, y2])
        corners = (end, end - 8 * way + 4 * across, end - 8 * way - 4 * across)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self.line(x1, y1, *(end - 6 * way), stroke=stroke)
        self.parts.append(f"<polygon points='{points}' fill='{stroke}'/>")

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        self.parts.append(
            f"<circle cx='{x:g}' cy='{y:g}' r='{radius:g}' fill='{fill}' stroke='{SOFT}'/>"
        )

    def table(
        self,
        x: float,
        y: float,
        values: np.ndarray,
        *,
        caption: str = "",
        scale: float | None = None,
        marked: Collection[tuple[int, int]] = (),
        blank: Collection[tuple[int, int]] = (),
        cell: int = CELL,
    ) -> tuple[float, float]:
        """Numbers in coloured cells; return the lower right corner."""
        rows, columns = values.shape
        scale = float(np.abs(values).max()) if scale is None else scale
        if caption:
            self.text(x, y - 6, caption, size=12, fill=SOFT)
        for (i, j), value in np.ndenumerate(values):
            left, top = x + j * cell, y + i * cell
            if (i, j) in blank:
                self.rectangle(left, top, cell, cell, fill="#e4e6ea")
                continue
            self.rectangle(left, top, cell, cell, fill=colour(float(value), scale))
            self.text(left + cell / 2, top + cell / 2 + 5, number(float(value)), anchor="middle")
        for i, j in marked:
            left, top = x + j * cell + 1, y + i * cell + 1
            self.rectangle(left, top, cell - 2, cell - 2, stroke=MARK, thick=2.5)
        return x + columns * cell, y + rows * cell

    def matrix(
        self, x: float, y: float, width: float, height: float, name: str, shape: str
    ) -> None:
        """A matrix as a rectangle with its name and shape."""
        self.rectangle(x, y, width, height, fill="#dfe8f4", stroke=SOFT)
        middle = x + width / 2
        self.text(middle, y + height / 2 + 5, name, anchor="middle", bold=True)
        self.text(middle, y + height + 15, shape, anchor="middle", size=11, fill=SOFT)

    def svg(self) -> str:
        return "\n".join(
            [
                f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' "
                f"width='{self.width}' height='{self.height}' {FONT} role='img'>",
                f"<title>{escape(self.title)}</title>",
                f"<rect width='{self.width}' height='{self.height}' rx='8' fill='#fbfbfa'/>",
                *self.parts,
                "</svg>\n",
            ]
        )

    def write(self, path: Path) -> None:
        path.write_text(self.svg(), encoding="utf-8")
