// Charts of the book: Altair's HTML calls vegaEmbed(element, spec, options). This wrapper keeps room for the chart,
// loads the bundle that tools/offline_assets.py wrote once the page is there, gives charts the colours of the page,
// lays them out again where they are wider than their column, and puts their numbers below them as a table.
"use strict";
(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const NARROW = 500; // px: below this, legends go under the plot
  const LEAST = 120; // px: a plot is not made narrower than this, its column scrolls instead
  const SETTLED = 200; // ms: a window that is not resized any more
  const ATTEMPTS = 5; // a legend or an axis may still be too wide when the plot has become narrower
  const TITLE = "bold 13px sans-serif"; // Vega's
  const BESIDE = 30; // px: room that a line of a title leaves for the axis beside the plot
  const PARTS = ["hconcat", "vconcat", "concat", "layer"];

  let loading = null;
  const load = () => {
    loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = folder + "vega-bundle.js";
      script.onload = () => done(window.bundledVegaEmbed);
      script.onerror = () => failed(new Error(`cannot load ${script.src}`));
      const start = () => document.head.append(script);
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
      else start();
    });
    return loading;
  };

  // SVG resolves currentColor and variables when it paints: a switch of theme, or print, needs no second rendering.
  const ink = "currentColor";
  const text = { labelColor: ink, titleColor: ink };
  const pageColours = {
    background: "transparent",
    view: { stroke: ink, strokeOpacity: 0.25 },
    axis: { ...text, domainColor: ink, tickColor: ink, gridColor: ink, gridOpacity: 0.12 },
    legend: { ...text, symbolBaseFillColor: ink, symbolBaseStrokeColor: ink },
    header: text,
    title: { color: ink, subtitleColor: ink },
  };
  // Marks keep the colours that their chart gives them; these are for marks that were given none.
  const markDefaults = { text: { fill: ink }, rule: { stroke: ink } };

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const merged = (low, high) => {
    const result = { ...low };
    for (const [key, value] of Object.entries(high)) {
      result[key] = isObject(value) && isObject(low[key]) ? merged(low[key], value) : value;
    }
    return result;
  };

  // The eight colours of series, as palette.css names them: "#0072b2" becomes var(--shown-1).
  const shown = () => {
    const style = getComputedStyle(document.documentElement);
    const numbers = [1, 2, 3, 4, 5, 6, 7, 8];
    return new Map(numbers.map((n) => [style.getPropertyValue(`--series-${n}`).trim().toLowerCase(), `var(--shown-${n})`]));
  };
  const repainted = (value, colours) => {
    if (typeof value === "string") return colours.get(value.toLowerCase()) ?? value;
    if (Array.isArray(value)) return value.map((part) => repainted(part, colours));
    if (!isObject(value)) return value;
    const blends = value.type === "quantitative"; // a colour between two variables cannot be computed
    const kept = ([key, part]) => key === "data" || key === "datasets" || (blends && key === "scale");
    return Object.fromEntries(
      Object.entries(value).map((entry) => [entry[0], kept(entry) ? entry[1] : repainted(entry[1], colours)]),
    );
  };

  // The chart's own title, or those of its parts.
  const titleOf = (spec) => {
    const own = isObject(spec.title) ? spec.title.text : spec.title;
    if (own) return [own].flat().join(" ");
    return PARTS.flatMap((key) => spec[key] ?? []).map(titleOf).filter(Boolean).join("; ");
  };

  // Vega cuts a title that is longer than its drawing, and draws an axis title past its axis: break them into lines.
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = TITLE;
  const inLines = (text, column) => {
    const fits = (line) => pen.measureText(line).width <= Math.max(LEAST, column) - BESIDE;
    if (typeof text !== "string" || fits(text)) return text;
    return text.split(" ").reduce((lines, word) => {
      const last = lines[lines.length - 1];
      if (last && fits(`${last} ${word}`)) return [...lines.slice(0, -1), `${last} ${word}`];
      return [...lines, word];
    }, []);
  };

  const titled = (spec, column) => {
    const { title } = spec;
    const result = { ...spec };
    if (isObject(title)) result.title = { ...title, text: inLines(title.text, column) };
    else if (title) result.title = inLines(title, column);
    const { x } = spec.encoding ?? {};
    if (x?.title) result.encoding = { ...spec.encoding, x: { ...x, title: inLines(x.title, column / 2) } };
    for (const parts of PARTS) {
      if (spec[parts]) result[parts] = spec[parts].map((part) => titled(part, column));
    }
    return result;
  };

  const dressed = (spec, column) => {
    const below = { orient: "bottom", columns: 2, layout: { bottom: { direction: "vertical" } } };
    const narrow = column < NARROW ? { legend: below, title: { frame: "bounds" } } : {};
    const config = merged(merged(merged(markDefaults, narrow), spec.config ?? {}), pageColours);
    const described = { description: `Chart: ${titleOf(spec)}`, ...titled(spec, column) };
    return { ...repainted(described, shown()), config, background: "transparent" };
  };

  const narrower = (spec, excess) => {
    if (typeof spec.width !== "number" || !("mark" in spec || "layer" in spec)) return spec;
    const width = Math.max(LEAST, Math.floor(spec.width - excess) - 2);
    return spec.height === spec.width ? { ...spec, width, height: width } : { ...spec, width };
  };

  // Panels in a row wrap to the next line where the column ends.
  const AXIS = 70; // px: room beside a panel for its axis
  const wrapped = ({ column: inRow, facet, ...encoding }, width, column) => {
    const columns = Math.max(1, Math.floor((column - AXIS) / width));
    return { ...encoding, facet: { ...(inRow ?? facet), columns } };
  };

  // What is drawn wider than its column is drawn again: plots side by side go one below the other, panels wrap, single,
  // layered and stacked plots get narrower, and a square one stays square. Anything else keeps its size and scrolls.
  const fitted = (spec, drawn, column, again) => {
    if (spec.hconcat) {
      const { hconcat, ...rest } = spec;
      return { ...rest, vconcat: hconcat };
    }
    const { encoding } = spec;
    if (encoding?.column || encoding?.facet) return { ...spec, encoding: wrapped(encoding, spec.width, column) };
    if (spec.facet?.column) return { ...spec, facet: spec.facet.column, columns: 1 };
    const legend = { ...spec.config.legend, columns: 1 }; // its entries may be what is too wide
    const config = again ? { ...spec.config, legend } : spec.config;
    if (spec.vconcat) return { ...spec, vconcat: spec.vconcat.map((plot) => narrower(plot, drawn - column)), config };
    return { ...narrower(spec, drawn - column), config };
  };

  const drawnWidth = (host) => host.querySelector("svg.marks")?.getBoundingClientRect().width ?? 0;

  // About how high a chart will be, so that what follows it need not move when it is drawn.
  const expectedHeight = (spec) => {
    const below = (spec.params ?? []).filter((param) => param.bind && param.bind !== "legend").length * 40;
    const title = spec.title ? 24 : 0;
    if (spec.vconcat) return spec.vconcat.reduce((sum, part) => sum + expectedHeight(part) + 10, title + below);
    if (spec.hconcat) return title + below + Math.max(...spec.hconcat.map(expectedHeight));
    const height = (spec.spec ?? spec).height;
    const axis = 45;
    return title + below + axis + (typeof height === "number" ? height : (height?.step ?? 20) * 10);
  };

  // What scrolls can be scrolled with the keyboard. Vega has given each drawing its role and its label.
  const announce = (host, spec) => {
    host.removeAttribute("tabindex");
    if (drawnWidth(host) <= host.clientWidth) return;
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", `Chart, scrolls sideways. ${spec.description ?? ""}`);
  };

  const drawn = async (embed, host, spec, options) => {
    const column = host.clientWidth;
    const settings = {
      ...options,
      renderer: "svg",
      actions: false, // the menu offers to open the chart, with its data, on another host
    };
    let layout = dressed(spec, column);
    let result = await embed(host, layout, settings);
    for (let attempt = 0; attempt < ATTEMPTS && drawnWidth(host) > column; attempt += 1) {
      layout = fitted(layout, drawnWidth(host), column, attempt > 0);
      result.finalize();
      result = await embed(host, layout, settings);
    }
    host.dataset.column = column;
    return result;
  };

  // What a reader has set and selected in a chart goes over to the one that is drawn in its place.
  const restored = async (before, next) => {
    const { signals = [], data = [] } = next.vgSpec;
    for (const { name, bind } of signals) {
      if (bind) next.view.signal(name, before.view.signal(name));
    }
    for (const { name } of data) {
      if (name.endsWith("_store")) next.view.data(name, before.view.data(name)); // where Vega-Lite keeps selections
    }
    await next.view.runAsync();
  };

  // A phone that is turned has a wider or a narrower column.
  const drawnAgain = (embed, host, result, spec, options) => {
    let current = Promise.resolve(result);
    let waiting = 0;
    const again = async (before) => {
      host.style.minHeight = `${host.clientHeight}px`; // so that nothing jumps meanwhile
      before.finalize();
      const next = await drawn(embed, host, spec, options);
      await restored(before, next);
      announce(host, spec);
      host.style.minHeight = "";
      return next;
    };
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const same = !host.clientWidth || host.clientWidth === Number(host.dataset.column);
        if (!same && !matchMedia("print").matches) current = current.then(again); // paper does not wait
      }, SETTLED);
    });
  };

  window.vegaEmbed = async (target, spec, options = {}) => {
    const host = typeof target === "string" ? document.querySelector(target) : target;
    host.style.minHeight = `${expectedHeight(spec)}px`;
    const embed = await load();
    const result = await drawn(embed, host, spec, options);
    announce(host, spec);
    host.style.minHeight = "";
    drawnAgain(embed, host, result, spec, options);
    return result;
  };
})();
