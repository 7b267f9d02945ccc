// The frame's behaviour: theme, language, the worker at the foot of the rail, and links that select without a reload.
"use strict";
(() => {
  const KEY = "atelier_theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function wanted() {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : dark.matches ? "dark" : "light";
  }

  function applyTheme() {
    const theme = wanted();
    if (root.dataset.theme !== theme) root.dataset.theme = theme;
    if (document.body && document.body.classList.contains("dark") !== (theme === "dark")) {
      document.body.classList.toggle("dark", theme === "dark");
      document.dispatchEvent(new CustomEvent("atelier:theme"));
    }
  }

  function switchTheme() {
    const next = wanted() === "dark" ? "light" : "dark";
    if (next === (dark.matches ? "dark" : "light")) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
    applyTheme();
  }

  function switchLanguage(language) {
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `atelier_language=${language}; path=/; max-age=31536000; samesite=strict${secure}`;
    location.reload();
  }

  // --- selection: the address leads, the hidden field follows -----------------------------------------------------

  function fillSelection(value) {
    const field = document.querySelector("#at-selection textarea, #at-selection input");
    if (!field) return false;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    return true;
  }

  function select(anchor) {
    if (!fillSelection(anchor.dataset.select)) return false;
    history.pushState({ select: anchor.dataset.select }, "", anchor.getAttribute("href"));
    return true;
  }

  document.addEventListener("click", (event) => {
    const theme = event.target.closest("[data-theme-switch]");
    if (theme) return switchTheme();
    const language = event.target.closest("[data-language]");
    if (language) return switchLanguage(language.dataset.language);
    const skip = event.target.closest(".at-skip");
    if (skip) return focusMain(event);
    const copy = event.target.closest("[data-copy]");
    if (copy) return copyText(copy);
    const fault = event.target.closest("#at-fault");
    if (fault) fault.hidden = true;
    const anchor = event.target.closest("a[data-select]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (anchor && plain && select(anchor)) event.preventDefault();
  });

  // A long list of choices is walked with the arrow keys: Tab would stop at it, and it closes under the focus.
  document.addEventListener(
    "keydown",
    (event) => event.key === "Tab" && document.querySelectorAll(".option-list").forEach((list) => (list.tabIndex = -1)),
    true,
  );

  addEventListener("popstate", () => location.reload());

  function focusMain(event) {
    event.preventDefault();
    const main = document.getElementById("at-main");
    main.tabIndex = -1;
    main.focus();
  }

  async function copyText(button) {
    const source = document.querySelector(button.dataset.copy);
    await navigator.clipboard.writeText(source ? source.textContent : "");
    button.classList.add("at-done");
    setTimeout(() => button.classList.remove("at-done"), 1200);
  }

  // --- a handler's wish to go to another page: a link with data-go, put into a panel ------------------------------

  new MutationObserver(() => {
    const wish = document.querySelector("a[data-go]");
    if (!wish) return;
    wish.removeAttribute("data-go");
    location.assign(wish.href);
  }).observe(document.documentElement, { childList: true, subtree: true });

  // --- a handler that failed: Gradio draws the error of a queued event alone, and ours are not queued ---------------

  const send = window.fetch;
  window.fetch = async (...given) => {
    const answer = await send.apply(window, given);
    if (answer.status === 500 && new URL(answer.url).pathname.startsWith("/gradio_api/run/")) tellFault(answer.clone());
    return answer;
  };

  async function tellFault(answer) {
    const said = await answer.json().catch(() => null);
    const place = document.getElementById("at-fault");
    if (!place || !said || !said.error) return;
    place.firstElementChild.textContent = said.error;
    place.hidden = false;
  }

  // --- the worker ------------------------------------------------------------------------------------------------

  let shown = "";
  async function refreshRail() {
    const place = document.getElementById("at-worker");
    if (place && !document.hidden) {
      try {
        const answer = await fetch("/live/rail", { cache: "no-store" });
        if (answer.status === 401) return location.assign("/login");
        if (answer.ok) hear(place, await answer.json());
        root.classList.toggle("at-offline", !answer.ok);
      } catch {
        root.classList.add("at-offline");
      }
    }
    setTimeout(refreshRail, 2000);
  }

  function hear(place, told) {
    draw(place, told.html);
    document.dispatchEvent(new CustomEvent("atelier:ended", { detail: told.ended }));
  }

  function draw(place, html) {
    if (html === shown && place.childElementCount) return;
    place.innerHTML = html;
    shown = html;
  }

  // Gradio sets the theme from the system when it starts: ours is put back each time it does.
  function begin() {
    applyTheme();
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    waitForRail();
  }

  function waitForRail() {
    if (document.getElementById("at-worker")) refreshRail();
    else setTimeout(waitForRail, 50);
  }

  applyTheme();
  dark.addEventListener("change", applyTheme);
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
