// What the Induction Lab draws: tokens with arcs, heads, predictions, the training curve. No state of its own.
import { headName } from "./model.js";

const SVG = new Set(["svg", "path", "line", "circle"]);

/** A node with attributes, listeners (`onclick`) and children; attributes that are false or null are left out. */
export const make = (tag, properties = {}, ...children) => {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
};

export const percent = (p) =>
  p >= 0.995 ? "100%" : p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : `${(100 * p).toFixed(1)}%`;
export const nats = (loss) => `${loss.toFixed(2)} nats`;
const TALLEST = 10; // nats: the loss of a bar of full height

/** Tokens as chips in wrapping rows, the attention of one of them as colour and arcs, and their losses as bars. */
export class TokenRow {
  constructor(choose) {
    this.choose = choose;
    this.arcs = make("svg", { class: "lab-arcs", "aria-hidden": "true" });
    this.list = make("div", {
      class: "lab-chips",
      role: "listbox",
      "aria-label": "Tokens. The arrow keys choose the one that attends.",
      onkeydown: (event) => this.key(event),
      onpointerleave: () => this.peek(null),
    });
    this.node = make("div", { class: "lab-tokens" }, this.arcs, this.list);
    new ResizeObserver(() => this.draw()).observe(this.list);
  }

  build(labels, repeated) {
    this.peeked = null;
    this.chips = labels.map((label, i) =>
      make(
        "div",
        {
          class: `lab-chip${repeated[i] ? " lab-repeat" : ""}`,
          role: "option",
          tabindex: "-1",
          "aria-selected": "false",
          onclick: () => this.choose(i),
          onpointerenter: (event) => event.pointerType === "mouse" && this.peek(i),
        },
        make("span", { class: "lab-word" }, label),
        make("span", { class: "lab-bar", "aria-hidden": "true" }, make("i"), make("b")),
      ),
    );
    this.labels = labels;
    this.list.replaceChildren(...this.chips);
  }

  /** `before` are the losses with all heads on, where some are off. */
  paint({ pattern, at, losses, before, layer }) {
    Object.assign(this, { pattern, at });
    this.node.dataset.layer = Math.min(layer, 1);
    this.chips.forEach((chip, i) => {
      const height = (loss) => `${Math.min(1, loss / TALLEST) * 100}%`;
      const [bar, mark] = chip.lastChild.children;
      bar.style.height = i ? height(losses[i]) : 0;
      mark.hidden = !before || !i;
      if (before && i) mark.style.top = height(before[i]);
      const known = chip.classList.contains("lab-repeat") ? ", the pair stood before" : "";
      const loss = i ? `, loss ${nats(losses[i])}${before ? `, with all heads ${nats(before[i])}` : ""}${known}` : "";
      chip.setAttribute("aria-label", `${this.labels[i]}, token ${i}${loss}`);
      chip.title = i ? `token ${i}${loss}` : "every sequence begins with this token";
      chip.setAttribute("aria-selected", String(i === at));
      chip.tabIndex = i === at ? 0 : -1;
    });
    this.draw();
  }

  peek(i) {
    this.peeked = i;
    this.draw();
  }

  /** Colour and arcs of the token under the pointer, or of the chosen one. */
  draw() {
    if (!this.pattern || this.pattern.length !== this.chips.length ** 2) return;
    const n = this.chips.length;
    const from = this.peeked ?? this.at;
    const weight = (j) => (j <= from ? this.pattern[from * n + j] : 0);
    this.chips.forEach((chip, j) => {
      chip.style.setProperty("--attention", weight(j).toFixed(3));
      chip.classList.toggle("lab-from", j === from);
    });
    const strong = [...this.chips.keys()].filter((j) => j < from && weight(j) > 0.06);
    const most = strong.sort((a, b) => weight(b) - weight(a)).slice(0, 8);
    this.arcs.replaceChildren(...most.map((j) => this.arc(from, j, weight(j))));
  }

  arc(from, to, weight) {
    const place = ({ offsetLeft, offsetTop, offsetWidth }) => [offsetLeft + offsetWidth / 2, offsetTop];
    const [x, y] = place(this.chips[from]);
    const [u, v] = place(this.chips[to]);
    const lift = y === v ? Math.min(26, 10 + Math.abs(x - u) / 12) : 24;
    const d = `M ${x} ${y} C ${x} ${y - lift}, ${u} ${v - lift}, ${u} ${v}`;
    return make("path", {
      d,
      "stroke-width": (0.75 + 3 * weight).toFixed(2),
      opacity: (0.35 + 0.65 * weight).toFixed(2),
    });
  }

