// One parameter: inconsistency and class gap along it, or the gap alone, and the kinds as a strip.

import { followKeys, followPointer, followWheel } from "./gestures.js";
import { axisName, drawCross, drawDiamond, ticks } from "./map.js";
import { number } from "./words.js";

const MARGIN = { left: 62, right: 16, top: 14, bottom: 46 };
const STRIP = 22;
const GAP = 30;

export class LineView {
  constructor(host, state, keys) {
    this.state = state;
    this.look = state.look;
    this.canvas = host.querySelector("canvas");
    this.waiting = false;
    const { arrays } = state.look;
    const edges = arrays["line.edges"].values;
    this.order = [...Array(edges.length / 2).keys()].sort((a, b) => edges[2 * a] - edges[2 * b]);
    const place = (event) => this.place(event);
    followPointer(this.canvas, state, place);
    followWheel(this.canvas, state, place);
    followKeys(host, state, keys);
    state.listen(() => this.refresh());
    new ResizeObserver(() => this.refresh()).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh());
  }

  refresh() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  // Draws at once what paper shall show, whose ink is black in the dark, too.
  print() {
    this.draw(Math.max(2, window.devicePixelRatio || 1), "#000");
  }

  get frame() {
    const { clientWidth, clientHeight } = this.canvas;
    const { left, right, top, bottom } = MARGIN;
    return { left, top, width: Math.max(1, clientWidth - left - right), height: Math.max(1, clientHeight - top - bottom) };
  }

  place(event) {
    const { left, top, width, height } = this.frame;
    const bounds = this.canvas.getBoundingClientRect();
    const p = (event.clientX - bounds.left - left) / width;
    const q = (event.clientY - bounds.top - top) / height;
    const { x0, x1 } = this.state.view;
    return { x: x0 + p * (x1 - x0), y: 0.5, inside: p >= 0 && p <= 1 && q >= 0 && q <= 1, width, height };
  }

  across(theta) {
    const { left, width } = this.frame;
    const { x0, x1 } = this.state.view;
    const x = (theta - this.look.axes[0].low) / this.look.widths[0];
    return left + ((x - x0) / (x1 - x0)) * width;
  }

  draw(ratio = window.devicePixelRatio || 1, ink = getComputedStyle(this.canvas).color) {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.ink = ink;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { left, top, width, height } = this.frame;
    const { arrays, facts } = this.look;
    const strip = { left, width, top: top + height - STRIP, height: STRIP };
    const graphs = strip.top - top - (facts.class_alone ? 1 : 2) * GAP;
    const upper = { left, width, top, height: graphs * 0.58 };
    const gap = facts.class_alone
      ? { left, width, top, height: graphs }
      : { left, width, top: top + upper.height + GAP, height: graphs * 0.42 };
    this.drawSafeRange(context, facts.class_alone ? [gap] : [upper, gap]);
    if (!facts.class_alone) {
      const drift = arrays["line.inconsistency"].values;
      this.drawGraph(context, upper, drift, facts.threshold, `δ = ${number(facts.threshold, 12)}`, "inconsistency", true);
    }
    this.drawGraph(context, gap, arrays["line.gap"].values, 0, "", "class gap", false);
    this.drawStrip(context, strip);
    this.drawAxis(context, strip);
    this.drawPlaces(context, top, strip);
  }

  drawSafeRange(context, panels) {
    const { origin, palette } = this.look.facts;
    if (!origin) return;
    const [from, to] = origin.ranges[0].map((value) => this.clamped(this.across(value)));
    context.fillStyle = `rgba(${palette.flat[0].join(",")}, .2)`;
    for (const { top, height } of panels) context.fillRect(from, top, to - from, height);
  }

  clamped(x) {
    const { left, width } = this.frame;
    return Math.min(left + width, Math.max(left, x));
  }

  drawGraph(context, panel, values, limit, limitName, name, fromZero) {
    const { ink } = this;
    const known = [...values].filter(Number.isFinite);
    const low = fromZero ? 0 : Math.min(limit, ...known);
    const high = Math.max(limit, ...known, low + 1e-9);
    const room = 0.06 * (high - low);
    const [bottom, most] = [fromZero ? 0 : low - room, high + room];
    const up = (value) => panel.top + panel.height * (1 - (value - bottom) / (most - bottom));
    context.strokeStyle = ink;
    context.fillStyle = ink;
    context.lineWidth = 1;
    context.strokeRect(panel.left - 0.5, panel.top - 0.5, panel.width + 1, panel.height + 1);
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [value, text] of ticks(bottom, most, panel.height / 42)) {
      context.fillRect(panel.left - 5, up(value) - 0.5, 5, 1);
      context.fillText(text, panel.left - 8, up(value));
    }
    context.save();
    context.translate(14, panel.top + panel.height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.font = "600 13px system-ui, sans-serif";
    context.fillText(name, 0, 0, panel.height);
    context.restore();
    context.save();
    context.beginPath();
    context.rect(panel.left, panel.top, panel.width, panel.height);
    context.clip();
    context.setLineDash([6, 5]);
    context.strokeStyle = "#c2540a";
    context.lineWidth = 1.6;
    context.beginPath();
    context.moveTo(panel.left, up(limit));
    context.lineTo(panel.left + panel.width, up(limit));
    context.stroke();
    context.setLineDash([]);
    this.drawCurve(context, values, up, ink);
    context.font = "600 12px system-ui, sans-serif";
    context.fillStyle = "#c2540a";
    context.textAlign = "right";
    context.textBaseline = up(limit) - panel.top < 22 ? "top" : "bottom";
    context.fillText(limitName, panel.left + panel.width - 6, up(limit) + (up(limit) - panel.top < 22 ? 4 : -3));
    context.restore();
  }

  // The values at both ends of each stretch, with a gap wherever they jump.
  drawCurve(context, values, up, ink) {
    const edges = this.look.arrays["line.edges"].values;
    context.strokeStyle = ink;
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    let [x, y] = [NaN, NaN];
    for (const k of this.order) {
      const [from, to] = [values[2 * k], values[2 * k + 1]];
      if (!Number.isFinite(from) || !Number.isFinite(to)) continue;
      const joined = edges[2 * k] === x && Math.abs(from - y) <= 1e-6 * Math.max(1, Math.abs(y));
      if (!joined) context.moveTo(this.across(edges[2 * k]), up(from));
      context.lineTo(this.across(edges[2 * k + 1]), up(to));
      [x, y] = [edges[2 * k + 1], to];
    }
    context.stroke();
  }

  drawStrip(context, { left, top, width, height }) {
    const { palette } = this.look.facts;
    const edges = this.look.arrays["line.edges"].values;
    const kinds = this.look.arrays["line.kind"].values;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.fillStyle = striped(context, palette);
    context.fillRect(left, top, width, height);
    for (const k of this.order) {
      if (kinds[k] === 3) continue;
      context.fillStyle = `rgb(${palette.flat[kinds[k]].join(",")})`;
      const from = this.across(edges[2 * k]);
      context.fillRect(Math.floor(from), top, Math.ceil(this.across(edges[2 * k + 1])) - Math.floor(from), height);
      if (kinds[k] === 0) continue;
      context.fillStyle = "rgba(0, 0, 0, .3)"; // a line along lost attention, two along a lost class
      const reach = this.across(edges[2 * k + 1]) - from;
      if (kinds[k] === 2) context.fillRect(from, top + height / 2 - 1, reach, 2);
      else for (const share of [0.3, 0.65]) context.fillRect(from, top + height * share, reach, 2);
    }
    context.restore();
    context.strokeStyle = this.ink;
    context.lineWidth = 1;
    context.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
  }

  drawAxis(context, { left, top, width, height }) {
    const axis = this.look.axes[0];
    const { x0, x1 } = this.state.view;
    context.fillStyle = this.ink;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [value, text] of ticks(axis.low + x0 * this.look.widths[0], axis.low + x1 * this.look.widths[0], width / 80)) {
      context.fillRect(this.across(value) - 0.5, top + height, 1, 5);
      context.fillText(text, this.across(value), top + height + 8);
    }
    context.font = "600 13px system-ui, sans-serif";
    context.textBaseline = "bottom";
    context.fillText(axisName(axis), left + width / 2, top + height + MARGIN.bottom - 1, width);
  }

  drawPlaces(context, top, strip) {
    const { state, look } = this;
    const { left, width } = this.frame;
    const seen = (x) => x >= left - 1 && x <= left + width + 1;
    const middle = strip.top + strip.height / 2;
    if (seen(this.across(0))) drawCross(context, this.across(0), middle);
    const { failure } = look.facts;
    if (failure && seen(this.across(failure.theta[0]))) drawDiamond(context, this.across(failure.theta[0]), middle, false);
    for (const [theta, main] of [[state.theta, !state.peek], ...(state.peek ? [[state.peek, true]] : [])]) {
      const x = this.across(theta[0]);
      if (!seen(x)) continue;
      for (const [colour, lineWidth] of [["rgba(255, 255, 255, .8)", 4], [main ? "#111" : "#777", 1.6]]) {
        context.strokeStyle = colour;
        context.lineWidth = lineWidth;
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x, strip.top + strip.height);
        context.stroke();
      }
    }
  }
}

function striped(context, palette) {
  const tile = document.createElement("canvas");
  [tile.width, tile.height] = [12, 12];
  const draw = tile.getContext("2d");
  draw.fillStyle = `rgb(${palette.open[0].join(",")})`;
  draw.fillRect(0, 0, 12, 12);
  draw.strokeStyle = `rgb(${palette.open[1].join(",")})`;
  draw.lineWidth = 4;
  for (const shift of [-12, 0, 12]) {
    draw.beginPath();
    draw.moveTo(shift, 0);
    draw.lineTo(shift + 12, 12);
    draw.stroke();
  }
  return context.createPattern(tile, "repeat");
}
