// The Induction Lab: an attention-only model that runs in the reader's browser, with its heads laid open.
// This file holds the controls. course_lib/lab_manifest.py joins it with the modules it imports to one ES module without
// a framework, which tools/lab_assets.py puts on pages of the book, and course_lib/lab.py into notebooks.

import { Model, fromBase64, headName, mean, prefixMatching, readWeights } from "./model.js";
import { repeatedPairs, resultOf, resultOfPreview } from "./model.js";
import { Numbers, Tokenizer } from "./tokenizer.js";
import { TokenRow, curve, headGrid, make, nats, percent, predictionRows } from "./drawing.js";

const ALL = ["examples", "text", "heads", "ablation", "prediction", "losses", "film"];
// What each size of the lab shows besides the tokens; "address" keeps the state in the address of the page.
const PANELS = {
  lab: [...ALL, "address"],
  notebook: ALL,
  opening: ["text", "heads", "prediction"],
  first: ["losses", "shuffle"],
  circuit: ["heads", "losses", "shuffle"],
  film: ["heads", "losses", "shuffle", "film"],
};
const START = 0; // the token that opens every sequence
const PAUSE = 1100; // ms a frame, when the film plays
const WAIT = 200; // ms after the last key, before typed text is read

/** The lab in one element. `source`: { manifest, frame(key) -> Promise<ArrayBuffer> }; the manifest is made by
 *  course_lib/lab_manifest.py. */
export class Lab {
  constructor(root, source, preset) {
    const { manifest } = source;
    Object.assign(this, { root, source, manifest, config: manifest.config });
    this.panels = new Set(PANELS[preset]);
    if (manifest.frames.length === 1) this.panels.delete("film");
    this.tokenizer = manifest.tokenizer ? new Tokenizer(manifest.tokenizer) : new Numbers(this.config.d_vocab);
    this.models = new Map();
    this.off = new Set();
    this.kind = "zero";
    this.frame = manifest.frames.length - 1;
    this.head = manifest.head;
    this.turn = 0;
    this.assemble();
    if (this.panels.has("address")) addEventListener("hashchange", () => this.stored() && this.restore(this.stored()));
    if (!this.stored() || !this.restore(this.stored())) this.example(manifest.presets[preset]);
  }

  has(panel, build) {
    return this.panels.has(panel) ? build() : null;
  }

  assemble() {
    this.row = new TokenRow((at) => this.select(at));
    this.grid = headGrid(
      this.config,
      (l, h) => this.show(l, h),
      (name) => this.toggle(name),
    );
    this.say = make("p", { class: "lab-say", "aria-live": "polite" });
    const parts = [
      make(
        "div",
        { class: "lab-source" },
        this.has("examples", () => this.exampleButtons()),
        this.has("text", () => this.textField()),
      ),
      this.row.node,
      make(
        "p",
        { class: "lab-small" },
        "Colour and arcs: where the outlined token looks. Bars: loss, ",
        make("span", { class: "lab-green" }, "green"),
        " where the same pair stood before.",
      ),
      this.say,
      make(
        "div",
        { class: "lab-columns" },
        this.has("heads", () => this.headPanel()),
        make(
          "div",
          {},
          this.has("prediction", () => this.predictionPanel()),
          this.has("losses", () => this.lossPanel()),
        ),
      ),
      this.has("film", () => this.filmPanel()),
    ];
    this.root.classList.add("lab-ready");
    this.root.replaceChildren(...parts.filter(Boolean));
  }

  exampleButtons() {
    const pick = (name) => () => this.example(name);
    this.picks = Object.entries(this.manifest.examples).map(([name, { title }]) =>
      make("button", { type: "button", class: "lab-button", "data-example": name, onclick: pick(name) }, title),
    );
    return make(
      "div",
      { class: "lab-line", role: "group", "aria-label": "Examples" },
      ...this.picks,
      this.shuffleButton(),
    );
  }

  shuffleButton() {
    return make(
      "button",
      { type: "button", class: "lab-button lab-shuffle", onclick: () => this.shuffle() },
      "Shuffle",
    );
  }

  textField() {
    this.field = make("textarea", { rows: "2", maxlength: "600", spellcheck: "false", oninput: () => this.typed() });
    this.cut = make("span", { class: "lab-small", role: "status" });
    const hint = this.manifest.tokenizer ? "Your text" : "Token numbers";
    return make("label", { class: "lab-text" }, make("span", { class: "lab-small" }, hint), this.field, this.cut);
  }

