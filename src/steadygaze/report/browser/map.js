// The map of two parameters: cells painted once for each view, what was found drawn over them.

import { followKeys, followPointer, followWheel } from "./gestures.js";
import { paintIds, paintOf } from "./paint.js";
import { number } from "./words.js";

const MARGIN = { left: 58, right: 14, top: 12, bottom: 46 };
const MOST_ELEMENTS = 1_000_000;

export class MapView {
  constructor(host, state, keys) {
    this.state = state;
    this.look = state.look;
    this.canvas = host.querySelector("canvas");
    this.cells = document.createElement("canvas");
    this.stale = true;
    this.waiting = false;
    const place = (event) => this.place(event);
    followPointer(this.canvas, state, place);
    followWheel(this.canvas, state, place);
    followKeys(host, state, keys);
    state.listen((changed) => this.heed(changed));
    new ResizeObserver(() => this.refresh(true)).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh(false));
  }

  heed(changed) {
    const { axes, look } = this.state;
    const moved = changed.has("theta") && look.n > 2;
    this.refresh(moved || ["axes", "view", "mode", "textures", "borders"].some((name) => changed.has(name)) || !axes);
  }

  // Draws before the next frame; the cells too if they are stale.
  refresh(stale) {
    this.stale ||= stale;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  // Draws at once what paper shall show, whose ink is black in the dark, too.
  print() {
    this.stale = true;
    this.draw(Math.max(2, window.devicePixelRatio || 1), "#000");
  }

  get frame() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { left, right, top, bottom } = MARGIN;
    return { left, top, width: Math.max(1, width - left - right), height: Math.max(1, height - top - bottom) };
  }

  place(event) {
    const { left, top, width, height } = this.frame;
    const bounds = this.canvas.getBoundingClientRect();
    const [p, q] = [(event.clientX - bounds.left - left) / width, 1 - (event.clientY - bounds.top - top) / height];
    const { x0, x1, y0, y1 } = this.state.view;
    const inside = p >= 0 && p <= 1 && q >= 0 && q <= 1;
    return { x: x0 + p * (x1 - x0), y: y0 + q * (y1 - y0), inside, width, height };
  }

  draw(ratio = window.devicePixelRatio || 1, ink = getComputedStyle(this.canvas).color) {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    if (this.canvas.width !== Math.round(clientWidth * ratio) || this.canvas.height !== Math.round(clientHeight * ratio)) {
      this.canvas.width = Math.round(clientWidth * ratio);
      this.canvas.height = Math.round(clientHeight * ratio);
      this.stale = true;
    }
    if (this.stale) this.paintCells(ratio);
    this.stale = false;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, clientWidth, clientHeight);
    const { left, top, width, height } = this.frame;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.cells, left, top, width, height);
    this.drawAxes(context, ink);
    context.save();
    context.beginPath();
    context.rect(left - 1, top - 1, width + 2, height + 2);
    context.clip();
    this.drawFindings(context);
    context.restore();
    this.drawPlaces(context);
  }

  paintCells(ratio) {
    const { width, height } = this.frame;
    const scale = Math.min(ratio, Math.sqrt(MOST_ELEMENTS / (width * height)));
    const [columns, rows] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    const { state, look } = this;
    const ids = new Int32Array(columns * rows);
    look.ground.paint(ids, columns, rows, state.view, state.axes, look.placed(state.theta));
    this.cells.width = columns;
    this.cells.height = rows;
    const context = this.cells.getContext("2d");
    const picture = context.createImageData(columns, rows);
    const painted = paintOf(look.facts, look, state.mode);
    paintIds(picture, ids, painted, look.kinds, { textures: state.textures, borders: state.borders, ratio: scale });
    context.putImageData(picture, 0, 0);
  }

  // Where theta of the two axes is on the canvas.
  at(across, up) {
    const { state, look } = this;
    const { left, top, width, height } = this.frame;
    const { x0, x1, y0, y1 } = state.view;
    const [i, j] = state.axes;
    const x = (across - look.axes[i].low) / look.widths[i];
    const y = (up - look.axes[j].low) / look.widths[j];
    return [left + ((x - x0) / (x1 - x0)) * width, top + (1 - (y - y0) / (y1 - y0)) * height];
  }

  drawAxes(context, ink) {
    const { left, top, width, height } = this.frame;
    const { look, state } = this;
    context.strokeStyle = ink;
    context.fillStyle = ink;
    context.lineWidth = 1;
    context.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
    context.font = "12px system-ui, sans-serif";
    const [i, j] = state.axes;
    const { x0, x1, y0, y1 } = state.view;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [value, text] of ticks(look.axes[i].low + x0 * look.widths[i], look.axes[i].low + x1 * look.widths[i], width / 70)) {
      const [x] = this.at(value, 0);
      context.fillRect(x - 0.5, top + height, 1, 5);
      context.fillText(text, x, top + height + 8);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [value, text] of ticks(look.axes[j].low + y0 * look.widths[j], look.axes[j].low + y1 * look.widths[j], height / 50)) {
      const [, y] = this.at(0, value);
      context.fillRect(left - 5, y - 0.5, 5, 1);
      context.fillText(text, left - 8, y);
    }
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.font = "600 13px system-ui, sans-serif";
    context.fillText(axisName(look.axes[i]), left + width / 2, top + height + MARGIN.bottom - 1, width);
    context.save();
    context.translate(13, top + height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(axisName(look.axes[j]), 0, 2, height);
    context.restore();
  }

  drawFindings(context) {
    const { facts } = this.look;
    const [i, j] = this.state.axes;
    const { origin, safe_scale: scale } = facts;
    const rest = this.state.theta.every((value, k) => k === i || k === j || value === 0);
    if (origin?.outer_boundary && this.look.n === 2) {
      this.outline(context, origin.outer_boundary, 2.4, []);
      for (const hole of origin.holes ?? []) this.outline(context, hole, 1.6, [5, 4]);
    } else if (origin && rest) {
      const [across, up] = [origin.ranges[i], origin.ranges[j]];
      this.outline(context, [[across[0], 0], [across[1], 0]], 2.4, []);
      this.outline(context, [[0, up[0]], [0, up[1]]], 2.4, []);
    }
    if (scale > 0 && scale < 1 && rest) {
      const { low: a, high: b } = this.look.axes[i];
      const { low: c, high: d } = this.look.axes[j];
      const corners = [[a, c], [b, c], [b, d], [a, d]].map((corner) => corner.map((value) => value * scale));
      this.outline(context, corners, 1.6, [2, 3]);
    }
  }

  outline(context, corners, width, dashes) {
    context.beginPath();
    corners.forEach(([across, up], k) => context[k ? "lineTo" : "moveTo"](...this.at(across, up)));
    context.closePath();
    context.lineJoin = "round";
    context.setLineDash([]);
    context.strokeStyle = "rgba(255, 255, 255, .9)";
    context.lineWidth = width + 2.4;
    context.stroke();
    context.setLineDash(dashes);
    context.strokeStyle = "#111";
    context.lineWidth = width;
    context.stroke();
    context.setLineDash([]);
  }

  // 0, the nearest failure, and where one points.
  drawPlaces(context) {
    const { look, state } = this;
    const [i, j] = state.axes;
    const { left, top, width, height } = this.frame;
    const seen = ([x, y]) => x >= left - 1 && x <= left + width + 1 && y >= top - 1 && y <= top + height + 1;
    const zero = this.at(0, 0);
    if (seen(zero)) drawCross(context, ...zero);
    const { failure } = look.facts;
    if (failure) {
      const there = this.at(failure.theta[i], failure.theta[j]);
      const beside = failure.theta.some((value, k) => k !== i && k !== j && value !== state.theta[k]);
      if (seen(there)) drawDiamond(context, ...there, beside);
    }
    const pinned = this.at(state.theta[i], state.theta[j]);
    if (seen(pinned)) drawTarget(context, ...pinned, this.frame, !state.peek);
    if (state.peek) drawTarget(context, ...this.at(state.peek[i], state.peek[j]), this.frame, true);
  }
}

