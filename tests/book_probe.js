// Put into every page that the tests of the book open: what a reader would see go wrong.
"use strict";
window.bookShift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.bookShift += entry.value;
}).observe({ type: "layout-shift", buffered: true });

// Colours change at once here: no test has to wait for a fade to end.
document.addEventListener("DOMContentLoaded", () => {
  const still = "*, *::before, *::after { transition: none !important; animation: none !important; }";
  document.head.append(Object.assign(document.createElement("style"), { textContent: still }));
});

window.bookProbe = {
  // How far what stood in the window has jumped since the page was opened (cumulative layout shift).
  shift() {
    return window.bookShift;
  },

  // Controls of charts that move and change nothing, as sentences.
  async deadControls() {
    const problems = [];
    for (const chart of document.querySelectorAll(".vega-embed:has(.vega-bindings)")) {
      const drawing = () => chart.querySelector("svg.marks")?.innerHTML;
      for (const control of chart.querySelectorAll(".vega-bindings :is(input, select)")) {
        const [before, kept] = [drawing(), control.value];
        const choices = control.options ? [...control.options].map((option) => option.value) : [control.min, control.max];
        if (control.type === "checkbox" || control.type === "radio") control.click();
        else control.value = choices.find((value) => value !== kept);
        for (const event of ["input", "change"]) control.dispatchEvent(new Event(event, { bubbles: true }));
        await new Promise((done) => setTimeout(done, 150));
        const name = control.closest("label")?.textContent ?? control.name;
        if (drawing() === before) problems.push(`the control "${name.trim()}" moves and changes nothing`);
      }
    }
    return problems;
  },

  // Problems of the page as it stands, as sentences.
  look() {
    const article = document.querySelector(".bd-article") ?? document.body;
    const problems = [];
    const title = (chart) => chart.querySelector(".role-title-text")?.textContent ?? "without a title";
    // MathJax paints an unknown command red instead of reporting it.
    if (document.querySelector('mjx-merror, [data-mjx-error], mjx-mtext[style*="color: red"]')) {
      problems.push("broken formula");
    }
    const prose = article.cloneNode(true);
    prose.querySelectorAll("pre, code, script, style, mjx-container, .vega-embed").forEach((e) => e.remove());
    const raw = prose.textContent.match(/(\$\$|\\[([]|\\begin\{).{0,40}/);
    if (raw) problems.push(`raw TeX: ${raw[0]}`);
    for (const math of article.querySelectorAll(".math")) {
      if (!math.querySelector("mjx-container")) problems.push(`not typeset: ${math.textContent.slice(0, 40)}`);
    }
    for (const chart of article.querySelectorAll("[id^=altair-viz]")) {
      const box = chart.querySelector("svg.marks, canvas")?.getBoundingClientRect();
      const drawn = box && box.width > 20 && box.height > 20 && !chart.querySelector(".error");
      if (!drawn) problems.push(`chart not drawn: ${chart.textContent.slice(0, 80)}`);
      const column = chart.closest(".cell_output, .bd-article")?.getBoundingClientRect();
      if (drawn && !matchMedia("print").matches && box.right > column.right + 1) {
        problems.push(`chart ${Math.round(box.right - column.right)} px wider than its column: ${title(chart)}`);
      }
    }
    for (const output of document.querySelectorAll('html[data-theme="dark"] div.cell_output .text_html')) {
      const ground = getComputedStyle(output).backgroundColor;
      if (ground !== "rgba(0, 0, 0, 0)") problems.push(`pale card in the dark: ${output.textContent.trim().slice(0, 60)}`);
    }
    for (const image of article.querySelectorAll("img")) {
      if (image.complete && image.naturalWidth === 0) problems.push(`image missing: ${image.src}`);
    }
    if (document.querySelector('script[type^="application/vnd.jupyter.widget"]')) {
      problems.push("a widget, which needs a kernel");
    }
    const over = document.documentElement.scrollWidth - window.innerWidth;
    if (over > 1) problems.push(`page is ${over} px too wide`);
    return problems;
  },

  // What axe finds. It walks through every node that is there, for seconds where a chart has thousands: the inside of
  // charts and formulas, and the colours of code, are taken out for so long (`contrasts` measures them). `leftOut`
  // names what else is.
  async audit(options, leftOut) {
    const kept = [];
    const swap = (box, text) => {
      const inside = document.createDocumentFragment();
      inside.append(...box.childNodes);
      if (text) box.append(text);
      kept.push([box, inside]);
    };
    for (const code of document.querySelectorAll(".highlight pre")) swap(code, code.textContent);
    for (const box of document.querySelectorAll("svg.marks, mjx-container")) swap(box);
    if (leftOut) for (const box of document.querySelectorAll(leftOut)) swap(box);
    try {
      return await axe.run(document, options);
    } finally {
      for (const [box, inside] of kept) box.replaceChildren(inside);
    }
  },

  // Contrast of each text and each colour of the marks of each chart, and of each colour of code, with what is painted
  // behind it (WCAG 2, 1 to 21). Tiles, whose shades are numbers, and marks that let the page shine through stay out.
  contrasts() {
    const parse = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = (element) => {
      for (let e = element; e; e = e.parentElement) {
        const colour = parse(getComputedStyle(e).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    const parts = ["axis-label", "axis-title", "legend-label", "legend-title", "title-text"];
    const kinds = ["bar", "line mark", "point", "circle", "square", "area mark", "tick"];
    const selector = parts.map((name) => `.role-${name} text`).join();
    const measured = (part, text, colour, ground) => {
      const [a, b] = [parse(colour), ground].map(luminance);
      return { part, text, ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
    };
    const charts = [...document.querySelectorAll(".vega-embed svg.marks")].flatMap((chart) =>
      [...chart.querySelectorAll(selector)]
        .filter((text) => text.textContent)
        .map((text) => measured("chart", text.textContent, getComputedStyle(text).fill, behind(chart))),
    );
    const clear = "rgba(0, 0, 0, 0)";
    const marks = [...document.querySelectorAll(".vega-embed svg.marks")].flatMap((chart) => {
      const colours = new Map();
      for (const mark of chart.querySelectorAll(kinds.map((kind) => `[aria-roledescription="${kind}"]`).join())) {
        const style = getComputedStyle(mark);
        const filled = !["none", clear].includes(style.fill);
        const solid = style.opacity * (filled ? style.fillOpacity : style.strokeOpacity) === 1;
        const colour = filled ? style.fill : style.stroke;
        if (solid && ![clear, "none"].includes(colour)) colours.set(colour, mark);
      }
      return [...colours].map(([colour, mark]) =>
        measured("mark", `${mark.getAttribute("aria-roledescription")} ${colour}`, colour, behind(chart)),
      );
    });
    const code = new Map();
    for (const word of document.querySelectorAll(".highlight pre span")) {
      if (word.textContent.trim()) code.set(word.className, word);
    }
    const words = [...code.values()].map((word) =>
      measured("code", word.textContent.slice(0, 40), getComputedStyle(word).color, behind(word)),
    );
    return [...charts, ...marks, ...words];
  },
};