  headPanel() {
    const kinds = { zero: "zero", preserving: "pattern-preserving" };
    const choice = (kind) => {
      const change = () => this.ablate(kind);
      const input = make("input", { type: "radio", name: `lab-kind-${Lab.count}`, value: kind, onchange: change });
      input.checked = kind === this.kind;
      return make("label", {}, input, kinds[kind]);
    };
    Lab.count += 1;
    this.allOn = make("button", { type: "button", class: "lab-button", onclick: () => this.restoreHeads() }, "All on");
    const tools = this.has("ablation", () => {
      const kind = make("span", { class: "lab-kinds", role: "radiogroup", "aria-label": "How heads are switched off" });
      kind.append("Ablation:", choice("zero"), choice("preserving"));
      return make("div", { class: "lab-line" }, kind);
    });
    const what = make("span", { class: "lab-small" }, "prefix matching here, and a switch");
    const title = make("div", { class: "lab-title" }, "Heads", what, this.panels.has("ablation") ? this.allOn : null);
    return make("div", {}, title, this.grid.node, tools);
  }

  predictionPanel() {
    this.guess = make("p", { class: "lab-title" });
    this.guesses = make("ol", { class: "lab-guesses" });
    return make("div", {}, this.guess, this.guesses);
  }

  lossPanel() {
    this.totals = make("div", { class: "lab-totals" });
    return make(
      "div",
      { class: "lab-line" },
      this.totals,
      this.has("shuffle", () => this.shuffleButton()),
    );
  }

  filmPanel() {
    const { frames, records } = this.manifest;
    const [first, last] = [frames[0].step, frames[frames.length - 1].step];
    this.slider = make("input", {
      type: "range",
      min: first,
      max: last,
      "aria-label": "Training steps",
      oninput: () => this.seek(this.nearest(Number(this.slider.value))),
      onkeydown: (event) => this.slide(event),
    });
    this.player = make("button", { type: "button", class: "lab-button lab-play", onclick: () => this.play() }, "Play");
    const one = (by, sign, name) =>
      make(
        "button",
        { type: "button", class: "lab-button", "aria-label": name, onclick: () => this.seek(this.frame + by) },
        sign,
      );
    const steps = [one(-1, "‹", "Earlier in training"), one(1, "›", "Later in training")];
    this.when = make("span", { class: "lab-small" });
    this.curve = records ? curve(records, frames) : null;
    const key = (name, text) => make("span", { class: `lab-key ${name}` }, text);
    const legend =
      records &&
      make(
        "p",
        { class: "lab-small" },
        key("lab-loss-line", `loss of repeated random tokens, 0 to ${nats(this.curve.highest)}`),
        key("lab-score-line", "best prefix matching, 0 to 1"),
      );
    const track = make("div", { class: "lab-film-track" }, this.curve?.node ?? null, this.slider);
    return make(
      "div",
      { class: "lab-film" },
      make("div", { class: "lab-line" }, this.player, ...steps, this.when),
      track,
      legend,
    );
  }

  // What the reader does. Each changes the state and asks for a new run, or only for a new drawing.

  example(name) {
    const { ids, text, at } = this.manifest.examples[name];
    this.read(ids ?? this.encode(text), { text: text ?? null, at, preview: this.manifest.previews?.[name] });
  }

