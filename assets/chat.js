// The transcript: reads the rows of a conversation and draws them. Text is set as text, never as HTML.
"use strict";
(() => {
  const BUSY_MS = 100; // until a question is there
  const HELD_MS = 10; // while an answer grows the server holds each request until there is something to see
  const IDLE_MS = 1500;
  const LATE_MS = 10000; // the connection is gone without a word
  const HURRY_MS = 4000;
  const DRAFT = "atelier_question";

  let current = null; // the conversation that is drawn
  let newest = -1; // the latest message that is known
  let open = []; // answers that still grow
  let seen = ""; // what the server last told, in its own words
  let hurryUntil = 0; // after a question: look often until it is there
  let orders = 0;
  let timer = 0;
  let reading = null; // one read at a time

  const byId = (id) => document.getElementById(id);
  const field = (id) => document.querySelector(`#${id} textarea, #${id} input`);

  // --- the address leads; a new conversation's number comes from the handler --------------------------------------

  function wanted() {
    const named = new URLSearchParams(location.search).get("conversation");
    if (named) return named;
    const given = field("at-conversation");
    if (given && given.value && performance.now() < hurryUntil) {
      history.replaceState(null, "", `${location.pathname}?conversation=${given.value}`);
      return given.value;
    }
    return null;
  }

  function clear(place) {
    newest = -1;
    open = [];
    seen = "";
    place.replaceChildren();
    place.classList.remove("at-lost");
  }

  async function tick() {
    clearTimeout(timer);
    const place = byId("at-chat");
    if (!place) return again(300);
    const conversation = wanted();
    if (conversation !== current) {
      current = conversation;
      clear(place);
    }
    byId("at-chat-empty").hidden = Boolean(conversation);
    if (conversation && !document.hidden && !(await read(place, conversation))) return;
    busy(place);
    again(pause(conversation));
  }

  function pause(conversation) {
    if (document.hidden) return IDLE_MS;
    if (open.length) return HELD_MS;
    if (performance.now() < hurryUntil) return BUSY_MS;
    return conversation ? IDLE_MS : 300;
  }

  function again(wait) {
    clearTimeout(timer);
    timer = setTimeout(tick, wait);
  }

  // False if a later read has taken its place.
  async function read(place, conversation) {
    reading?.abort();
    const mine = (reading = new AbortController());
    const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(LATE_MS)]);
    const known = open.length ? `&open=${open.join(",")}&seen=${seen}` : "";
    try {
      const answer = await fetch(`/live/conversation?id=${conversation}&after=${newest}${known}`, { cache: "no-store", signal });
      if (answer.status === 401) {
        location.assign("/login");
        return false;
      }
      if (answer.status === 404) gone(place);
      else if (!answer.ok) throw new Error(answer.status);
      else draw(place, await answer.json());
      place.classList.remove("at-lost");
    } catch {
      if (mine.signal.aborted) return false;
      place.classList.add("at-lost");
      hurryUntil = 0;
      open = [];
      newest = -1; // read it whole when the connection is back
    }
    return true;
  }

  function gone(place) {
    history.replaceState(null, "", location.pathname);
    const given = field("at-conversation");
    if (given) given.value = "";
    hurryUntil = 0;
    clear(place);
  }

  // --- drawing ---------------------------------------------------------------------------------------------------

  function draw(place, told) {
    if (String(told.id) !== current) return;
    const follow = innerHeight + scrollY > document.documentElement.scrollHeight - 160;
    const grew = told.anew && newest >= 0;
    if (told.anew) arrange(place, told.messages);
    for (const message of told.messages) fill(place, message);
    if (told.newest > newest && grew) hurryUntil = 0;
    newest = told.newest;
    seen = told.seen;
    open = told.messages.filter((message) => message.open).map((message) => message.id);
    if (follow && told.messages.length) scrollTo({ top: document.documentElement.scrollHeight });
  }

  // One line for each question, one for its answers side by side; what is there already stays.
  function arrange(place, messages) {
    const last = Math.max(...messages.map((message) => message.turn));
    const kept = new Set();
    for (const message of messages) {
      const line = lineOf(place, message);
      const box = byId(`at-m${message.id}`) || line.appendChild(make(place, message));
      box.classList.toggle("at-last", message.turn === last);
      kept.add(box.id);
    }
    for (const box of place.querySelectorAll(".at-msg")) if (!kept.has(box.id)) box.remove();
    for (const line of place.children) line.classList.toggle("at-two", line.childElementCount > 1);
    for (const line of place.children) order(line);
  }

  function lineOf(place, message) {
    const id = `at-t${message.turn}${message.role === "user" ? "q" : "a"}`;
    let line = byId(id);
    if (!line) {
      line = element("div", "at-line");
      line.id = id;
      place.append(line);
    }
    return line;
  }

  function order(line) {
    const sorted = [...line.children].sort((one, other) => one.dataset.slot - other.dataset.slot);
    sorted.forEach((box, index) => {
      if (line.children[index] !== box) line.insertBefore(box, line.children[index]);
    });
  }

  function make(place, message) {
    const mine = message.role === "user";
    const box = element("article", `at-msg ${mine ? "at-mine" : "at-theirs"}`);
    box.id = `at-m${message.id}`;
    box.dataset.slot = message.slot;
    const who = element("div", "at-who");
    who.textContent = mine ? place.dataset.wordYou : message.who;
    const body = element("div", "at-said");
    const problem = element("p", "at-trouble");
    const foot = element("div", "at-meta");
    foot.append(element("span", "at-facts-line"));
    foot.append(button(place.dataset.wordCopy, { copyMessage: message.id }));
    if (!mine) foot.append(button(place.dataset.wordAgain, { order: `again:${message.id}` }, "at-again"));
    box.append(who, body, problem, foot);
    return box;
  }

  function fill(place, message) {
    const box = byId(`at-m${message.id}`);
    if (!box) return;
    put(box.querySelector(".at-said"), message.content);
    put(box.querySelector(".at-facts-line"), message.note);
    put(box.querySelector(".at-trouble"), message.problem);
    box.dataset.state = message.state;
    box.classList.toggle("at-open", message.open);
    box.setAttribute("aria-busy", String(message.open));
  }

  // Only what was added is appended, so that a selection in the text survives.
  function put(place, text) {
    const shown = place.textContent;
    if (shown === text) return;
    const node = place.firstChild;
    if (node && shown && text.startsWith(shown)) node.appendData(text.slice(shown.length));
    else place.textContent = text;
  }

  function element(name, classes) {
    const made = document.createElement(name);
    made.className = classes;
    return made;
  }

  function button(label, data, classes = "") {
    const made = element("button", `at-link ${classes}`);
    made.type = "button";
    made.textContent = label;
    Object.assign(made.dataset, data);
    return made;
  }

  function busy(place) {
    const page = place.closest("#at-main");
    page.classList.toggle("at-answering", open.length > 0);
    page.classList.toggle("at-talking", Boolean(current));
  }

  // --- what a person does ----------------------------------------------------------------------------------------

  function give(order) {
    const given = field("at-order");
    if (!given) return;
    orders += 1;
    given.value = `${order}:${Date.now() % 1e9}${orders}`;
    given.dispatchEvent(new Event("input", { bubbles: true }));
    if (byId("at-chat")) hurry();
  }

  function hurry() {
    hurryUntil = performance.now() + HURRY_MS;
    again(BUSY_MS);
  }

  function asked() {
    localStorage.removeItem(DRAFT);
    hurry();
  }

  async function copyAnswer(pressed) {
    const box = byId(`at-m${pressed.dataset.copyMessage}`);
    await navigator.clipboard.writeText(box.querySelector(".at-said").textContent);
    const place = byId("at-chat");
    pressed.textContent = place.dataset.wordCopied;
    setTimeout(() => (pressed.textContent = place.dataset.wordCopy), 1200);
  }

  document.addEventListener("atelier:order", (event) => give(event.detail));

  // A button with data-order tells the page's hidden field what to do; data-sure asks before.
  document.addEventListener("click", (event) => {
    const order = event.target.closest("[data-order]");
    if (order && (!order.dataset.sure || confirm(order.dataset.sure))) return give(order.dataset.order);
    if (!byId("at-chat")) return;
    if (event.target.closest("#at-send")) return asked();
    if (event.target.closest("#at-stop")) return current && give(`stop:${current}`);
    const copy = event.target.closest("[data-copy-message]");
    if (copy) return copyAnswer(copy);
    if (event.target.closest("a[data-select]")) hurry();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.closest("#at-question")) asked();
    if (event.key === "Escape" && current && open.length) give(`stop:${current}`);
  });

  // A half-written question survives a reload.
  document.addEventListener("input", (event) => {
    if (event.target.closest("#at-question") && event.isTrusted) localStorage.setItem(DRAFT, event.target.value);
  });

  function restore() {
    const question = field("at-question");
    if (!question) return byId("at-chat") ? setTimeout(restore, 100) : undefined;
    const kept = localStorage.getItem(DRAFT);
    if (!kept || question.value) return;
    question.value = kept;
    question.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function begin() {
    if (location.pathname !== "/chat") return;
    document.addEventListener("visibilitychange", () => again(0));
    tick();
    setTimeout(restore, 300);
  }

  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
