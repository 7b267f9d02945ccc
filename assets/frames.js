// Gradio's loading screen counts its seconds on after it has gone (6.31): sixty wake-ups a second, which cost a training
// run on the same cores a part of its speed. A loop of frames that began with the page and never pauses is let go.
"use strict";
(() => {
  const BEGAN_WITHIN_MS = 15000;
  const OLDEST_MS = 20000;
  const ask = window.requestAnimationFrame.bind(window);
  let current = null; // the loop whose frame is being drawn

  window.requestAnimationFrame = (draw) => {
    const now = performance.now();
    const loop = current || { since: now };
    if (loop.since < BEGAN_WITHIN_MS && now - loop.since > OLDEST_MS) return 0;
    return ask((at) => {
      current = loop;
      try {
        draw(at);
      } finally {
        current = null;
      }
    });
  };
})();
