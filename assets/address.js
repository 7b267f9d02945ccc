// A panel that holds <span data-address="/data?dataset=x"> sets the address: what was made or renamed can be reloaded.
"use strict";
(() => {
  let last = "";
  function follow() {
    const mark = document.querySelector("[data-address]");
    const wanted = mark ? mark.dataset.address : "";
    if (wanted === last) return;
    last = wanted;
    if (wanted && wanted.split("?")[0] === location.pathname) history.replaceState(history.state, "", wanted);
  }
  function begin() {
    new MutationObserver(follow).observe(document.body, { childList: true, subtree: true });
  }
  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
