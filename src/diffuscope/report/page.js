(() => {
  "use strict";
  // The reader's choice of theme outlives the page where the browser lets it (a file's storage may be closed).
  const root = document.documentElement;
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("diffuscope-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("diffuscope-theme", theme); } catch { /* closed */ } };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  const isDark = () => (root.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.hidden = false;
    show();
    systemDark.addEventListener("change", show);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      show();
    });

    // A container that has nothing to scroll is no stop for the keyboard.
    const scrolls = document.querySelectorAll(".scroll");
    const mark = () => scrolls.forEach((box) => {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
    mark();
    addEventListener("resize", mark);

    // What is folded is measured when it opens, and paper shows all.
    const folds = document.querySelectorAll("details");
    folds.forEach((fold) => fold.addEventListener("toggle", mark));
    addEventListener("beforeprint", () => folds.forEach((fold) => { fold.open = true; }));

    // The section being read is marked in the list of sections.
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-15% 0px -80% 0px" });
    document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
  });
})();
