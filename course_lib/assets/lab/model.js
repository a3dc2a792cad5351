// A transformer of the course in plain JavaScript, and what is measured on its runs.
// Letters: n positions, d d_model, e d_head, v d_vocab. Matrices are flat Float32Arrays, rows one after another.

/** x [rows, inner] times w [inner, columns], where w begins at index `at` of its array. */
const product = (x, w, rows, inner, columns, at = 0) => {
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const to = i * columns;
    for (let k = 0; k < inner; k++) {
      const factor = x[i * inner + k];
      const from = at + k * columns;
      for (let j = 0; j < columns; j++) out[to + j] += factor * w[from + j];
    }
  }
  return out;
};

/** Add a bias to every row of x; none if there is no bias. */
const plus = (x, bias, columns, at = 0) => {
  if (bias) for (let i = 0; i < x.length; i++) x[i] += bias[at + (i % columns)];
  return x;
};

const sum = (x, y) => x.map((value, i) => value + y[i]);

/** Abramowitz and Stegun 7.1.26, within 2e-7. */
const erf = (x) => {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - tail * Math.exp(-x * x));
};
const GELU = {
  exact: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

/** Causal softmax(q k / sqrt(e)): [n, n], rows are queries. */
const attend = (q, k, n, e) => {
  const pattern = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    const scores = new Float64Array(i + 1);
    for (let j = 0; j <= i; j++) {
      for (let x = 0; x < e; x++) scores[j] += q[i * e + x] * k[j * e + x];
      scores[j] /= Math.sqrt(e);
    }
    const top = Math.max(...scores);
    const total = scores.reduce((all, s, j) => all + (scores[j] = Math.exp(s - top)), 0);
    for (let j = 0; j <= i; j++) pattern[i * n + j] = scores[j] / total;
  }
  return pattern;
};

export const headName = (layer, head) => `${layer}.${head}`;

/** A transformer of the course (course_lib/model.py): its configuration, and its weights by their torch names. */
export class Model {
  constructor(config, weights) {
    Object.assign(this, { config, weights });
  }

  /** Logits [n, v] and patterns [layer][head] of a sequence.
   *  `off`: names of heads whose result is zero. `frozen`: patterns of another run to attend by (pattern-preserving). */
  run(ids, { off = new Set(), frozen = null } = {}) {
    const { config, weights } = this;
    const d = config.d_model;
    const n = ids.length;
    let resid = new Float32Array(n * d);
    ids.forEach((id, i) => resid.set(weights.W_E.subarray(id * d, id * d + d), i * d));
    const positions = weights.W_pos?.subarray(0, n * d);
    if (config.positions === "residual") resid = sum(resid, positions);
    const patterns = [];
    for (let layer = 0; layer < config.n_layers; layer++) {
      const input = this.norm(resid, `blocks.${layer}.attn_norm`);
      const qk = config.positions === "qk" ? sum(input, positions) : input;
      const found = this.attention(layer, qk, input, n, off, frozen?.[layer]);
      patterns.push(found.patterns);
      const mid = sum(resid, found.out);
      if (!config.d_mlp) resid = mid;
      else if (config.parallel_residual) resid = sum(mid, this.mlp(layer, resid, n));
      else resid = sum(mid, this.mlp(layer, mid, n));
    }
    const logits = product(this.norm(resid, "final_norm"), weights.W_U, n, d, config.d_vocab);
    return { logits: plus(logits, weights.b_U, config.d_vocab), patterns };
  }

  attention(layer, qk, input, n, off, frozen) {
    const { n_heads: heads, d_model: d, d_head: e } = this.config;
    const of = (name) => this.weights[`blocks.${layer}.attn.${name}`];
    const project = (x, name, h) => plus(product(x, of(`W_${name}`), n, d, e, h * d * e), of(`b_${name}`), e, h * e);
    const out = plus(new Float32Array(n * d), of("b_O"), d);
    const patterns = [];
    for (let h = 0; h < heads; h++) {
      const k = () => this.smear(this.rotate(project(qk, "K", h), n), of("alpha")?.[h], n);
      const pattern = frozen?.[h] ?? attend(this.rotate(project(qk, "Q", h), n), k(), n, e);
      patterns.push(pattern);
      if (off.has(headName(layer, h))) continue;
      const z = product(pattern, project(input, "V", h), n, n, e);
      product(z, of("W_O"), n, e, d, h * e * d).forEach((value, i) => (out[i] += value));
    }
    return { out, patterns };
  }

  mlp(layer, resid, n) {
    const { d_model: d, d_mlp: m, gelu = "exact" } = this.config;
    const of = (name) => this.weights[`blocks.${layer}.mlp.${name}`];
    const hidden = plus(product(this.norm(resid, `blocks.${layer}.mlp_norm`), of("W_in"), n, d, m), of("b_in"), m);
    return plus(product(hidden.map(GELU[gelu]), of("W_out"), n, m, d), of("b_out"), d);
  }

