// The Train page: a search over all settings, and choices that keep focus and folds when they are drawn anew.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const form = () => byId("train-form");

  // --- search: what is found is named in a style sheet, which no redraw of a field undoes --------------------------

  const sheet = document.createElement("style");
  let settings = null; // { id, words, and for a setting of an entry: label, of, order }
  let opened = false; // whether the search has opened the settings one click away

  const box = () => byId("at-search");
  const chooserOf = (one) => document.querySelector(`#train-form input[type=radio][data-order="${one.order}"]`);
  const applies = (one) => !one.order || Boolean(chooserOf(one)?.checked);
  const canChoose = (one) => Boolean(chooserOf(one)) && !chooserOf(one).disabled;

  function search() {
    const field = box();
    settings = settings || JSON.parse(field.dataset.settings);
    const terms = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!terms.length) return clear();
    const hits = settings.filter((one) => terms.every((term) => one.words.includes(term)));
    const here = hits.filter(applies);
    unfold(true);
    sheet.textContent = rules(here.map((one) => `#${CSS.escape(one.id)}`).join(", ") || "#at-none");
    const word = here.length ? field.dataset.wordFound : field.dataset.wordNone;
    byId("at-search-said").textContent = word.replace("{n}", here.length);
    list(hits.filter((one) => !applies(one)));
  }

  function rules(found) {
    const hidden = [
      ":is(.form > .block, .form, .at-fields, .at-whole-row, .at-titled, #all-settings)",
      ":is(#train-presets, #train-mended, .at-quiet)",
    ];
    return `#train-form ${hidden[0]}:not(:is(${found}), :has(${found})), #train-form ${hidden[1]} { display: none !important; }`;
  }

  function clear() {
    sheet.textContent = "";
    byId("at-search-said").textContent = "";
    list([]);
    unfold(false);
  }

  // The settings one click away are not drawn before they are opened once.
  function unfold(wanted) {
    const button = document.querySelector("#all-settings button.label-wrap");
    if (!button || wanted === opened) return;
    const isOpen = button.classList.contains("open");
    opened = wanted && !isOpen;
    if (isOpen !== wanted) button.click();
  }

  // --- what belongs to a choice that was not made -------------------------------------------------------------------

  function list(elsewhere) {
    const place = byId("at-search-elsewhere");
    const last = elsewhere.filter((one) => !canChoose(one));
    place.replaceChildren(...elsewhere.filter(canChoose).concat(last).map(row));
    place.hidden = !elsewhere.length;
  }

  function row(one) {
    const words = box().dataset;
    const item = document.createElement("li");
    const said = item.appendChild(document.createElement("span"));
    said.append(Object.assign(document.createElement("strong"), { textContent: one.label }), " ");
    const of = Object.assign(document.createElement("span"), { className: "at-soft" });
    said.append(Object.assign(of, { textContent: words.wordElsewhere.replace("{name}", one.of) }));
    if (canChoose(one)) item.append(button(one, words.wordChoose));
    else of.append(` · ${words.wordUnfit}`);
    return item;
  }

  function button(one, word) {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", className: "at-button at-small", textContent: word });
    made.setAttribute("aria-label", `${word}: ${one.of}`);
    made.dataset.order = one.order;
    return made;
  }

  document.addEventListener("input", (event) => {
    if (event.target === box()) search();
  });

  document.addEventListener("keydown", (event) => {
    const field = box();
    if (!field) return;
    const inField = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
    if (event.key === "/" && !inField && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
    } else if (event.key === "Escape" && field.value) {
      field.value = "";
      clear();
      field.focus();
    } else if (event.key === "Enter" && event.target === field && !event.isComposing) {
      focusFirst();
    }
  });

  function focusFirst() {
    const control = ":is(input, textarea, select, button)";
    const places = ['[id^="field-"]', "#at-search-elsewhere"]; // settings come before what belongs to another choice
    const controls = places.flatMap((place) => [...form().querySelectorAll(`${place} ${control}`)]);
    const first = controls.find((one) => one.checkVisibility() && !one.disabled);
    if (first) first.focus();
  }

  // --- what a redraw of a panel would lose: the focus, and what was unfolded ------------------------------------------

  const folded = new Map(); // the wish of a person, by what was folded
  let focused = null; // the order of the control that has the focus

  const orderOf = (control) => control.dataset.order || control.dataset.orderOf || null;
  const controls = () => [...document.querySelectorAll("#at-main :is([data-order], [data-order-of])")];

  document.addEventListener("focusin", (event) => (focused = orderOf(event.target)));
  document.addEventListener("pointerdown", (event) => (focused = orderOf(event.target)));
  document.addEventListener("click", (event) => {
    const details = event.target.closest("summary")?.parentElement;
    if (details && details.dataset.keep) folded.set(details.dataset.keep, !details.open);
  });

  function restore() {
    for (const [name, open] of folded) {
      const details = document.querySelector(`details[data-keep="${name}"]`);
      if (details && details.open !== open) details.open = open;
    }
    if (!focused || document.activeElement !== document.body) return;
    const usable = controls().filter((one) => !one.disabled && one.checkVisibility());
    const kin = usable.filter((one) => orderOf(one).split(":")[0] === focused.split(":")[0]);
    const next = kin.find((one) => orderOf(one) === focused) || (box().value ? box() : kin[0]);
    if (next) next.focus();
  }

  function look(changes) {
    restore();
    const field = box();
    const isOurs = (change) => change.target.closest?.("#train-search");
    if (field && field.value && !changes.every(isOurs)) search();
  }

  function begin() {
    if (location.pathname !== "/train") return;
    document.head.append(sheet);
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  }

  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