  typed() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.read(this.encode(this.field.value), { text: this.field.value }), WAIT);
  }

  encode(text) {
    return [START, ...this.tokenizer.encode(text)];
  }

  shuffle() {
    if (this.text !== null) {
      const text = shuffled(this.text.split(/\s+/).filter(Boolean)).join(" ");
      return this.read(this.encode(text), { text });
    }
    const pool = this.manifest.readable ?? [...Array(this.config.d_vocab - 1).keys()].map((id) => id + 1);
    const some = shuffled(pool).slice(0, (this.ids.length - 1) >> 1);
    return this.read([START, ...some, ...some], { at: this.at });
  }

  /** Take over a sequence; a preview of it stands in for the model until something is changed. */
  read(ids, { text = null, at = null, preview = null }) {
    clearTimeout(this.waiting); // what is being typed is no longer wanted
    this.ids = ids.slice(0, this.config.n_ctx);
    this.text = text;
    this.at = Math.min(at ?? Infinity, this.ids.length - 1);
    this.repeated = repeatedPairs(this.ids);
    const label = (id) => (id === START ? "start" : this.tokenizer.label(id));
    this.row.build(this.ids.map(label), this.repeated);
    this.row.chips[0].classList.add("lab-start");
    if (this.field && this.field.value !== text) this.field.value = text ?? "";
    const cut =
      ids.length > this.ids.length ? `The model reads ${this.config.n_ctx} tokens; the rest is left out.` : "";
    if (this.cut) this.cut.textContent = cut;
    const untouched = preview && !this.off.size && this.frame === this.manifest.frames.length - 1;
    if (!untouched) return this.compute();
    this.turn += 1;
    this.clean = this.result = resultOfPreview(preview, this.ids, this.config);
    return this.paint();
  }

  select(at) {
    this.at = at;
    this.paint();
  }

  show(layer, head) {
    this.head = [layer, head];
    this.paint();
  }

  toggle(name) {
    if (!this.off.delete(name)) this.off.add(name);
    return this.compute();
  }

  ablate(kind) {
    this.kind = kind;
    return this.compute();
  }

  restoreHeads() {
    this.off.clear();
    return this.compute();
  }

  seek(frame) {
    this.frame = Math.max(0, Math.min(this.manifest.frames.length - 1, frame));
    this.paintFilm();
    return this.compute();
  }

  /** The frame whose step is nearest: weights were kept at some steps only. */
  nearest(step) {
    const far = this.manifest.frames.map((frame) => Math.abs(frame.step - step));
    return far.indexOf(Math.min(...far));
  }

  /** Arrow keys go from frame to frame, not from step to step. */
  slide(event) {
    const by = {
      ArrowLeft: -1,
      ArrowDown: -1,
      PageDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageUp: 1,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in by)) return;
    event.preventDefault();
    this.seek(this.frame + by[event.key]);
  }

  play() {
    if (this.playing) return this.stop();
    this.player.textContent = "Pause";
    const last = this.manifest.frames.length - 1;
    if (this.frame === last) this.seek(0);
    this.playing = setInterval(() => (this.frame < last ? this.seek(this.frame + 1) : this.stop()), PAUSE);
    return null;
  }

  stop() {
    clearInterval(this.playing);
    this.playing = null;
    this.player.textContent = "Play";
  }

  // What the model says.

  model(frame) {
    const { key } = this.manifest.frames[frame];
    if (!this.models.has(key)) {
      const read = (bytes) => new Model(this.config, readWeights(this.manifest.layout, bytes));
      this.models.set(key, this.source.frame(key).then(read));
    }
    return this.models.get(key);
  }

  async compute() {
    const turn = (this.turn += 1);
    this.root.setAttribute("aria-busy", "true");
    try {
      const model = await this.model(this.frame);
      if (turn !== this.turn) return;
      const clean = model.run(this.ids);
      this.clean = this.result = resultOf(clean, this.ids, this.config.d_vocab);
      if (this.off.size) {
        const ablated = model.run(this.ids, { off: this.off, frozen: this.kind === "zero" ? null : clean.patterns });
        this.result = resultOf(ablated, this.ids, this.config.d_vocab);
      }
      this.paint();
    } catch (error) {
      this.models.clear();
      this.say.textContent = `The weights could not be loaded (${error.message}). Reload the page to try again.`;
    }
    if (turn === this.turn) this.root.removeAttribute("aria-busy");
  }

  paint() {
    const { ids, result, clean, at } = this;
    const [layer, head] = this.head;
    const pattern = result.patterns[layer][head];
    const before = result === clean ? null : clean.losses;
    this.row.paint({ pattern, at, losses: result.losses, before, layer });
    const prefix = new Map();
    result.patterns.forEach((row, l) =>
      row.forEach((each, h) => prefix.set(headName(l, h), prefixMatching(each, ids))),
    );
    this.grid.paint({ prefix, chosen: headName(layer, head), off: this.off });
    if (this.allOn) this.allOn.disabled = !this.off.size;
    this.paintWords(pattern);
    this.totals?.replaceChildren(...this.groups().map(([name, now, was]) => total(name, now, was)));
    this.paintFilm();
    this.picks?.forEach((pick) => pick.setAttribute("aria-pressed", String(this.isExample(pick.dataset.example))));
    if (this.panels.has("address")) this.store();
  }

  isExample(name) {
    const { ids, text } = this.manifest.examples[name];
    return text ? text === this.text : ids.join() === this.ids.join();
  }

  /** One sentence that says what the drawing shows, and the prediction after the chosen token. */
  paintWords(pattern) {
    const { ids, at, tokenizer } = this;
    const n = ids.length;
    const label = (i) => (i ? `“${tokenizer.label(ids[i])}”` : "the start");
    const row = [...pattern.subarray(at * n, at * n + at + 1)];
    const most = row.indexOf(Math.max(...row));
    const where = most === at ? "at itself" : `at ${label(most)}${most ? `, token ${most}` : ""}`;
    const off = this.off.has(headName(...this.head)) ? " (switched off)" : "";
    const [best] = this.result.top(at);
    const bet = `The model expects “${tokenizer.label(best.id)}” next (${percent(best.p)}).`;
    const looks = `From ${label(at)}, token ${at}, head ${headName(...this.head)}${off} looks mostly ${where} (${percent(row[most])}).`;
    if (this.say.textContent !== `${looks} ${bet}`) this.say.textContent = `${looks} ${bet}`;
    if (!this.guesses) return;
    this.guess.textContent = `After ${label(at)} the model expects`;
    const name = (id) => (id === START ? "start" : tokenizer.label(id));
    this.guesses.replaceChildren(...predictionRows(this.result, this.clean, at, ids[at + 1], name));
  }

  /** Mean losses now and with all heads on: of tokens whose pair stood before, and of the others. */
  groups() {
    const part = (losses, repeated) => mean([...losses].filter((_, i) => i > 0 && this.repeated[i] === repeated));
    const was = (repeated) => (this.result === this.clean ? null : part(this.clean.losses, repeated));
    return [
      ["pairs that stood before", part(this.result.losses, true), was(true)],
      ["all other tokens", part(this.result.losses, false), was(false)],
    ];
  }

  paintFilm() {
    if (!this.slider) return;
    const { step, tokens } = this.manifest.frames[this.frame];
    this.slider.value = step;
    const seen = tokens === undefined ? "" : `, ${(tokens / 1e6).toFixed(1)} million tokens`;
    this.when.textContent = `after ${step} training steps${seen}`;
    const then = this.manifest.records?.find((record) => record.step === step);
    const told = then ? `, loss of repeats ${nats(then.repeat_loss)}, best prefix matching ${then.prefix.toFixed(2)}` : "";
    this.slider.setAttribute("aria-valuetext", this.when.textContent + told); // what the curve shows
    this.curve?.marks.forEach((mark, i) => mark.classList.toggle("lab-now", i === this.frame));
  }

  // The address of the page keeps the state, so that it can be shared.

  store() {
    const { text, ids, at, kind, manifest } = this;
    const state = new URLSearchParams(text === null ? { ids: ids.slice(1).join(".") } : { text });
    const rest = { at, head: headName(...this.head), step: manifest.frames[this.frame].step };
    for (const [name, value] of Object.entries(rest)) state.set(name, value);
    if (this.off.size) state.set("off", [...this.off].sort().join(","));
    if (this.off.size) state.set("kind", kind);
    if (this.shown) history.replaceState(history.state, "", `#lab?${state}`);
    this.shown = true; // a page that nobody has touched keeps its plain address
  }

  stored() {
    const kept = this.panels.has("address") && location.hash.startsWith("#lab?");
    return kept ? new URLSearchParams(location.hash.slice(5)) : null;
  }

  /** Take over a stored state; false if its tokens are not of this model. */
  restore(state) {
    const { names: heads } = this.grid;
    const text = state.get("text");
    if (text === null && !state.get("ids")) return false;
    const ids = text === null ? [START, ...(state.get("ids") ?? "").split(".").map(Number)] : this.encode(text);
    if (ids.some((id) => !Number.isInteger(id) || id < 0 || id >= this.config.d_vocab)) return false;
    const frame = this.manifest.frames.findIndex(({ step }) => String(step) === state.get("step"));
    if (frame >= 0) this.frame = frame;
    if (heads.has(state.get("head"))) this.head = state.get("head").split(".").map(Number);
    this.off = new Set((state.get("off") ?? "").split(",").filter((name) => heads.has(name)));
    this.kind = state.get("kind") === "preserving" ? "preserving" : "zero";
    this.root.querySelectorAll("input[type=radio]").forEach((input) => (input.checked = input.value === this.kind));
    const at = Math.trunc(Number(state.get("at") ?? ids.length - 1)) || 0;
    this.read(ids, { text, at: Math.max(0, at) });
    return true;
  }
}
Lab.count = 0;

const total = (name, now, was) =>
  make(
    "p",
    {},
    make("span", { class: "lab-small" }, name),
    make("strong", {}, Number.isNaN(now) ? "none" : nats(now)),
    make("span", { class: "lab-small" }, was === null || Number.isNaN(now) ? "" : `was ${was.toFixed(2)}`),
  );

const shuffled = (items) => {
  const order = items.map((item) => [Math.random(), item]);
  return order.sort(([a], [b]) => a - b).map(([, item]) => item);
};

/** The anywidget: the manifest and the last weights come as traits, other weights by message. */
const render = ({ model, el }) => {
  const waiting = new Map();
  model.on("msg:custom", ({ frame }, [bytes]) => {
    waiting.get(frame)?.(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  });
  const frame = (key) =>
    new Promise((done) => {
      waiting.set(key, done);
      model.send({ frame: key });
    });
  el.classList.add("induction-lab");
  const lab = new Lab(el, { manifest: model.get("manifest"), frame }, "notebook");
  return () => lab.playing && lab.stop();
};

export default { render, Lab, Model, fromBase64, readWeights };
