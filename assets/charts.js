// One chart: a canvas that draws the series of several runs over their steps. It knows nothing of where they come from.
"use strict";
(() => {
  const OKABE_ITO = ["#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#d55e00", "#8a7d00"];
  const OKABE_ITO_DARK = ["#5aa9e0", "#2cc295", "#e3a3c6", "#f0b93a", "#8fd0f5", "#f08a4a", "#d9cf4a"];
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [5, 2], [12, 5], [3, 6], [8, 3, 3, 3]];
  const PADDING = { left: 52, right: 12, top: 8, bottom: 22 };
  const DOT = 5; // a point on the left edge is drawn whole
  const MOST_TABLE_ROWS = 500;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--at-${name}`).trim();
  const isDark = () => document.documentElement.dataset.theme === "dark";

  function colourOf(place) {
    if (place === 0) return css("accent");
    const set = isDark() ? OKABE_ITO_DARK : OKABE_ITO;
    return set[(place - 1) % set.length];
  }

  function format(value) {
    if (value === null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2).replace(/\.?0+e\+?/, "e");
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(4)));
  }

  // Exponential moving average without the bias of its start; a gap interrupts the line, not the average.
  function smoothed(values, weight) {
    let sum = 0;
    let mass = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = weight * sum + (1 - weight) * value;
      mass = weight * mass + (1 - weight);
      return sum / mass;
    });
  }

  function niceTicks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 5, 10].find((one) => one * power >= raw) || 10);
    const ticks = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) ticks.push(Math.abs(at) < step * 1e-6 ? 0 : at);
    return ticks;
  }

  function logTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const one of [1, 2, 5]) if (one * 10 ** power >= low && one * 10 ** power <= high) ticks.push(one * 10 ** power);
    return ticks.length > 6 ? ticks.filter((tick) => /^1/.test(tick.toExponential())) : ticks.length > 1 ? ticks : [low, high];
  }

  function percentile(sorted, share) {
    return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
  }

  function firstAtOrAfter(steps, step) {
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  class Chart {
    // `view` is shared by all charts of a page: smoothing, log, zoom [from, to] or null, hover step or null.
    constructor(place, { name, title, caption, exact, words, view, changed }) {
      Object.assign(this, { name, exact, title, words, view, changed, runs: [], drag: null });
      this.element = place;
      place.className = "at-chart";
      place.dataset.metric = name;
      place.innerHTML =
        '<header><h3></h3><button type="button" aria-expanded="false"></button></header>' +
        '<div class="at-stage" tabindex="0" role="img"><canvas></canvas><div class="at-box" hidden></div><div class="at-hover" hidden></div></div>' +
        '<p></p><div class="at-scroll" tabindex="0" hidden></div>';
      place.querySelector("h3").textContent = title;
      place.querySelector("p").textContent = caption;
      this.stage = place.querySelector(".at-stage");
      this.canvas = place.querySelector("canvas");
      this.box = place.querySelector(".at-box");
      this.tip = place.querySelector(".at-hover");
      this.table = place.querySelector(".at-scroll");
      this.button = place.querySelector("button");
      this.button.textContent = words.table;
      this.button.addEventListener("click", () => this.toggleTable());
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.stage);
    }

    // `runs`: [{ place, name, train: {steps, values}, evaluation: {steps, values}, best }]
    show(runs) {
      this.runs = runs;
      this.draw();
      if (!this.table.hidden) this.fillTable();
    }

    // --- geometry ----------------------------------------------------------------------------------------------

    range() {
      if (this.view.zoom) return this.view.zoom;
      let last = 1;
      let first = Infinity;
      for (const run of this.runs)
        for (const line of [run.train, run.evaluation])
          if (line.steps.length) {
            last = Math.max(last, line.steps[line.steps.length - 1]);
            first = Math.min(first, line.steps[0]);
          }
      if (first === Infinity) first = 0;
      return first < last ? [first, last] : [Math.max(0, last - 1), last + 1];
    }

    prepare() {
      const [from, to] = this.range();
      const usable = (value) => value !== null && (!this.view.log || value > 0);
      const raw = [];
      const sure = [];
      this.lines = this.runs.map((run) => {
        const smooth = this.exact ? run.train.values : smoothed(run.train.values, this.view.smoothing);
        const start = firstAtOrAfter(run.train.steps, from);
        const end = firstAtOrAfter(run.train.steps, to + 1e-9);
        for (let at = start; at < end; at++) {
          if (usable(run.train.values[at])) raw.push(run.train.values[at]);
          if (usable(smooth[at])) sure.push(smooth[at]);
        }
        run.evaluation.steps.forEach((step, at) => step >= from && step <= to && usable(run.evaluation.values[at]) && sure.push(run.evaluation.values[at]));
        return { run, smooth, start: Math.max(0, start - 1), end: Math.min(run.train.steps.length, end + 1) };
      });
      raw.sort((a, b) => a - b);
      // A single spike must not flatten the curve: beyond the outer hundredths only the smoothed line counts.
      const clip = raw.length > 100;
      if (raw.length) sure.push(percentile(raw, clip ? 0.01 : 0), percentile(raw, clip ? 0.99 : 1));
      let low = sure.length ? sure.reduce((a, b) => Math.min(a, b)) : 0;
      let high = sure.length ? sure.reduce((a, b) => Math.max(a, b)) : 1;
      if (this.view.log && low > 0) [low, high] = low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.05, high * (high / low) ** 0.05];
      // Averages of equal values differ in their last digit: such a range has no ticks.
      else if (high - low <= Math.abs(high) * 1e-9) [low, high] = [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
      else [low, high] = [low - (high - low) * 0.06, high + (high - low) * 0.06];
      this.empty = !sure.length;
      const width = this.stage.clientWidth - PADDING.left - PADDING.right;
      const height = this.stage.clientHeight - PADDING.top - PADDING.bottom;
      const scale = this.view.log && low > 0 ? Math.log : (value) => value;
      this.log = scale === Math.log;
      this.frame = { from, to, low, high, width, height };
      this.x = (step) => PADDING.left + (width * (step - from)) / (to - from);
      this.y = (value) => PADDING.top + (height * (scale(high) - scale(value))) / (scale(high) - scale(low));
    }

    stepAt(x) {
      const { from, to, width } = this.frame;
      return from + ((x - PADDING.left) / width) * (to - from);
    }

    // --- drawing -----------------------------------------------------------------------------------------------

    draw() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => {
        this.asked = false;
        if (this.stage.clientWidth > 0) this.paint();
      });
    }

    paint() {
      const ratio = devicePixelRatio || 1;
      const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio);
        this.canvas.height = Math.round(height * ratio);
      }
      const pen = this.canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      this.prepare();
      pen.font = `11.5px ${getComputedStyle(document.body).fontFamily}`;
      this.paintGrid(pen);
      if (this.empty) return this.paintEmpty(pen, width, height);
      pen.save();
      pen.beginPath();
      pen.rect(PADDING.left - DOT, 0, this.frame.width + PADDING.right + DOT, PADDING.top + this.frame.height + 1);
      pen.clip();
      for (const line of [...this.lines].reverse()) this.paintRun(pen, line);
      this.paintHover(pen);
      pen.restore();
      this.describe();
    }

    paintEmpty(pen, width, height) {
      pen.fillStyle = css("soft");
      pen.textAlign = "center";
      pen.fillText(this.words.waiting, (width + PADDING.left) / 2, height / 2);
      this.stage.setAttribute("aria-label", `${this.title}: ${this.words.waiting}`);
    }

    paintGrid(pen) {
      const { from, to, low, high, width, height } = this.frame;
      pen.lineWidth = 1;
      pen.strokeStyle = css("line");
      pen.fillStyle = css("soft");
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      for (const tick of this.log ? logTicks(low, high) : niceTicks(low, high, 4)) {
        const y = Math.round(this.y(tick)) + 0.5;
        pen.beginPath();
        pen.moveTo(PADDING.left, y);
        pen.lineTo(PADDING.left + width, y);
        pen.stroke();
        if (!this.empty) pen.fillText(format(tick), PADDING.left - 8, y);
      }
      pen.textAlign = "center";
      for (const tick of niceTicks(from, to, Math.max(2, Math.min(6, width / 70))))
        if (Number.isInteger(tick)) pen.fillText(String(tick), this.x(tick), PADDING.top + height + 13);
    }

    paintRun(pen, { run, smooth, start, end }) {
      const colour = colourOf(run.place);
      pen.lineJoin = "round";
      pen.strokeStyle = colour;
      pen.setLineDash([]);
      if (this.view.smoothing > 0 && !this.exact) {
        pen.globalAlpha = isDark() ? 0.38 : 0.3;
        pen.lineWidth = 1;
        this.trace(pen, run.train.steps, run.train.values, start, end);
        pen.globalAlpha = 1;
      }
      pen.lineWidth = 2;
      pen.setLineDash(DASHES[run.place % DASHES.length]);
      this.trace(pen, run.train.steps, smooth, start, end);
      pen.setLineDash([]);
      this.paintEvaluation(pen, run, run.place === 0 ? css("second") : colour);
    }

    trace(pen, steps, values, start, end) {
      pen.beginPath();
      let down = false;
      let alone = null;
      const dot = () => alone && pen.rect(alone[0] - 0.5, alone[1] - 0.5, 1, 1);
      for (let at = start; at < end; at++) {
        const value = values[at];
        if (value === null || (this.log && value <= 0)) {
          dot();
          down = false;
          alone = null;
          continue;
        }
        const [x, y] = [this.x(steps[at]), this.y(value)];
        alone = down ? null : [x, y];
        if (down) pen.lineTo(x, y);
        else pen.moveTo(x, y);
        down = true;
      }
      dot();
      pen.stroke();
    }

    paintEvaluation(pen, run, colour) {
      const { steps, values } = run.evaluation;
      if (!steps.length) return;
      pen.strokeStyle = colour;
      pen.lineWidth = 1.2;
      this.trace(pen, steps, values, 0, steps.length);
      steps.forEach((step, at) => {
        if (values[at] === null || (this.log && values[at] <= 0)) return;
        pen.beginPath();
        pen.arc(this.x(step), this.y(values[at]), 3.4, 0, 7);
        pen.fillStyle = run.place === 0 ? colour : css("card");
        pen.fill();
        pen.stroke();
        if (step === run.best) this.paintBest(pen, this.x(step), this.y(values[at]), run.place);
      });
    }

    paintBest(pen, x, y, place) {
      pen.save();
      pen.strokeStyle = pen.fillStyle = css("good");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, 7, 0, 7);
      pen.stroke();
      if (place === 0) {
        const left = x > PADDING.left + this.frame.width - 46;
        pen.textAlign = left ? "right" : "left";
        pen.textBaseline = "bottom";
        pen.fillText(this.words.best, x + (left ? -9 : 9), Math.max(14, y - 4));
      }
      pen.restore();
    }

    paintHover(pen) {
      const step = this.view.hover;
      if (step === null || step < this.frame.from || step > this.frame.to) return;
      pen.strokeStyle = css("soft");
      pen.setLineDash([3, 3]);
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(this.x(step), PADDING.top);
      pen.lineTo(this.x(step), PADDING.top + this.frame.height);
      pen.stroke();
      pen.setLineDash([]);
    }

    describe() {
      const { steps, values } = this.runs[0].train;
      const last = steps.length - 1;
      const value = last >= 0 ? `: ${format(values[last])}, ${this.words.step} ${steps[last]}` : "";
      this.stage.setAttribute("aria-label", this.title + value);
    }

    // --- pointer and keys --------------------------------------------------------------------------------------

    listen() {
      const at = (event) => event.clientX - this.stage.getBoundingClientRect().left;
      this.stage.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || this.empty || event.pointerType === "touch") return;
        this.drag = { from: at(event), to: at(event) };
        this.stage.setPointerCapture(event.pointerId);
      });
      this.stage.addEventListener("pointermove", (event) => {
        if (this.empty || !this.frame) return;
        if (this.drag) this.showBox(at(event));
        this.hover(this.nearest(this.stepAt(at(event))));
      });
      this.stage.addEventListener("pointerup", () => this.finishDrag());
      this.stage.addEventListener("pointercancel", () => this.finishDrag(true));
      this.stage.addEventListener("pointerleave", () => this.hover(null));
      this.stage.addEventListener("blur", () => this.hover(null));
      this.stage.addEventListener("dblclick", () => this.zoom(null));
      this.stage.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      if (this.empty || !this.frame) return;
      const { from, to } = this.frame;
      const steps = this.runs[0].train.steps;
      const here = this.view.hover === null ? steps.length - 1 : firstAtOrAfter(steps, this.view.hover);
      const middle = this.view.hover === null ? (from + to) / 2 : this.view.hover;
      const moves = {
        ArrowLeft: () => this.hover(steps[Math.max(0, here - 1)]),
        ArrowRight: () => this.hover(steps[Math.min(steps.length - 1, here + 1)]),
        Home: () => this.hover(steps[0]),
        End: () => this.hover(steps[steps.length - 1]),
        "+": () => this.zoom([middle - (middle - from) / 2, middle + (to - middle) / 2]),
        "-": () => this.zoom(null),
        Escape: () => this.zoom(null),
      };
      if (!moves[event.key]) return;
      event.preventDefault();
      moves[event.key]();
    }

    nearest(step) {
      const steps = this.runs.map((run) => run.train.steps).find((one) => one.length) || [];
      const at = firstAtOrAfter(steps, step);
      const near = [steps[at - 1], steps[at]].filter((one) => one !== undefined);
      return near.sort((a, b) => Math.abs(a - step) - Math.abs(b - step))[0] ?? Math.round(step);
    }

    showBox(x) {
      this.drag.to = Math.min(PADDING.left + this.frame.width, Math.max(PADDING.left, x));
      this.box.hidden = Math.abs(this.drag.to - this.drag.from) < 4;
      this.box.style.left = `${Math.min(this.drag.from, this.drag.to)}px`;
      this.box.style.width = `${Math.abs(this.drag.to - this.drag.from)}px`;
    }

    finishDrag(dropped) {
      const drag = this.drag;
      this.drag = null;
      this.box.hidden = true;
      if (dropped || !drag || Math.abs(drag.to - drag.from) < 8) return;
      const ends = [this.stepAt(drag.from), this.stepAt(drag.to)].sort((a, b) => a - b);
      this.zoom([Math.max(0, Math.floor(ends[0])), Math.ceil(ends[1])]);
    }

    zoom(range) {
      this.view.zoom = range && range[1] - range[0] >= 1 ? range.map(Math.round) : null;
      this.changed();
    }

    hover(step) {
      if (step === this.view.hover) return;
      this.view.hover = step === undefined ? null : step;
      this.tip.hidden = this.view.hover === null;
      if (!this.tip.hidden) this.fillTip(step);
      this.changed(true);
    }

    fillTip(step) {
      const rows = [`${this.words.step} ${step}`];
      for (const { run, smooth } of this.lines) {
        const at = firstAtOrAfter(run.train.steps, step);
        const name = this.lines.length > 1 ? `${run.name} ` : "";
        if (run.train.steps[at] === step) rows.push(`${name}${format(run.train.values[at])}${this.view.smoothing > 0 && !this.exact ? ` (${format(smooth[at])})` : ""}`);
        const evaluated = run.evaluation.steps.indexOf(step);
        if (evaluated >= 0) rows.push(`${name}${this.words.evaluation} ${format(run.evaluation.values[evaluated])}`);
      }
      this.tip.replaceChildren(...rows.map((row) => Object.assign(document.createElement("div"), { textContent: row })));
      const x = this.x(step);
      const right = x > this.stage.clientWidth / 2;
      this.tip.style.left = right ? "auto" : `${x + 10}px`;
      this.tip.style.right = right ? `${this.stage.clientWidth - x + 10}px` : "auto";
      this.tip.style.top = "8px";
    }

    // --- the same numbers as a table ---------------------------------------------------------------------------

    toggleTable() {
      this.table.hidden = !this.table.hidden;
      this.button.setAttribute("aria-expanded", String(!this.table.hidden));
      if (!this.table.hidden) this.fillTable();
    }

    fillTable() {
      const { from, to } = this.frame || { from: 0, to: Infinity };
      const columns = this.runs.flatMap((run) => {
        const name = this.runs.length > 1 ? run.name : this.title;
        const train = { head: name, line: run.train };
        return run.evaluation.steps.length ? [train, { head: `${name} · ${this.words.evaluation}`, line: run.evaluation }] : [train];
      });
      const found = columns.map(({ line }) => new Map(line.steps.map((step, at) => [step, line.values[at]])));
      const steps = [...new Set(columns.flatMap(({ line }) => line.steps))].filter((step) => step >= from && step <= to).sort((a, b) => b - a);
      const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
      const row = (kind, cells) => {
        const made = document.createElement("tr");
        made.append(...cells.map((text) => cell(kind, text)));
        return made;
      };
      const table = document.createElement("table");
      table.className = "at-table";
      table.append(row("th", [this.words.step, ...columns.map((column) => column.head)]));
      for (const step of steps.slice(0, MOST_TABLE_ROWS))
        table.append(row("td", [String(step), ...found.map((values) => (values.has(step) ? format(values.get(step)) : ""))]));
      this.table.replaceChildren(table);
    }
  }

  window.AtelierChart = { Chart, DASHES, colourOf, firstAtOrAfter };
})();
