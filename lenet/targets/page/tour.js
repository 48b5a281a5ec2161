// The tour: twelve steps from a drawing to a finished training, each an address #tour/1 … #tour/12,
// with a question before its answer. Their texts are in texts.js.
"use strict";

const TOUR = [
  "draw?digit=7",
  "forward/C1/3/8/14?digit=8",
  "forward/C1/3/8/14/matrix?digit=8",
  "forward/C1.activation/3/8/14?digit=8",
  "forward/S2/2/4/7?digit=8",
  "forward/C3/2/4/5?digit=8",
  "forward/F7/8?digit=8",
  "backward?digit=8&label=3",
  "backward/F7/3?digit=8&label=3",
  "backward/C3/12/0/1?digit=8&label=3",
  "im2col/3/3/1/2/1/0",
  "train",
];

function tourFigure(state) {
  const { tour } = state;
  if (!tour) return [];
  const to = (n) => () => (location.hash = `#tour/${n}`);
  return [
    el(
      "div",
      { class: "tour", role: "region", "aria-label": t("tour") },
      el("p", {}, el("b", {}, t("tourStep", tour, TOUR.length)), " ", t(`tour${tour}`)),
      el("p", {}, el("b", {}, t("question")), " ", t(`tour${tour}q`)),
      el(
        "details",
        { kind: `answer ${tour}`, id: "tour-answer" },
        el("summary", {}, t("answer")),
        el("p", { role: "status" }, t(`tour${tour}a`)),
      ),
      el(
        "div",
        { class: "fields" },
        button(`◀ ${t("back")}`, to(tour - 1), { disabled: tour === 1 }),
        button(`${t("next")} ▶`, to(tour + 1), { disabled: tour === TOUR.length, id: "tour-next" }),
        button(t("endTour"), () => (location.hash = `#${TOUR[tour - 1].split("?")[0]}`), { id: "tour-end" }),
      ),
    ),
  ];
}
