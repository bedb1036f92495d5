// What is known at a place: the cell, the image, the maps, the scores, and how each is known.

import { HalfSpaces, groundOf, worst } from "./ground.js";

// How a number or picture is known.
export const EXACT = "exact"; // it holds at this very place, computed from what the cell is known by
export const HERE = "this point"; // the network was evaluated at this very place
export const NEAR = "nearest point"; // that of the nearest place at which the network was evaluated

const SAME_PLACE = 1e-12;

export class Look {
  constructor(facts, arrays) {
    this.facts = facts;
    this.arrays = arrays;
    this.axes = facts.axes;
    this.n = facts.axes.length;
    this.widths = facts.axes.map((axis) => axis.high - axis.low);
    this.kinds = arrays["cells.kind"].values;
    this.region = arrays["cells.region"].values;
    this.share = arrays["cells.share"].values;
    this.ground = groundOf(facts, arrays, this.placed(facts.axes.map(() => 0)));
    this.pieces = "pieces.ptr" in arrays ? new HalfSpaces(arrays, "pieces") : null;
    this.stops = arrays["stops.theta"].shape[0];
    this.stopOf = new Map();
    const regions = arrays["stops.region"].values;
    for (let s = this.stops - 1; s >= 0; s--) if (regions[s] >= 0) this.stopOf.set(regions[s], s);
    this.inconsistency = this.drifts();
    this.classAlone = facts.class_alone; // then nothing is known of maps
    if (!this.classAlone) {
      [, this.mapRows, this.mapColumns] = arrays["stops.saliency"].shape;
      this.compared = arrays.compared.values;
    }
    this.imageShape = (arrays["image.base"] ?? arrays["stops.image"]).shape.slice(1);
  }

  // The inconsistency of each cell, from the search or from the point of its region; NaN where neither knows.
  drifts() {
    const known = this.arrays["cells.inconsistency"].values;
    if (!this.facts.same_inconsistency) return known;
    const own = this.arrays["stops.inconsistency"].values;
    return known.map((value, cell) => {
      const stop = this.stopOf.get(this.region[cell]);
      return Number.isFinite(value) || stop === undefined ? value : own[stop];
    });
  }

  placed(theta) {
    return theta.map((value, i) => (value - this.axes[i].low) / this.widths[i]);
  }

  theta(u) {
    return u.map((value, i) => {
      const { low, high } = this.axes[i];
      return Math.min(high, Math.max(low, low + value * this.widths[i]));
    });
  }

  // All that is known at theta.
  at(theta) {
    const u = this.placed(theta);
    const cells = this.ground.at(u);
    const exhibit = this.facts.exhibits.find((one) => one.theta.every((value, i) => value === theta[i])) ?? null;
    const cell = cells && cells.length ? worst(cells, this.kinds) : null;
    const stop = this.stopFor(cell, theta);
    return {
      theta,
      cells,
      cell,
      kind: this.kindOf(cells, cell, exhibit),
      exhibit,
      stop,
      scores: this.scores(stop, theta),
      image: this.image(stop, u, theta),
      ...(this.classAlone ? {} : this.mapsAt(cells, cell, stop, u, theta)),
    };
  }

  // The inconsistency at theta, the saliency map and the expected one.
  mapsAt(cells, cell, stop, u, theta) {
    return {
      inconsistency: this.driftAt(cells, cell, stop, theta),
      map: { values: this.mapOf("stops.saliency", stop.number), how: stop.ofRegion && this.facts.same_map ? EXACT : stop.how },
      expected: this.expected(stop, u, theta),
    };
  }

  // The kind as a number; 3 where nobody has looked; null where the page does not know the cell.
  kindOf(cells, cell, exhibit) {
    if (cell !== null) return this.kinds[cell];
    if (cells !== null) return 3;
    return exhibit ? exhibit.kind : null;
  }

  // The evaluated place that tells most of theta: its region's, or else the nearest one.
  stopFor(cell, theta) {
    const region = cell === null ? -1 : this.region[cell];
    const own = region >= 0 ? this.stopOf.get(region) : undefined;
    if (own !== undefined) return { number: own, ofRegion: true, how: NEAR, theta: this.stopTheta(own) };
    const places = this.arrays["stops.theta"].values;
    let [best, least] = [0, Infinity];
    for (let s = 0; s < this.stops; s++) {
      let far = 0;
      for (let i = 0; i < this.n; i++) far += ((places[s * this.n + i] - theta[i]) / this.widths[i]) ** 2;
      if (far < least) [best, least] = [s, far];
    }
    const how = Math.sqrt(least) < SAME_PLACE ? HERE : NEAR;
    return { number: best, ofRegion: false, how, theta: this.stopTheta(best) };
  }

  stopTheta(s) {
    return [...this.arrays["stops.theta"].values.subarray(s * this.n, (s + 1) * this.n)];
  }

