// The Queue page: jobs are dragged to another place in their lane, a priority is chosen, and focus outlives a redraw.
"use strict";
(() => {
  const TYPE = "application/x-atelier-job";
  let focused = null; // the order of the control that has the focus

  function give(order) {
    document.dispatchEvent(new CustomEvent("atelier:order", { detail: order }));
  }

  // --- dragging: what is dragged is known by its number, since the list may be drawn anew meanwhile ---------------

  let dragged = null; // { job, lane }

  const rowOf = (target) => (target instanceof Element ? target.closest(".at-queue[data-lane] > [data-job]") : null);
  const laneOf = (row) => row.parentElement.dataset.lane;

  function isBelow(row, event) {
    const box = row.getBoundingClientRect();
    return event.clientY > box.top + box.height / 2;
  }

  function clear() {
    for (const row of document.querySelectorAll(".at-drop-before, .at-drop-after, .at-dragged"))
      row.classList.remove("at-drop-before", "at-drop-after", "at-dragged");
  }

  document.addEventListener("dragstart", (event) => {
    const row = rowOf(event.target);
    if (!row) return;
    dragged = { job: row.dataset.job, lane: laneOf(row) };
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData(TYPE, dragged.job);
    row.classList.add("at-dragged");
  });

  document.addEventListener("dragover", (event) => {
    const row = rowOf(event.target);
    if (!dragged || !row || laneOf(row) !== dragged.lane) return;
    event.preventDefault();
    for (const other of row.parentElement.children) other.classList.remove("at-drop-before", "at-drop-after");
    row.classList.add(isBelow(row, event) ? "at-drop-after" : "at-drop-before");
  });

  document.addEventListener("drop", (event) => {
    const row = rowOf(event.target);
    if (!dragged || !row || laneOf(row) !== dragged.lane) return;
    event.preventDefault();
    const next = isBelow(row, event) ? row.nextElementSibling : row;
    if (row.dataset.job !== dragged.job && (!next || next.dataset.job !== dragged.job))
      give(`place:${dragged.job}:${next ? next.dataset.job : 0}`);
    dragged = null;
    clear();
  });

  document.addEventListener("dragend", () => {
    dragged = null;
    clear();
  });

  // --- priorities ------------------------------------------------------------------------------------------------

  document.addEventListener("change", (event) => {
    const chosen = event.target.closest("select[data-order-of]");
    if (chosen) give(`${chosen.dataset.orderOf}:${chosen.value}`);
  });

  // --- the keyboard: a control that was drawn anew gets its focus back ---------------------------------------------

  const nameOf = (control) => control.dataset.order || control.dataset.orderOf;
  const inQueue = (target) => target.closest("#at-queue-waiting, #at-queue-running");

  document.addEventListener("focusin", (event) => {
    focused = inQueue(event.target) ? nameOf(event.target) || null : null;
  });

  function restore() {
    if (!focused || document.activeElement !== document.body) return;
    const controls = [...document.querySelectorAll("#at-main [data-order], #at-main [data-order-of]")];
    const same = controls.find((control) => nameOf(control) === focused);
    if (!same) return;
    const usable = same.disabled ? same.parentElement.querySelector(":not(:disabled)") : same;
    if (usable) usable.focus();
  }

  // --- what was unfolded stays so when it is drawn anew -------------------------------------------------------------

  const folded = new Map(); // the wish of a person, by what was folded

  document.addEventListener("click", (event) => {
    const details = event.target.closest("summary")?.parentElement;
    if (details && details.dataset.keep) folded.set(details.dataset.keep, !details.open);
  });

  function unfold() {
    for (const [name, open] of folded) {
      const details = document.querySelector(`details[data-keep="${name}"]`);
      if (details && details.open !== open) details.open = open;
    }
  }

  function look() {
    restore();
    unfold();
  }

  function begin() {
    if (["/queue", "/disk", "/runs"].includes(location.pathname))
      new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  }

  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
