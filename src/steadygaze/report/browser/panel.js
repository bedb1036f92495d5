// What is told of the place that one points at: in words, numbers and pictures.

import { EXACT, HERE, NEAR } from "./look.js";
import { paintImage, paintMap } from "./paint.js";
import { apart, count, number, percent, place } from "./words.js";

const SIGNS = ["✓", "✗", "◑", "?"];
const MOST_SCORES = 10;
const REST = 350; // milliseconds of rest after which a place is read out

export class Panel {
  constructor(host, state) {
    this.host = host;
    this.state = state;
    this.look = state.look;
    this.part = (name) => host.querySelector(`[data-part="${name}"]`);
    this.live = document.getElementById("pointed-aloud");
    this.waiting = false;
    this.rest = 0;
    state.listen((changed) => {
      if (changed.has("theta") || changed.has("peek") || changed.has("axes")) this.refresh();
    });
  }

  refresh() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.show(this.look.at(this.state.shown));
    });
  }

  show(seen) {
    const { look } = this;
    this.part("theta").textContent = place(look.axes, seen.theta);
    this.part("mode").textContent = this.state.peek ? "under the pointer" : "stays here";
    this.showKind(seen);
    this.showImage(seen);
    if (!look.classAlone) {
      this.showInconsistency(seen);
      this.showMaps(seen);
    }
    this.showNearby(seen);
    this.showScores(seen);
    Object.assign(this.host.dataset, {
      theta: JSON.stringify(seen.theta),
      cell: seen.cell === null ? "" : look.arrays["cells.number"].values[seen.cell],
      cells: seen.cells === null ? "" : seen.cells.map((cell) => look.arrays["cells.number"].values[cell]).join(" "),
      region: seen.cell === null ? "" : look.region[seen.cell],
      kind: seen.kind === null ? "" : look.facts.kinds[seen.kind],
      gap: seen.scores.gap,
      scores: JSON.stringify(seen.scores.values),
      scoresHow: seen.scores.how,
      imageHow: seen.image.how,
      predicted: seen.scores.predicted,
    });
    if (!look.classAlone) {
      const { inconsistency, map } = seen;
      Object.assign(this.host.dataset, { inconsistency: inconsistency.value, inconsistencyHow: inconsistency.how, mapHow: map.how });
    }
    if (!this.state.peek) this.speak(seen);
  }

  showKind({ kind, cell, cells, exhibit }) {
    const { look } = this;
    const badge = this.part("kind");
    const name = kind === null ? "cell not in this page" : look.facts.kinds[kind];
    badge.textContent = `${kind === null ? "–" : SIGNS[kind]} ${name}`;
    badge.dataset.kind = kind === null ? "elsewhere" : kind;
    this.part("cell").textContent = this.cellWords({ cell, cells, exhibit });
  }

  cellWords({ cell, cells, exhibit }) {
    const { look } = this;
    const { facts } = look;
    const told = exhibit ? `This is the point “${exhibit.title}”: ${facts.kinds[exhibit.kind]} when replayed in the original model. ` : "";
    if (cells === null) {
      if (exhibit) return `${told}Cells are known to this page in the middles of picture elements alone.`;
      return `${told}Of this section the page holds no cells, only those of sections through θ = 0.`;
    }
    if (cell === null) return `${told}In no cell: the search has not examined this place.`;
    const numbers = look.arrays["cells.number"].values;
    const region = look.region[cell];
    const where = region < 0 ? "" : ` · region #${region} of ${count(facts.region_count)}`;
    const border = cells.length > 1 ? ` On the border of ${cells.length} cells: ${kindsOf(look, cells)}.` : "";
    const share = cells.length > 1 || !look.share[cell] ? "" : ` · ${percent(look.share[cell])} of the box`;
    return `${told}Cell #${numbers[cell]} of ${count(facts.cell_count)}${where}${share}.${border}`;
  }

  showInconsistency({ inconsistency, kind }) {
    const { threshold, top } = this.look.facts;
    const { value, how } = inconsistency;
    const most = Math.max(top, threshold * 1.25, 1e-9);
    const relation = value <= threshold ? "≤" : ">";
    this.part("inconsistency").textContent = `${apart(value, threshold)} ${relation} δ = ${number(threshold, 12)}`;
    const meter = this.part("meter");
    meter.style.setProperty("--value", `${Math.min(100, (100 * value) / most)}%`);
    meter.style.setProperty("--limit", `${Math.min(100, (100 * threshold) / most)}%`);
    meter.dataset.over = value > threshold && kind !== 0;
    tag(this.part("inconsistency-how"), how);
  }

  showImage({ image }) {
    paintImage(this.part("image"), image.values, this.look.imageShape);
    tag(this.part("image-how"), image.how);
  }

  showMaps({ map, expected }) {
    const { look } = this;
    const { palette } = look.facts;
    const [rows, columns] = [look.mapRows, look.mapColumns];
    const difference = map.values.map((value, k) => value - expected.values[k]);
    let largest = 0;
    for (const values of [map.values, expected.values]) for (const v of values) if (Math.abs(v) > largest) largest = Math.abs(v);
    for (const [name, values] of [["saliency", map.values], ["expected", expected.values], ["difference", difference]]) {
      paintMap(this.part(name), values, rows, columns, largest, palette);
    }
    tag(this.part("saliency-how"), map.how);
    tag(this.part("expected-how"), expected.how);
    tag(this.part("difference-how"), worse(map.how, expected.how));
  }

  showNearby({ image, scores, map, expected, stop }) {
    const { look } = this;
    const nearby = [image, scores, map, expected].some((shown) => shown?.how === NEAR);
    this.part("nearby").textContent = nearby
      ? `“Nearest point” is ${place(look.axes, stop.theta)}, the nearest of ${count(look.stops)} at which the network was evaluated.`
      : "";
  }

  showScores({ scores }) {
    const { label, classes } = this.look.facts;
    const order = [...scores.values.keys()];
    const shown = order.length <= MOST_SCORES + 2 ? order : this.leading(scores.values, label);
    const low = Math.min(0, ...scores.values);
    const high = Math.max(0, ...scores.values);
    const zero = (-low / (high - low || 1)) * 100;
    const list = this.part("scores");
    while (list.children.length > shown.length) list.lastChild.remove();
    while (list.children.length < shown.length) list.append(this.scoreRow());
    shown.forEach((k, row) => {
      const item = list.children[row];
      const share = (scores.values[k] / (high - low || 1)) * 100;
      item.classList.toggle("held", k === label);
      item.classList.toggle("first", k === scores.predicted);
      item.children[0].textContent = classes[k] === String(k) ? `class ${k}` : classes[k];
      item.children[0].title = `class ${k}: ${classes[k]}`;
      item.children[1].style.setProperty("--from", `${share < 0 ? zero + share : zero}%`);
      item.children[1].style.setProperty("--size", `${Math.abs(share)}%`);
      item.children[2].textContent = number(scores.values[k]);
    });
    const said = scores.predicted === label ? "stays" : "becomes";
    this.part("predicted").textContent = `${said} ${className(this.look, scores.predicted)}; class gap ${number(scores.gap)}`;
    tag(this.part("scores-how"), scores.how);
  }

  leading(values, label) {
    const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, MOST_SCORES);
    if (!order.includes(label)) order[order.length - 1] = label;
    return order;
  }

  scoreRow() {
    const item = document.createElement("li");
    for (const name of ["name", "track", "value"]) {
      const part = document.createElement("span");
      part.className = name;
      item.append(part);
    }
    return item;
  }

  // Reads the place out once one has come to rest there.
  speak(seen) {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      const { look } = this;
      const kind = seen.kind === null ? "cell not in this page" : look.facts.kinds[seen.kind];
      const drift = look.classAlone ? "" : `Inconsistency ${this.part("inconsistency").textContent}, ${seen.inconsistency.how}. `;
      this.live.textContent =
        `${place(look.axes, seen.theta)}: ${kind}. ${this.cellWords(seen)} ${drift}` +
        `The class ${this.part("predicted").textContent}, ${seen.scores.how}.`;
    }, REST);
  }
}

function kindsOf(look, cells) {
  const counts = new Map();
  for (const cell of cells) counts.set(look.kinds[cell], (counts.get(look.kinds[cell]) ?? 0) + 1);
  return [...counts].map(([kind, many]) => `${many} ${look.facts.kinds[kind]}`).join(", ");
}

export function className(look, k) {
  const name = look.facts.classes[k];
  return name === String(k) ? `class ${k}` : `class ${k} (${name})`;
}

function worse(one, other) {
  return [NEAR, HERE, EXACT].find((how) => how === one || how === other) ?? one;
}

function tag(element, how) {
  element.textContent = how;
  element.dataset.how = how === EXACT || how === HERE ? "exact" : "near";
}
