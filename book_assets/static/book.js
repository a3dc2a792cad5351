// Charts of the book: Altair's HTML calls vegaEmbed(element, spec, options); this wrapper loads the bundle that
// tools/offline_assets.py wrote when the first chart asks for it, makes charts take the colours of the page,
// and lays them out again where they are wider than their column. It also prepares pages for print and for disk.
"use strict";
(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const NARROW = 500; // px: below this, legends go under the plot
  const LEAST = 120; // px: a plot is not made narrower than this, its column scrolls instead
  const ATTEMPTS = 3; // a legend or an axis may still be too wide when the plot has become narrower
  const LETTER = 7.8; // px: a letter of a title, on average, with room for the axis beside the plot

  let loading = null;
  const load = () => {
    loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = folder + "vega-bundle.js";
      script.onload = () => done(window.bundledVegaEmbed);
      script.onerror = () => failed(new Error(`cannot load ${script.src}`));
      document.head.append(script);
    });
    return loading;
  };

  // SVG resolves currentColor when it paints, so a switch of theme, or print, needs no second rendering.
  const ink = "currentColor";
  const text = { labelColor: ink, titleColor: ink };
  const pageColours = {
    background: "transparent",
    view: { stroke: ink, strokeOpacity: 0.25 },
    axis: { ...text, domainColor: ink, tickColor: ink, gridColor: ink, gridOpacity: 0.12 },
    legend: text,
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

  // Vega cuts a title that is longer than its drawing, and draws an axis title past its axis: break them into lines.
  const inLines = (text, column) => {
    const most = Math.max(10, Math.floor(column / LETTER));
    if (typeof text !== "string" || text.length <= most) return text;
    return text.split(" ").reduce((lines, word) => {
      const last = lines[lines.length - 1];
      if (last && last.length + 1 + word.length <= most) return [...lines.slice(0, -1), `${last} ${word}`];
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
    for (const parts of ["hconcat", "vconcat", "concat", "layer"]) {
      if (spec[parts]) result[parts] = spec[parts].map((part) => titled(part, column));
    }
    return result;
  };

  const dressed = (spec, column) => {
    const legend = column < NARROW ? { legend: { orient: "bottom", columns: 2 } } : {};
    const config = merged(merged(merged(markDefaults, legend), spec.config ?? {}), pageColours);
    return { ...titled(spec, column), config, background: "transparent" };
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
    if (spec.vconcat) return { ...spec, vconcat: spec.vconcat.map((plot) => narrower(plot, drawn - column)) };
    const legend = { ...spec.config.legend, columns: 1 }; // its entries may be what is too wide
    return { ...narrower(spec, drawn - column), config: again ? { ...spec.config, legend } : spec.config };
  };

  const drawnWidth = (host) => host.querySelector("svg.marks")?.getBoundingClientRect().width ?? 0;

  window.vegaEmbed = async (target, spec, options = {}) => {
    const host = typeof target === "string" ? document.querySelector(target) : target;
    const embed = await load();
    const column = host.clientWidth;
    const settings = {
      ...options,
      renderer: "svg",
      actions: false, // the menu offers to open the chart, with its data, on another host
    };
    const themed = dressed(spec, column);
    let result = await embed(host, themed, settings);
    let layout = themed;
    for (let attempt = 0; attempt < ATTEMPTS && drawnWidth(host) > column; attempt += 1) {
      layout = fitted(layout, drawnWidth(host), column, attempt > 0);
      result.finalize();
      result = await embed(host, layout, settings);
    }
    if (drawnWidth(host) > column) {
      host.tabIndex = 0; // what scrolls can be scrolled with the keyboard
      host.setAttribute("role", "group");
      host.setAttribute("aria-label", `Chart, scrolls sideways. ${spec.description ?? ""}`);
    }
    return result;
  };

  // Paper is light: a page that is read in the dark theme is printed in the light one.
  const page = document.documentElement;
  let shown = null;
  window.addEventListener("beforeprint", () => {
    shown = page.dataset.theme;
    page.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => {
    page.dataset.theme = shown;
  });

  // Search reads every hit's page for an excerpt, which browsers refuse to pages opened from disk.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }
})();
