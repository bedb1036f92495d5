// Where cells lie: which one is at a place, and which ones a rectangle of the plane of two parameters shows.
//
// Places are u in [0, 1]^n, the box as it is drawn. A ground answers
//   at(u)                          the cells there: more than one on a border, none where nobody has looked,
//                                  null where this page does not know;
//   paint(ids, columns, rows, view, axes, u)
//                                  into `ids`, lowest row first, the cell at the middle of each picture
//                                  element of view {x0, x1, y0, y1}, parameters other than `axes` being as in u;
//   settled(u, axes)               the place that is told of where u is pointed at: mostly u itself.

export const NO_CELL = -1; // nobody has looked there
export const NOT_HERE = -2; // the page does not know

const BORDER = 1e-9; // places that are nearer than this to a border are on it
const ZERO = 1e-12;
const BUCKETS = 64;

export function groundOf(facts, arrays, zero) {
  if (facts.ground === "stretches") return new Stretches(arrays["ground.ends"].values);
  if (facts.ground === "half-spaces") return new HalfSpaces(arrays, "ground", arrays["cells.kind"].values);
  const kinds = arrays["cells.kind"].values;
  const sheets = facts.sheets.map((axes, k) => {
    const name = `sheet${k}`;
    const pictured = `${name}.picture` in arrays;
    return { axes, sheet: pictured ? new Picture(arrays, name) : new Polygons(arrays, name, kinds) };
  });
  return new Sheets(sheets, zero);
}

// What holds of a place that several cells share: robust only if all of them are, and never less than is lost.
const WORST_LAST = [0, 3, 1, 2]; // by kind: robust, undecided, attention-changed, class-changed

export function worst(cells, kinds) {
  return cells.reduce((one, other) => (WORST_LAST[kinds[other]] > WORST_LAST[kinds[one]] ? other : one));
}

// The order in which to paint: where several share an element, the worst is seen.
function inOrder(count, kindOf) {
  const order = Uint32Array.from({ length: count }, (_, k) => k);
  return order.sort((a, b) => WORST_LAST[kindOf(a)] - WORST_LAST[kindOf(b)] || a - b);
}

// ---- one parameter

class Stretches {
  constructor(ends) {
    this.ends = ends;
    this.count = ends.length / 2;
    this.order = [...Array(this.count).keys()].sort((a, b) => ends[2 * a] - ends[2 * b]);
    this.starts = Float64Array.from(this.order, (k) => ends[2 * k]);
  }

  at([x]) {
    const found = [];
    for (let k = firstAbove(this.starts, x + BORDER) - 1; k >= 0 && found.length < 2; k--) {
      const cell = this.order[k];
      if (this.ends[2 * cell + 1] < x - BORDER) break;
      found.push(cell);
    }
    return found;
  }

  settled(u) {
    return u;
  }
}

