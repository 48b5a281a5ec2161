// The view "Train": a network with random weights learns the built-in digits, in a Web Worker, so
// that the page stays smooth.
"use strict";

const FAULTS = ["summed", "overwrite", "unmasked"]; // see trainerOf

/** render; take(network) is called to use the trained network in the other views. */
function trainView(state, take) {
  const given = { kind: "lenet5", rate: 0.05, momentum: 0.9, batch: 32, seed: 1, playing: false, faults: {} };
  let worker = null,
    digits = null,
    test = null,
    problem = "",
    latest = null,
    lines = [],
    started = false;

  /** Unpack the digits, and start the worker: this script, which serves where there is no document. */
  async function begin() {
    started = true;
    try {
      const all = await unpackDigits(state.network.digits);
      digits = all.slice(0, state.network.digits.training);
      test = all.slice(state.network.digits.training);
    } catch {
      problem = "noUnpacking";
      return render();
    }
    try {
      const code = document.querySelector("script:not([type])").textContent;
      worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
      worker.onerror = () => {
        problem = "noWorker";
        render();
      };
      worker.onmessage = ({ data }) => receive(data);
    } catch {
      problem = "noWorker";
      return render();
    }
    restart();
  }

  function options() {
    const { rate, momentum, batch, faults } = given;
    return { rate, momentum, batch, faults: { ...faults } };
  }

  function restart() {
    lines = [];
    given.playing = false;
    worker?.postMessage({
      start: { kind: given.kind, seed: given.seed, training: digits, test, options: options() },
      play: false,
    });
    render();
  }

  function receive(message) {
    const fresh = newNetwork(given.kind, given.seed);
    latest = message;
    latest.network = {
      ...fresh,
      layers: fresh.layers.map((layer, l) => ({ ...layer, ...message.layers[l] })),
    };
    lines.push([message.images, message.E, message.test.E, message.accuracy, message.test.accuracy]);
    if (given.playing && !(message.E < 1e6) && message.E !== null) play(false); // it has diverged
    render();
  }

  function play(on) {
    given.playing = on;
    worker?.postMessage({ play: on });
    render();
  }

  function set(name, value) {
    given[name] = value;
    worker?.postMessage({ options: options() });
    render();
  }

  function controls() {
    const field = (label, name, max, step) =>
      el(
        "label",
        {},
        `${label} `,
        el("input", {
          type: "number",
          min: 0,
          max,
          step,
          value: given[name],
          oninput: (event) => {
            const value = Number(event.target.value);
            if (value >= 0 && value <= max && (name !== "batch" || value >= 1))
              set(name, name === "batch" ? Math.round(value) : value);
          },
        }),
      );
    return [
      el(
        "div",
        { class: "fields" },
        choice(
          t("network"),
          given.kind,
          [
            ["lenet5", "LeNet-5"],
            ["small", t("smallNetwork")],
          ],
          (kind) => {
            given.kind = kind;
            restart();
          },
          { id: "train-kind" },
        ),
        button(t(given.playing ? "pause" : "play"), () => play(!given.playing), {
          id: "train-play",
          class: "main",
        }),
        button(t("oneStep"), () => worker?.postMessage({ step: true }), {
          id: "train-step",
          disabled: given.playing,
        }),
        button(t("fromStart"), () => {
          given.seed += 1;
          restart();
        }),
        field(`${t("rate")} η`, "rate", 10, "any"),
        field(`${t("momentum")} μ`, "momentum", 0.999, "any"),
        field(t("batch"), "batch", 1000, 1),
      ),
      el(
        "fieldset",
        { class: "fields" },
        el("legend", {}, t("breakIt")),
        ...FAULTS.map((name) =>
          checkbox(t(`fault_${name}`), !!given.faults[name], (on) =>
            set("faults", { ...given.faults, [name]: on }),
          ),
        ),
        button(t("rateTooHigh"), () => set("rate", 1)),
        button(t("soundAgain"), () => {
          given.faults = {};
          set("rate", 0.05);
        }),
      ),
    ];
  }

  function figures() {
    if (!latest) return el("p", { role: "status" }, t("preparing"));
    const { network, steps, images, E, accuracy, test: tested, speed } = latest;
    const last = lines.at(-1)?.[0] ?? 1,
      line = (k) => lines.map((row) => [row[0], row[k]]).filter(([, y]) => y !== null);
    const texts = t(
      "trainStatus",
      steps,
      images,
      E === null ? "–" : number(E, 3),
      accuracy === null ? "–" : percent(accuracy),
      number(tested.E, 3),
      percent(tested.accuracy),
      speed ? Math.round(speed) : "–",
    );
    const image = { ...state, network, x: inputOf(network, test[0].levels), empty: false, hover: null };
    image.passes = forward(network, image.x);
    image.loss = crossEntropy(image.passes.at(-1).y, test[0].label);
    image.unit = { l: 0, f: 0, i: 10, j: 10 };
    const finite = image.loss.p.every(Number.isFinite);
    image.path = finite
      ? pathThrough(image, image.unit)
      : [-1, ...network.layers.keys()].map((l) => ({ l, f: 0, i: 0, j: 0 }));
    const C1 = network.layers[0],
      area = 25;
    return [
      el(
        "p",
        { id: "train-status", role: "status", class: "formula" },
        texts,
        !finite || !Number.isFinite(E ?? 0) ? el("b", {}, ` ${t("diverged")}`) : null,
      ),
      el(
        "div",
        { class: "row top" },
        curves(
          t("loss"),
          [
            { values: line(1), name: "training" },
            { values: line(2), name: "test" },
          ],
          last,
          2.5,
          t("curveNote"),
        ),
        curves(
          t("accuracy"),
          [
            { values: line(3), name: "training" },
            { values: line(4), name: "test" },
          ],
          last,
          1,
          t("curveNote"),
        ),
        el(
          "figure",
          {},
          el("figcaption", {}, t("filtersOf", C1.name)),
          el(
            "div",
            { class: "row" },
            ...Array.from({ length: C1.output[0] }, (_, f) =>
              mapFigure(C1.W.subarray(f * area, (f + 1) * area), 5, 5, {
                scale: rounded(largest(C1.W)),
                width: 44,
                height: 44,
                label: `${t("filtersOf", C1.name)} ${f}`,
              }),
            ),
          ),
        ),
        el(
          "figure",
          { class: "wrong" },
          el("figcaption", {}, t("wrongDigits", tested.wrong.length, test.length)),
          el(
            "div",
            { class: "row" },
            ...tested.wrong
              .slice(0, 12)
              .map(([n, k]) =>
                el(
                  "span",
                  {},
                  greyFigure(test[n].levels, 2.2),
                  el("span", { class: "note" }, t("takenFor", test[n].label, k)),
                ),
              ),
          ),
        ),
      ),
      el(
        "p",
        { class: "fields" },
        t("trainExample", test[0].label),
        button(t("useNetwork"), () => take(network), { disabled: !finite }),
      ),
      diagramFigure(image, {
        height: 205,
        values: (l) => (l < 0 ? image.x : image.passes[l].y),
        scaleOf: (l) => rounded(largest(l < 0 ? image.x : image.passes[l].y)),
        choose: () => {},
        label: t("valueOf"),
      }),
    ];
  }

  function render() {
    if (state.view !== "train") return;
    if (!started) begin();
    show(
      document.getElementById("train-result"),
      el("p", { class: "lead" }, t("trainLead")),
      problem ? el("p", { role: "alert" }, t(problem)) : [controls(), figures()],
    );
  }

  return render;
}
