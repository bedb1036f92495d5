// Beside each slider: the kinds that one would meet on moving it, the other parameters staying as they are.

import { worst } from "./ground.js";

const SAMPLES = 180;
const REST = 90; // milliseconds after which the tracks follow

export class Tracks {
  constructor(root, state) {
    this.state = state;
    this.canvases = state.look.axes.map((_, i) => root.querySelector(`[data-axis="${i}"] canvas`));
    this.waiting = 0;
    state.listen((changed) => (changed.has("theta") || changed.has("axes")) && this.refresh());
    this.draw();
  }

  refresh() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.draw(), REST);
  }

  draw() {
    this.canvases.forEach((canvas, i) => {
      canvas.width = SAMPLES;
      canvas.height = 9;
      const context = canvas.getContext("2d");
      for (let k = 0; k < SAMPLES; k++) drawKind(context, k, this.kindAt(i, (k + 0.5) / SAMPLES), this.state.look);
    });
  }

  // The kind at the place `x` of axis i; null where the page does not know it.
  kindAt(i, x) {
    const { look, axes, theta } = this.state;
    const u = look.placed(theta);
    u[i] = x;
    const cells = look.ground.at(look.ground.settled(u, axes));
    if (cells === null) return null;
    return cells.length ? look.kinds[worst(cells, look.kinds)] : 3;
  }
}

// Lost attention has a line along it and a lost class two, as on the strip of one parameter; what is open has gaps.
function drawKind(context, k, kind, look) {
  const { palette } = look.facts;
  if (kind === 3 && k % 6 < 3) return;
  context.fillStyle = kind === null ? "rgba(128, 128, 128, .25)" : `rgb(${palette.flat[kind].join(",")})`;
  context.fillRect(k, 0, 1, 9);
  context.fillStyle = "rgba(0, 0, 0, .35)";
  if (kind === 2) context.fillRect(k, 4, 1, 1);
  if (kind === 1) {
    context.fillRect(k, 2, 1, 1);
    context.fillRect(k, 6, 1, 1);
  }
}