function firstAbove(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

// ---- any number of parameters: each cell by the planes of its facets

export class HalfSpaces {
  constructor(arrays, name, kinds = null) {
    for (const part of ["normal", "offset", "ptr", "facet", "low", "high"]) {
      this[part] = arrays[`${name}.${part}`].values;
    }
    this.n = arrays[`${name}.normal`].shape[1];
    this.count = this.ptr.length - 1;
    this.sequence = inOrder(this.count, (cell) => (kinds ? kinds[cell] : 0));
  }

  // The polytopes that hold u, within rounding.
  at(u) {
    const found = [];
    for (let cell = 0; cell < this.count; cell++) {
      if (this.meets(cell, u, null) && this.outside(cell, u) <= BORDER) found.push(cell);
    }
    return found;
  }

  // The polytope that u is deepest in, or least far outside of.
  deepest(u) {
    let best = 0;
    let least = Infinity;
    for (let cell = 0; cell < this.count; cell++) {
      const far = this.outside(cell, u);
      if (far < least) [best, least] = [cell, far];
    }
    return best;
  }

  settled(u) {
    return u;
  }

  paint(ids, columns, rows, view, axes, u) {
    ids.fill(NO_CELL);
    for (const cell of this.sequence) {
      if (!this.meets(cell, u, axes)) continue;
      const corners = this.section(cell, axes, u, view);
      if (corners.length > 2) fillPolygon(ids, columns, rows, view, corners, cell);
    }
  }

  // Whether the box around the polytope holds u, the parameters `free` left aside.
  meets(cell, u, free) {
    for (let i = 0; i < this.n; i++) {
      if (free && (i === free[0] || i === free[1])) continue;
      const at = cell * this.n + i;
      if (u[i] < this.low[at] - 1e-6 || u[i] > this.high[at] + 1e-6) return false;
    }
    return true;
  }

  // How far u is outside of the polytope: negative inside.
  outside(cell, u) {
    let far = -Infinity;
    for (let f = this.ptr[cell]; f < this.ptr[cell + 1]; f++) {
      const plane = Math.abs(this.facet[f]) - 1;
      let value = -this.offset[plane];
      for (let i = 0; i < this.n; i++) value += this.normal[plane * this.n + i] * u[i];
      far = Math.max(far, this.facet[f] > 0 ? value : -value);
    }
    return far;
  }

  // Corners [[x, y], ...] of the polytope in the plane of `axes` through u, within the view.
  section(cell, axes, u, view) {
    const [across, up] = axes;
    let corners = [[view.x0, view.y0], [view.x1, view.y0], [view.x1, view.y1], [view.x0, view.y1]];
    for (let f = this.ptr[cell]; f < this.ptr[cell + 1] && corners.length; f++) {
      const plane = Math.abs(this.facet[f]) - 1;
      const side = this.facet[f] > 0 ? 1 : -1;
      let rest = this.offset[plane];
      for (let i = 0; i < this.n; i++) {
        if (i !== across && i !== up) rest -= this.normal[plane * this.n + i] * u[i];
      }
      const a = side * this.normal[plane * this.n + across];
      const b = side * this.normal[plane * this.n + up];
      const c = side * rest;
      if (Math.abs(a) < ZERO && Math.abs(b) < ZERO) {
        if (c < -BORDER) return [];
      } else corners = clipped(corners, a, b, c);
    }
    return corners;
  }
}

// The part of a convex polygon where a x + b y <= c.
function clipped(corners, a, b, c) {
  const kept = [];
  for (let k = 0; k < corners.length; k++) {
    const [x, y] = corners[k];
    const [p, q] = corners[(k + 1) % corners.length];
    const here = c - a * x - b * y;
    const next = c - a * p - b * q;
    if (here >= 0) kept.push([x, y]);
    if (here > 0 !== next > 0 && here !== 0 && next !== 0) {
      const t = here / (here - next);
      kept.push([x + t * (p - x), y + t * (q - y)]);
    }
  }
  return kept;
}

// ---- sections through 0: all of the box where there are two parameters

class Sheets {
  constructor(sheets, zero) {
    this.sheets = sheets;
    this.zero = zero;
  }

  // The sheet that u lies in, with the two parameters; undefined if it lies in none.
  sheetOf(u) {
    return this.sheets.find(({ axes }) => this.liesIn(u, axes));
  }

  liesIn(u, axes) {
    return u.every((value, i) => axes.includes(i) || Math.abs(value - this.zero[i]) < ZERO);
  }

  at(u) {
    const found = this.sheetOf(u);
    return found ? found.sheet.at(u[found.axes[0]], u[found.axes[1]]) : null;
  }

  settled(u, axes) {
    const found = this.sheets.find((one) => one.axes[0] === axes[0] && one.axes[1] === axes[1]);
    if (!found || !this.liesIn(u, axes) || !(found.sheet instanceof Picture)) return u;
    const moved = [...u];
    [moved[axes[0]], moved[axes[1]]] = found.sheet.middle(u[axes[0]], u[axes[1]]);
    return moved;
  }

  // What the cells of a plane are known by: "cells", "picture", or null where the page does not know them.
  form(axes, u) {
    const found = this.sheets.find((one) => one.axes[0] === axes[0] && one.axes[1] === axes[1]);
    if (!found || !this.liesIn(u, axes)) return null;
    return found.sheet instanceof Picture ? "picture" : "cells";
  }

  get elements() {
    const found = this.sheets.find(({ sheet }) => sheet instanceof Picture);
    return found ? [found.sheet.columns, found.sheet.rows] : null;
  }

  paint(ids, columns, rows, view, axes, u) {
    const found = this.sheets.find((one) => one.axes[0] === axes[0] && one.axes[1] === axes[1]);
    if (!found || !this.liesIn(u, axes)) ids.fill(NOT_HERE);
    else found.sheet.paint(ids, columns, rows, view);
  }
}

class Picture {
  constructor(arrays, name) {
    const { values, shape } = arrays[`${name}.picture`];
    [this.rows, this.columns] = shape;
    this.cells = values; // one more than the cell's number, so that 0 is none
  }

  element(x, y) {
    const column = Math.min(this.columns - 1, Math.max(0, Math.floor(x * this.columns)));
    const row = Math.min(this.rows - 1, Math.max(0, Math.floor(y * this.rows)));
    return [column, row];
  }

  middle(x, y) {
    const [column, row] = this.element(x, y);
    return [(column + 0.5) / this.columns, (row + 0.5) / this.rows];
  }

  at(x, y) {
    const [column, row] = this.element(x, y);
    const [p, q] = this.middle(x, y);
    if (Math.abs(p - x) > BORDER || Math.abs(q - y) > BORDER) return null; // known at the middles alone
    const cell = this.cells[row * this.columns + column] - 1;
    return cell < 0 ? [] : [cell];
  }

  paint(ids, columns, rows, view) {
    for (let r = 0; r < rows; r++) {
      const y = view.y0 + ((r + 0.5) / rows) * (view.y1 - view.y0);
      for (let c = 0; c < columns; c++) {
        const [column, row] = this.element(view.x0 + ((c + 0.5) / columns) * (view.x1 - view.x0), y);
        ids[r * columns + c] = this.cells[row * this.columns + column] - 1;
      }
    }
  }
}

class Polygons {
  constructor(arrays, name, kinds) {
    const corners = arrays[`${name}.corners`].values;
    const corner = arrays[`${name}.corner`].values;
    this.ptr = arrays[`${name}.ptr`].values;
    this.cell = arrays[`${name}.cell`].values;
    this.count = this.cell.length;
    this.x = new Float64Array(corner.length);
    this.y = new Float64Array(corner.length);
    for (let k = 0; k < corner.length; k++) {
      this.x[k] = corners[2 * corner[k]] / 4294967295;
      this.y[k] = corners[2 * corner[k] + 1] / 4294967295;
    }
    this.boxes = new Float64Array(4 * this.count);
    this.buckets = Array.from({ length: BUCKETS * BUCKETS }, () => []);
    for (let p = 0; p < this.count; p++) this.sort(p);
    this.sequence = inOrder(this.count, (p) => kinds[this.cell[p]]);
  }

  sort(p) {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let k = this.ptr[p]; k < this.ptr[p + 1]; k++) {
      x0 = Math.min(x0, this.x[k]);
      x1 = Math.max(x1, this.x[k]);
      y0 = Math.min(y0, this.y[k]);
      y1 = Math.max(y1, this.y[k]);
    }
    this.boxes.set([x0, x1, y0, y1], 4 * p);
    for (let row = bucket(y0 - BORDER); row <= bucket(y1 + BORDER); row++) {
      for (let column = bucket(x0 - BORDER); column <= bucket(x1 + BORDER); column++) {
        this.buckets[row * BUCKETS + column].push(p);
      }
    }
  }

  at(x, y) {
    const found = this.buckets[bucket(y) * BUCKETS + bucket(x)].filter((p) => this.holds(p, x, y));
    return [...new Set(found.map((p) => this.cell[p]))];
  }

  // Whether the polygon has the point inside or, within rounding, on its border.
  holds(p, x, y) {
    const [first, last] = [this.ptr[p], this.ptr[p + 1] - 1];
    let inside = false;
    for (let k = first, before = last; k <= last; before = k++) {
      const [ax, ay, bx, by] = [this.x[before], this.y[before], this.x[k], this.y[k]];
      if (distance(x, y, ax, ay, bx, by) <= BORDER) return true;
      if (ay > y !== by > y && x < ax + ((y - ay) / (by - ay)) * (bx - ax)) inside = !inside;
    }
    return inside;
  }

  paint(ids, columns, rows, view) {
    ids.fill(NO_CELL);
    for (const p of this.sequence) {
      const [x0, x1, y0, y1] = this.boxes.subarray(4 * p, 4 * p + 4);
      if (x1 < view.x0 || x0 > view.x1 || y1 < view.y0 || y0 > view.y1) continue;
      const corners = [];
      for (let k = this.ptr[p]; k < this.ptr[p + 1]; k++) corners.push([this.x[k], this.y[k]]);
      fillPolygon(ids, columns, rows, view, corners, this.cell[p]);
    }
  }
}

