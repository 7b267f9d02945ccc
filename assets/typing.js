// The framework's text fields tell of a key that was pressed, and of nothing else (Gradio 6.31): what is pasted, cut,
// deleted or composed by an input method is not told. Each such change is told by a key press that writes nothing.
"use strict";
(() => {
  let pressed = null; // the field whose key press has told already

  document.addEventListener("keypress", (event) => (pressed = event.target), true);

  document.addEventListener("input", (event) => {
    const told = pressed === event.target;
    pressed = null;
    if (told || event.isComposing || !event.target.closest(".gradio-container label textarea, .gradio-container label input[type=text]")) return;
    setTimeout(() => tell(event.target));
  });

  document.addEventListener("compositionend", (event) => setTimeout(() => tell(event.target)));

  function tell(field) {
    field.dispatchEvent(new KeyboardEvent("keypress", { key: "Unidentified", bubbles: true }));
    pressed = null;
  }
})();