  norm(x, name) {
    const weight = this.weights[`${name}.weight`];
    const bias = this.weights[`${name}.bias`];
    const d = this.config.d_model;
    const out = x.slice();
    for (let i = 0; weight && i < x.length; i += d) {
      const row = x.subarray(i, i + d);
      const mean = row.reduce((all, value) => all + value, 0) / d;
      const variance = row.reduce((all, value) => all + (value - mean) ** 2, 0) / d;
      const scale = 1 / Math.sqrt(variance + (this.config.norm_eps ?? 1e-5));
      row.forEach((value, j) => (out[i + j] = (value - mean) * scale * weight[j] + bias[j]));
    }
    return out;
  }

  rotate(x, n) {
    const { positions, d_head: e, rotary_share: share = 1, rotary_base: base = 10000 } = this.config;
    const turned = positions === "rotary" ? Math.trunc(e * share) : 0;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < turned / 2; j++) {
        const angle = Math.fround(i * Math.fround(base ** -((2 * j) / turned)));
        const [a, b] = [x[i * e + j], x[i * e + j + turned / 2]];
        x[i * e + j] = a * Math.cos(angle) - b * Math.sin(angle);
        x[i * e + j + turned / 2] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
    return x;
  }

  smear(k, alpha, n) {
    if (alpha === undefined) return k;
    const e = this.config.d_head;
    const own = 1 / (1 + Math.exp(-alpha));
    return k.map((value, i) => (i < e ? value : own * value + (1 - own) * k[i - e]));
  }
}

/** Weights by name out of one block of bytes; `layout` says where each lies and whether it is 8-bit codes with scales. */
export const readWeights = (layout, bytes) =>
  Object.fromEntries(
    layout.map(({ name, shape, at, scales }) => {
      const size = shape.reduce((all, length) => all * length, 1);
      if (scales === null) return [name, new Float32Array(bytes.slice(at, at + 4 * size))];
      const [rows, columns] = shape.slice(-2);
      const codes = new Int8Array(bytes, at, size);
      const scale = new Float32Array(bytes.slice(scales, scales + (4 * size) / rows));
      const block = rows * columns; // one scale a column of each matrix
      return [name, Float32Array.from(codes, (c, i) => c * scale[Math.floor(i / block) * columns + (i % columns)])];
    }),
  );

export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

// Measurements

/** Loss of each token in nats, given those before it; NaN for the first, which nothing predicts. */
const lossesOf = (logits, ids, v) =>
  Float64Array.from(ids, (id, i) => (i ? -Math.log(softmax(logits, i - 1, v)[id]) : NaN));

const softmax = (logits, i, v) => {
  const row = Float64Array.from(logits.subarray(i * v, i * v + v));
  const top = row.reduce((high, value) => Math.max(high, value), -Infinity);
  const total = row.reduce((all, value, j) => all + (row[j] = Math.exp(value - top)), 0);
  return row.map((value) => value / total);
};

/** The prefix-matching score of one pattern on this very sequence, as in course_lib/scores.py; NaN if nothing repeats. */
export const prefixMatching = (pattern, ids) => {
  const n = ids.length;
  let [total, queries] = [0, 0];
  for (let q = 0; q < n; q++) {
    let repeats = false;
    for (let k = 0; k < q; k++) {
      if (ids[k] !== ids[q]) continue;
      repeats = true;
      total += pattern[q * n + k + 1];
    }
    queries += repeats;
  }
  return total / queries;
};

/** For each token: has it followed the same token before? Those are the ones that induction can predict. */
export const repeatedPairs = (ids) => {
  const seen = new Set();
  return ids.map((id, i) => {
    const pair = `${ids[i - 1]} ${id}`;
    return i > 0 && (seen.has(pair) || !seen.add(pair));
  });
};

export const mean = (values) => values.reduce((all, value) => all + value, 0) / values.length;

/** What the drawings need of one run. */
export const resultOf = ({ logits, patterns }, ids, v) => ({
  patterns,
  losses: lossesOf(logits, ids, v),
  top: (i) => {
    const p = softmax(logits, i, v);
    return [...p.keys()]
      .sort((a, b) => p[b] - p[a])
      .slice(0, 5)
      .map((id) => ({ id, p: p[id] }));
  },
  probability: (i, id) => softmax(logits, i, v)[id],
});

/** The same, computed when the book was built: pages show it before any weights are loaded. */
export const resultOfPreview = ({ patterns, losses, top }, ids, config) => {
  const bytes = new Uint8Array(fromBase64(patterns));
  const size = ids.length ** 2;
  const pattern = (l, h) =>
    Float32Array.from(bytes.subarray((l * config.n_heads + h) * size).subarray(0, size), (b) => b / 255);
  const heads = [...Array(config.n_heads).keys()];
  const most = (i) => top[i].map(([id, p]) => ({ id, p }));
  return {
    patterns: [...Array(config.n_layers).keys()].map((l) => heads.map((h) => pattern(l, h))),
    losses: Float64Array.from([NaN, ...losses]),
    top: most,
    probability: (i, id) => most(i).find((each) => each.id === id)?.p ?? Math.exp(-losses[i]),
  };
};