export function axisName(axis) {
  return axis.unit ? `${axis.name} [${axis.unit}]` : axis.name;
}

// About `wanted` round values between low and high, each with its text.
export function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1.5, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    found.push([k * step, digits > 7 ? number(k * step, 8) : (k * step).toFixed(digits).replace(/^-(0\.?0*)$/, "$1")]);
  }
  return found;
}

export function drawCross(context, x, y) {
  for (const [colour, width, reach] of [["#fff", 7, 8.5], ["#111", 3.4, 7]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(x - reach, y);
    context.lineTo(x + reach, y);
    context.moveTo(x, y - reach);
    context.lineTo(x, y + reach);
    context.stroke();
  }
}

export function drawDiamond(context, x, y, hollow) {
  context.beginPath();
  context.moveTo(x, y - 8);
  context.lineTo(x + 7, y);
  context.lineTo(x, y + 8);
  context.lineTo(x - 7, y);
  context.closePath();
  context.strokeStyle = "#fff";
  context.lineWidth = 4.5;
  context.stroke();
  context.fillStyle = hollow ? "rgba(255, 227, 77, .0)" : "#ffe34d";
  context.fill();
  context.strokeStyle = "#111";
  context.lineWidth = 1.7;
  context.stroke();
}

function drawTarget(context, x, y, { left, top, width, height }, main) {
  context.save();
  if (main) {
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    for (const [colour, lineWidth] of [["rgba(255, 255, 255, .75)", 3], ["rgba(17, 17, 17, .8)", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = lineWidth;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, top + height);
      context.moveTo(left, y);
      context.lineTo(left + width, y);
      context.stroke();
    }
    context.restore();
    context.save();
  }
  for (const [colour, lineWidth] of [["#fff", 5], [main ? "#111" : "#555", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.beginPath();
    context.arc(x, y, 7.5, 0, 2 * Math.PI);
    context.stroke();
  }
  context.restore();
}
