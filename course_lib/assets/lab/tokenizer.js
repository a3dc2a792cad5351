// Text to tokens and back, as the tokenizers package does it.
import { fromBase64 } from "./model.js";

const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // as in Python, not as in JS
const WORDS = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);

/** Byte-level BPE. `tokens`: the bytes of each token as base64 or null, `merges`: pairs of ids, `special`: text to id. */
export class Tokenizer {
  constructor({ tokens, merges, special }) {
    this.bytes = tokens.map((token) => (token === null ? null : new Uint8Array(fromBase64(token))));
    this.special = special;
    const key = (bytes) => bytes.join();
    const ids = new Map(this.bytes.map((bytes, id) => [bytes && key(bytes), id]));
    this.ofByte = Array.from({ length: 256 }, (_, byte) => ids.get(String(byte)));
    const joined = ([a, b]) => ids.get(key([...this.bytes[a], ...this.bytes[b]]));
    this.merges = new Map(merges.map((pair, rank) => [pair.join(), { rank, id: joined(pair) }]));
  }

  encode(text) {
    const names = Object.keys(this.special);
    const ids = [];
    while (names.length && text) {
      const found = names
        .map((name) => [text.indexOf(name), name])
        .filter(([at]) => at >= 0)
        .sort(([a], [b]) => a - b)[0];
      if (!found) break;
      ids.push(...this.plain(text.slice(0, found[0])), this.special[found[1]]);
      text = text.slice(found[0] + found[1].length);
    }
    return [...ids, ...this.plain(text)];
  }

  plain(text) {
    const encoder = new TextEncoder();
    return (text.match(WORDS) ?? []).flatMap((word) =>
      this.merged(Array.from(encoder.encode(word), (b) => this.ofByte[b])),
    );
  }

  merged(ids) {
    for (;;) {
      let best = null;
      for (let i = 0; i + 1 < ids.length; i++) {
        const merge = this.merges.get(`${ids[i]},${ids[i + 1]}`);
        if (merge && (!best || merge.rank < best.rank)) best = { ...merge, i };
      }
      if (!best) return ids;
      ids.splice(best.i, 2, best.id);
    }
  }

  /** A token as readers see it: spaces and line breaks visible, half characters as their bytes. */
  label(id) {
    const bytes = this.bytes[id];
    if (bytes === null) return Object.keys(this.special).find((name) => this.special[name] === id) ?? `#${id}`;
    const text = new TextDecoder().decode(bytes);
    if (text.includes("\ufffd")) return [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
    return text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "→");
  }
}

/** For models of plain numbers: tokens are written as numbers. */
export class Numbers {
  constructor(d_vocab) {
    this.d_vocab = d_vocab;
  }
  encode(text) {
    return (text.match(/\d+/g) ?? []).map(Number).filter((id) => id < this.d_vocab);
  }
  label(id) {
    return String(id);
  }
}