function bucket(value) {
  return Math.min(BUCKETS - 1, Math.max(0, Math.floor(value * BUCKETS)));
}

function distance(x, y, ax, ay, bx, by) {
  const [dx, dy] = [bx - ax, by - ay];
  const size = dx * dx + dy * dy;
  const t = size ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / size)) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

// The middle of a picture element decides, by the even-odd rule, as in the picture beside the report.
function fillPolygon(ids, columns, rows, view, corners, id) {
  const [sx, sy] = [columns / (view.x1 - view.x0), rows / (view.y1 - view.y0)];
  const xs = corners.map(([x]) => (x - view.x0) * sx - 0.5);
  const ys = corners.map(([, y]) => (y - view.y0) * sy - 0.5);
  const first = Math.max(0, Math.ceil(Math.min(...ys)));
  const last = Math.min(rows - 1, Math.floor(Math.max(...ys)));
  const crossings = [];
  for (let row = first; row <= last; row++) {
    crossings.length = 0;
    for (let k = 0, before = xs.length - 1; k < xs.length; before = k++) {
      if (ys[before] > row === ys[k] > row) continue;
      // Always from the lower end up, so that neighbours that share an edge find the very same crossing.
      const rising = ys[before] < ys[k];
      const [lx, ly] = rising ? [xs[before], ys[before]] : [xs[k], ys[k]];
      const [hx, hy] = rising ? [xs[k], ys[k]] : [xs[before], ys[before]];
      crossings.push(lx + ((row - ly) / (hy - ly)) * (hx - lx));
    }
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const from = Math.max(0, Math.ceil(crossings[k]));
      const to = Math.min(columns, Math.ceil(crossings[k + 1]));
      if (from < to) ids.fill(id, row * columns + from, row * columns + to);
    }
  }
}
