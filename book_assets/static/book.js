// What every page of the book needs besides the theme: print, pages opened from disk, and keys for what scrolls.
"use strict";
(() => {
  const page = document.documentElement;

  // Paper is light, and cannot be clicked: the dark theme is left for the time of printing, and boxes are opened.
  const closed = "details:not([open], .course-table)";
  let shown = null;
  let opened = [];
  window.addEventListener("beforeprint", () => {
    shown = page.dataset.theme;
    page.dataset.theme = "light";
    opened = [...document.querySelectorAll(closed)];
    for (const box of opened) box.open = true;
  });
  window.addEventListener("afterprint", () => {
    page.dataset.theme = shown;
    for (const box of opened) box.open = false;
  });

  // Search reads every hit's page for an excerpt, which browsers refuse to pages opened from disk.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }

  // The theme's arrows that open a part of the navigation are nameless.
  window.addEventListener("load", () => {
    for (const arrow of document.querySelectorAll(".bd-links details > summary")) {
      const link = arrow.closest("li")?.querySelector("a");
      arrow.setAttribute("aria-label", `Sections of ${link?.textContent.trim() ?? "this part"}`);
    }
  });

  // What scrolls sideways can be reached with the keyboard, at any width of the window.
  const scrollers = ".pst-scrollable-table-container, .bd-article .output, .bd-article pre, mjx-container[display]";
  const reach = () => {
    for (const box of document.querySelectorAll(scrollers)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      if (scrolls) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  };
  let waiting = 0;
  const reachSoon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(reach, 100);
  };
  window.addEventListener("load", () => {
    reach();
    window.MathJax?.startup?.promise?.then(reach);
  });
  window.addEventListener("resize", reachSoon);
  document.addEventListener("toggle", reachSoon, true);
})();
