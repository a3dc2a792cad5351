// Starts an Induction Lab in every <div class="induction-lab" data-preset="..."> of a page of the book when it comes
// near the window. Everything comes by script tags, which browsers allow to pages opened from disk too.
"use strict";
(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "lab/");
  const loading = new Map();
  const data = (window.inductionLabData = {});
  const load = (name) => {
    if (!loading.has(name)) {
      const arrived = new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = folder + name;
        script.onload = done;
        script.onerror = () => {
          loading.delete(name);
          failed(new Error(`no ${name}`));
        };
        document.head.append(script);
      });
      loading.set(name, arrived);
    }
    return loading.get(name);
  };

  const frame = async (key) => {
    await load(`weights-${key}.js`);
    return window.InductionLab.fromBase64(data[key]);
  };

  const start = async (root) => {
    await Promise.all([load("lab.js"), load("lab-data.js")]);
    root.lab = new window.InductionLab.Lab(root, { manifest: data.manifest, frame }, root.dataset.preset);
  };

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        start(target);
      }
    },
    { rootMargin: "300px" },
  );
  const watch = () => document.querySelectorAll(".induction-lab").forEach((root) => watcher.observe(root));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
