// The framework's text fields tell of a key that was pressed, and of nothing else (Gradio 6.31): what is pasted, cut,
// deleted or composed by an input method is not told. Each such change is told by a key press that writes nothing.
"use strict";
(() => {
  const FIELDS = ".gradio-container label textarea, .gradio-container label input[type=text]";
  let pressed = null; // the field whose key press has told already

  // What a key writes follows in the same task; a key that writes nothing must not count for the next change.
  function note(event) {
    pressed = event.target;
    setTimeout(() => (pressed = null));
  }

  function tell(event) {
    const field = event.target;
    if (pressed === field || event.isComposing || !field.closest(FIELDS)) return;
    setTimeout(() => field.dispatchEvent(new KeyboardEvent("keypress", { key: "Unidentified", bubbles: true })));
  }

  document.addEventListener("keypress", note, true);
  document.addEventListener("input", tell);
  document.addEventListener("compositionend", tell);
})();
