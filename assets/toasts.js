// Notices that a run has ended: told by the rail's answer, once in each browser, and read out politely.
"use strict";
(() => {
  const KEY = "atelier_told";
  const MOST = 200;
  const STAYS_MS = 15000;

  function told() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      return Array.isArray(kept) ? kept : null;
    } catch {
      return null;
    }
  }

  document.addEventListener("atelier:ended", (event) => {
    const known = told();
    const fresh = event.detail.filter((one) => !(known || []).includes(one.key));
    if (known && !fresh.length) return;
    localStorage.setItem(KEY, JSON.stringify([...(known || []), ...fresh.map((one) => one.key)].slice(-MOST)));
    // A browser that was never here before has not missed anything.
    if (known) fresh.forEach(show);
  });

  function show(one) {
    const place = document.getElementById("at-toasts");
    if (!place) return;
    const toast = document.createElement("div");
    toast.className = `at-toast at-edge-${one.tone}`;
    const anchor = document.createElement("a");
    anchor.href = one.href;
    const name = document.createElement("strong");
    name.textContent = one.name;
    anchor.append(name, ` ${one.text}`);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", place.dataset.wordClose);
    close.addEventListener("click", () => toast.remove());
    toast.append(anchor, close);
    place.append(toast);
    leave(toast);
  }

  // It stays while it is pointed at or has the focus.
  function leave(toast) {
    setTimeout(() => {
      if (toast.matches(":hover, :focus-within")) leave(toast);
      else toast.remove();
    }, STAYS_MS);
  }
})();