  // Class scores, the class they speak for, and the class gap.
  scores(stop, theta) {
    const classes = this.facts.classes.length;
    const { number: s } = stop;
    const values = [...this.arrays["stops.logits"].values.subarray(s * classes, (s + 1) * classes)];
    const exact = stop.ofRegion && this.facts.same_scores;
    if (exact) {
      const slopes = this.arrays["stops.slopes"].values;
      for (let i = 0; i < this.n; i++) {
        const along = theta[i] - stop.theta[i];
        for (let k = 0; k < classes; k++) values[k] += along * slopes[(s * this.n + i) * classes + k];
      }
    }
    const { label } = this.facts;
    const others = Math.max(...values.filter((_, k) => k !== label));
    const predicted = values.indexOf(Math.max(...values));
    return { values, predicted, gap: values[label] - others, how: exact ? EXACT : stop.how };
  }

  // The inconsistency: of the cell, from the angle between the maps, or that of the place that was evaluated.
  driftAt(cells, cell, stop, theta) {
    if (this.facts.same_inconsistency && cell !== null && Number.isFinite(this.inconsistency[cell])) {
      return { value: this.inconsistency[cell], how: EXACT };
    }
    if (stop.ofRegion && "stops.angles" in this.arrays) return { value: this.byAngle(stop, theta), how: EXACT };
    const value = this.arrays["stops.inconsistency"].values[stop.number];
    return { value, how: stop.how };
  }

  byAngle(stop, theta) {
    const width = this.n + 2;
    const own = this.arrays["stops.angles"].values.subarray(stop.number * width, (stop.number + 1) * width);
    const gram = this.arrays.gram.values;
    const first = this.pieceAt(this.placed(theta)) * (this.n + 1) ** 2;
    const weights = [1, ...theta];
    let [product, square] = [0, 0];
    weights.forEach((weight, i) => {
      product += weight * own[i];
      weights.forEach((other, j) => (square += weight * other * gram[first + i * (this.n + 1) + j]));
    });
    const size = own[width - 1] * Math.sqrt(Math.max(square, 0));
    if (!size) return 2; // a map without entries has no direction
    const cosine = Math.min(1, Math.max(-1, product / size));
    return this.facts.inconsistency === "l2" ? Math.sqrt(2 - 2 * cosine) : 1 - cosine;
  }

  pieceAt(u) {
    return this.pieces ? this.pieces.deepest(u) : 0;
  }

  // The image as the network is handed it, channel by channel, in [0, 1].
  image(stop, u, theta) {
    if (!("image.base" in this.arrays)) {
      const size = this.imageShape.reduce((a, b) => a * b);
      const values = this.arrays["stops.image"].values.subarray(stop.number * size, (stop.number + 1) * size);
      return { values: Float32Array.from(values, (value) => value / 255), how: stop.ofRegion ? NEAR : stop.how };
    }
    const values = this.formAt("image", this.pieceAt(u), theta);
    if (this.facts.clip) {
      const [low, high] = this.facts.clip;
      for (let k = 0; k < values.length; k++) values[k] = Math.min(high, Math.max(low, values[k]));
    }
    return { values, how: EXACT };
  }

  // The expected map, scaled to length 1.
  expected(stop, u, theta) {
    if (!("expected.base" in this.arrays)) {
      return { values: this.mapOf("stops.expected", stop.number), how: stop.ofRegion ? NEAR : stop.how };
    }
    const pieces = this.arrays["expected.base"].shape[0];
    const values = this.formAt("expected", pieces > 1 ? this.pieceAt(u) : 0, theta);
    let square = 0;
    values.forEach((value, k) => (square += this.compared[k] ? value * value : 0));
    const size = Math.sqrt(square) || 1;
    return { values: this.hidden(values.map((value) => value / size)), how: EXACT };
  }

  formAt(name, piece, theta) {
    const base = this.arrays[`${name}.base`];
    const size = base.values.length / base.shape[0];
    const scale = this.arrays[`${name}.base.largest`].values[0] / 32767;
    const values = Float32Array.from(base.values.subarray(piece * size, (piece + 1) * size), (q) => q * scale);
    const along = this.arrays[`${name}.directions`].values;
    const step = this.arrays[`${name}.directions.largest`].values[0] / 32767;
    for (let i = 0; i < this.n; i++) {
      const weight = theta[i] * step;
      const first = (piece * this.n + i) * size;
      if (weight) for (let k = 0; k < size; k++) values[k] += weight * along[first + k];
    }
    return values;
  }

  mapOf(name, s) {
    const size = this.mapRows * this.mapColumns;
    const unit = this.arrays[`${name}.unit`].values[s];
    const values = this.arrays[name].values.subarray(s * size, (s + 1) * size);
    return this.hidden(Float32Array.from(values, (q) => q * unit));
  }

  hidden(values) {
    for (let k = 0; k < values.length; k++) if (!this.compared[k]) values[k] = NaN;
    return values;
  }
}