  key(event) {
    const last = this.chips.length - 1;
    const goals = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: last };
    const goal = event.key in goals ? goals[event.key] : this.beside({ ArrowUp: -1, ArrowDown: 1 }[event.key]);
    if (goal === null) return;
    event.preventDefault();
    this.peeked = null; // the pointer rests somewhere, and the keys move on
    this.choose(Math.max(0, Math.min(last, goal)));
    this.chips[this.at].focus();
  }

  /** The chip above or below the chosen one; null for another key. */
  beside(direction) {
    if (!direction) return null;
    const here = this.chips[this.at];
    const rows = [...new Set(this.chips.map((chip) => chip.offsetTop))];
    const row = rows[rows.indexOf(here.offsetTop) + direction];
    const far = (i) => Math.abs(this.chips[i].offsetLeft - here.offsetLeft);
    const there = [...this.chips.keys()].filter((i) => this.chips[i].offsetTop === row);
    return there.length ? there.reduce((best, i) => (far(i) < far(best) ? i : best)) : this.at;
  }
}

/** Heads as a grid, one row a layer: a button that shows the head and, beside it, a switch. */
export const headGrid = (config, choose, toggle) => {
  const cells = new Map();
  const rows = [...Array(config.n_layers).keys()].map((layer) => {
    const row = [...Array(config.n_heads).keys()].map((head) => {
      const name = headName(layer, head);
      const score = make("span", { class: "lab-score" });
      const said = (text) => make("span", { class: "lab-said" }, text); // for screen readers only
      const words = [said("Show head "), name, said(", prefix matching "), score];
      const pick = make("button", { type: "button", class: "lab-pick", onclick: () => choose(layer, head) }, ...words);
      const change = { type: "button", role: "switch", class: "lab-switch", "aria-label": `Head ${name} on` };
      const power = make("button", { ...change, onclick: () => toggle(name) });
      cells.set(name, { pick, power, score });
      return make("div", { class: "lab-head", "data-head": name, "data-layer": Math.min(layer, 1) }, pick, power);
    });
    return make("div", { class: "lab-layer" }, make("span", { class: "lab-small" }, `layer ${layer}`), ...row);
  });
  const paint = ({ prefix, chosen, off }) => {
    for (const [name, { pick, power, score }] of cells) {
      const value = prefix.get(name);
      score.textContent = Number.isNaN(value) ? "–" : value.toFixed(2);
      pick.style.setProperty("--score", Number.isNaN(value) ? 0 : value.toFixed(3));
      pick.setAttribute("aria-pressed", String(name === chosen));
      power.setAttribute("aria-checked", String(!off.has(name)));
      power.title = off.has(name) ? `switch head ${name} on again` : `switch head ${name} off`;
    }
  };
  return {
    node: make("div", { class: "lab-grid", role: "group", "aria-label": "Attention heads" }, ...rows),
    paint,
    names: new Set(cells.keys()),
  };
};

/** What the model expects after one token, as bars; a thin line shows the probability with all heads on. */
export const predictionRows = (result, clean, i, truth, label) => {
  const rows = result.top(i).map((each) => ({ ...each }));
  if (truth !== undefined && !rows.some(({ id }) => id === truth))
    rows.push({ id: truth, p: result.probability(i, truth) });
  return rows.map(({ id, p }) => {
    const before = clean === result ? null : clean.probability(i, id);
    const bar = make(
      "span",
      { class: "lab-track", "aria-hidden": "true" },
      make("i"),
      before === null ? null : make("b"),
    );
    bar.firstChild.style.width = `${100 * p}%`;
    if (before !== null) bar.lastChild.style.left = `${100 * before}%`;
    const was = before === null ? "" : ` (was ${percent(before)})`;
    const next = id === truth ? make("span", { class: "lab-next" }, "comes next") : null;
    const word = make("span", { class: "lab-guess" }, make("code", {}, label(id)), next);
    return make(
      "li",
      { class: id === truth ? "lab-true" : "" },
      word,
      bar,
      make("span", { class: "lab-p" }, percent(p) + was),
    );
  });
};

/** The curve under the slider, over training: loss of repeats up to the `highest`, best prefix matching up to 1. */
export const curve = (records, frames) => {
  const [width, height] = [600, 70];
  const last = frames[frames.length - 1].step;
  const highest = Math.max(...records.map(({ repeat_loss: loss }) => loss));
  const x = (step) => ((step / last) * width).toFixed(1);
  const line = (share, name) => {
    const points = records.map((record) => `${x(record.step)} ${((1 - share(record)) * (height - 4) + 2).toFixed(1)}`);
    return make("path", { class: name, d: `M ${points.join(" L ")}` });
  };
  const marks = frames.map(({ step }) =>
    make("line", { class: "lab-frame", x1: x(step), x2: x(step), y1: 0, y2: height }),
  );
  const lines = [line((r) => r.repeat_loss / highest, "lab-loss-line"), line((r) => r.prefix, "lab-score-line")];
  const picture = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return { node: make("svg", picture, ...marks, ...lines), marks, highest };
};
