// The framework's loading screen counts its seconds on after it has gone (Gradio 6.31): sixty wake-ups a second for as
// long as a page is open, which cost a training run on the same cores a part of its speed. A chain of frames that began
// with the page and never ends is slowed down to one a second. It must run before the framework's scripts.
"use strict";
(() => {
  const BEGAN_WITHIN_MS = 15000;
  const OLD_AFTER_MS = 20000;
  const PAUSE_MS = 1000;
  const ask = window.requestAnimationFrame.bind(window);
  let current = null; // the chain whose frame is being drawn

  window.requestAnimationFrame = (draw) => {
    const now = performance.now();
    const chain = current || { since: now };
    const drawn = (at) => {
      const before = current;
      current = chain;
      try {
        draw(at);
      } finally {
        current = before;
      }
    };
    if (chain.since > BEGAN_WITHIN_MS || now - chain.since < OLD_AFTER_MS) return ask(drawn);
    setTimeout(() => ask(drawn), PAUSE_MS);
    return 0;
  };
})();
