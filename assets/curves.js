// The curves of a page: asks for new points of all runs in one request, and hands them to the charts.
"use strict";
(() => {
  const LIVE_MS = 1000;
  const RESTING_MS = 4000;
  const RETRY_MS = 1000;
  const MOST_POINTS = 3000; // beyond this the server is asked for its down-sampled series again
  const SMOOTHING = "atelier_smoothing";
  const EVALUATION = "eval_";
  const nothing = { steps: [], values: [] };

  class Line {
    constructor() {
      this.steps = [];
      this.values = [];
    }

    put(step, value) {
      const last = this.steps.length - 1;
      if (last < 0 || step > this.steps[last]) {
        this.steps.push(step);
        this.values.push(value);
        return;
      }
      const at = window.AtelierChart.firstAtOrAfter(this.steps, step);
      const replaced = this.steps[at] === step ? 1 : 0;
      this.steps.splice(at, replaced, step);
      this.values.splice(at, replaced, value);
    }
  }

  class Curves {
    constructor(element) {
      this.element = element;
      const { runs, charts, words } = JSON.parse(element.dataset.curves);
      Object.assign(this, { charts, words, drawn: new Map(), received: 0 });
      this.runs = runs.map((id, place) => ({ id, place, name: "", after: "", series: new Map(), best: null, live: true }));
      this.view = { smoothing: Number(localStorage.getItem(SMOOTHING) ?? 0.6), log: false, zoom: zoomInAddress(), hover: null };
      this.buildTools();
      this.grid = element.appendChild(Object.assign(document.createElement("div"), { className: "at-charts" }));
      for (const chart of charts) this.addChart(chart);
      this.gone = new AbortController(); // once the element is replaced, nothing keeps this alive
      document.addEventListener("atelier:theme", () => this.redraw(), { signal: this.gone.signal });
      this.keepRunsInAddress();
      this.poll();
    }

    keepRunsInAddress() {
      const query = new URLSearchParams(location.search);
      query.set("run", this.runs[0].id);
      query.delete("with");
      if (this.runs.length > 1) query.set("with", this.runs.slice(1).map((run) => run.id).join(","));
      history.replaceState(history.state, "", `${location.pathname}?${query.toString().replaceAll("%2C", ",")}${location.hash}`);
    }

    // --- tools -------------------------------------------------------------------------------------------------

    buildTools() {
      const tools = document.createElement("div");
      tools.className = "at-chart-tools";
      tools.innerHTML =
        '<label><span></span><input type="range" min="0" max="0.99" step="0.01"><output></output></label>' +
        '<label><input type="checkbox"><span></span></label><button type="button" hidden></button><span class="at-key"></span><span class="at-state" role="status"></span>';
      const [smoothing, log] = tools.querySelectorAll("label");
      smoothing.querySelector("span").textContent = this.words.smoothing;
      log.querySelector("span").textContent = this.words.log;
      const [slider, output, box] = [smoothing.querySelector("input"), smoothing.querySelector("output"), log.querySelector("input")];
      slider.value = this.view.smoothing;
      output.textContent = this.view.smoothing.toFixed(2);
      slider.addEventListener("input", () => {
        this.view.smoothing = Number(slider.value);
        output.textContent = this.view.smoothing.toFixed(2);
        localStorage.setItem(SMOOTHING, slider.value);
        this.redraw();
      });
      box.addEventListener("change", () => {
        this.view.log = box.checked;
        this.redraw();
      });
      this.reset = tools.querySelector("button");
      this.reset.textContent = this.words.reset;
      this.reset.addEventListener("click", () => {
        this.view.zoom = null;
        this.changed();
      });
      this.key = tools.querySelector(".at-key");
      this.state = tools.querySelector(".at-state");
      this.element.append(tools);
      this.reset.hidden = !this.view.zoom;
    }

    fillKey() {
      if (this.runs.length < 2) return;
      const { DASHES, colourOf } = window.AtelierChart;
      this.key.replaceChildren(
        ...this.runs.map((run) => {
          const item = document.createElement("span");
          item.innerHTML = '<svg viewBox="0 0 26 8"><path d="M0 4h26" stroke-width="2.5" fill="none"></path></svg>';
          item.querySelector("path").setAttribute("stroke", colourOf(run.place));
          item.querySelector("path").setAttribute("stroke-dasharray", DASHES[run.place % DASHES.length].join(" "));
          item.append(run.name || `#${run.id}`);
          return item;
        }),
      );
    }

    // --- charts ------------------------------------------------------------------------------------------------

    addChart({ name, title, caption, exact }) {
      const place = this.grid.appendChild(document.createElement("section"));
      const options = { name, title, caption, exact, words: this.words, view: this.view, changed: (light) => this.changed(light) };
      this.drawn.set(name, new window.AtelierChart.Chart(place, options));
    }

    changed(light) {
      if (!light) {
        const zoom = this.view.zoom ? `#zoom=${this.view.zoom[0]}-${this.view.zoom[1]}` : "";
        history.replaceState(history.state, "", location.pathname + location.search + zoom);
        this.reset.hidden = !this.view.zoom;
      }
      for (const chart of this.drawn.values()) {
        chart.draw();
        if (!light && !chart.table.hidden) requestAnimationFrame(() => chart.fillTable());
      }
    }

    redraw() {
      this.fillKey();
      for (const name of this.drawn.keys()) this.show(name);
    }

    show(name) {
      const lines = this.runs.map((run) => ({
        place: run.place,
        name: run.name,
        best: run.best,
        train: run.series.get(name) || nothing,
        evaluation: run.series.get(EVALUATION + name) || nothing,
      }));
      this.drawn.get(name).show(lines);
    }

    // --- points ------------------------------------------------------------------------------------------------

    async poll() {
      if (!this.element.isConnected) return this.gone.abort();
      const pause = document.hidden ? RESTING_MS : await this.ask();
      setTimeout(() => this.poll(), pause);
    }

    async ask() {
      const asked = new URLSearchParams();
      for (const run of this.runs) asked.append("run", run.id);
      for (const run of this.runs) asked.append("after", run.after);
      try {
        const answer = await fetch(`/live/metrics?${asked}`, { cache: "no-store" });
        if (answer.status === 401) location.assign("/login");
        if (!answer.ok) throw new Error(answer.statusText);
        this.take((await answer.json()).runs);
      } catch {
        this.say("reconnecting");
        return RETRY_MS;
      }
      const live = this.runs.some((run) => run.live);
      this.say(live ? "live" : "");
      return live ? LIVE_MS : RESTING_MS;
    }

    say(code) {
      this.element.dataset.state = code;
      const text = code ? this.words[code] : "";
      if (this.state.textContent !== text) this.state.textContent = text;
    }

    take(answers) {
      const touched = new Set();
      const steps = new Set();
      let renamed = false;
      answers.forEach((answer, place) => {
        const run = this.runs[place];
        if (answer.gone) return Object.assign(run, { live: false });
        if (answer.anew) {
          for (const name of run.series.keys()) touched.add(chartOf(name));
          run.series.clear();
        }
        for (const [name, points] of Object.entries(answer.series)) {
          touched.add(chartOf(name));
          this.put(run, name, points, answer.anew ? new Set() : steps);
        }
        if (run.best !== answer.best) touched.add("loss");
        renamed = renamed || run.name !== answer.name;
        const long = [...run.series.values()].some((line) => line.steps.length > MOST_POINTS);
        Object.assign(run, { name: answer.name, best: answer.best, live: answer.live, after: long ? "" : answer.after });
      });
      if (renamed) this.fillKey();
      for (const name of touched) {
        if (this.drawn.has(name)) this.show(name);
      }
      if (touched.size) this.announce(steps);
    }

    put(run, name, points, steps) {
      if (!run.series.has(name)) run.series.set(name, new Line());
      const line = run.series.get(name);
      for (const [step, value] of points) {
        line.put(step, value);
        if (run.place === 0) steps.add(step);
      }
      this.received += points.length;
    }

    // After the charts were painted: how many points came, and which steps of the first run were new.
    announce(steps) {
      const receivedAt = Date.now();
      requestAnimationFrame(() => {
        this.element.dataset.points = String(this.received);
        const train = this.runs[0].series.get("loss");
        if (train && train.steps.length) this.element.dataset.step = String(train.steps[train.steps.length - 1]);
        const detail = { run: this.runs[0].id, steps: [...steps], receivedAt, drawnAt: Date.now() };
        document.dispatchEvent(new CustomEvent("atelier:points", { detail }));
      });
    }
  }

  function chartOf(name) {
    return name.startsWith(EVALUATION) ? name.slice(EVALUATION.length) : name;
  }

  function zoomInAddress() {
    const found = /zoom=(\d+)-(\d+)/.exec(location.hash);
    return found && Number(found[2]) > Number(found[1]) ? [Number(found[1]), Number(found[2])] : null;
  }

  function start() {
    for (const element of document.querySelectorAll(".at-curves:not([data-started])")) {
      element.dataset.started = "";
      new Curves(element);
    }
  }

  new MutationObserver(start).observe(document.documentElement, { childList: true, subtree: true });
  start();
})();
