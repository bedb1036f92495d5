// Colours and textures: of cells by their kind and inconsistency, of images, and of maps.

import { NOT_HERE, NO_CELL } from "./ground.js";

export const MODES = ["all", "class", "attention", "inconsistency"];
const [ROBUST, CLASS_CHANGED, ATTENTION_CHANGED, UNDECIDED] = [0, 1, 2, 3];
const [PLAIN, DOTS, LINES, STRIPES, HATCH] = [0, 1, 2, 3, 4];
const ELSEWHERE = [226, 226, 232]; // cells that the page does not know
const NOT_ASKED = [214, 214, 214]; // attention, where the class is lost already

// How the cells are painted: `rgb` and `texture` of each, the last two for what has no cell and what is not here.
export function paintOf(facts, look, mode) {
  const cells = look.kinds.length;
  const rgb = new Uint8Array(3 * (cells + 2));
  const texture = new Uint8Array(cells + 2);
  for (let cell = 0; cell < cells; cell++) {
    const [colour, sign] = paintOfCell(facts, look.kinds[cell], look.inconsistency[cell], mode);
    rgb.set(colour, 3 * cell);
    texture[cell] = sign;
  }
  rgb.set(facts.palette.open[1], 3 * cells);
  texture[cells] = STRIPES;
  rgb.set(ELSEWHERE, 3 * cells + 3);
  texture[cells + 1] = HATCH;
  return { rgb, texture };
}

function paintOfCell(facts, kind, drift, mode) {
  const { palette } = facts;
  if (kind === UNDECIDED) return [palette.open[1], STRIPES];
  if (mode === "class") return kind === CLASS_CHANGED ? [palette.grey, DOTS] : [palette.flat[ROBUST], PLAIN];
  if (mode === "inconsistency") return [shade(facts, drift), drift > facts.threshold ? LINES : PLAIN];
  if (kind === CLASS_CHANGED) return mode === "attention" ? [NOT_ASKED, DOTS] : [palette.grey, DOTS];
  if (mode === "attention") return kind === ROBUST ? [palette.flat[ROBUST], PLAIN] : [palette.flat[ATTENTION_CHANGED], LINES];
  return kind === ROBUST
    ? [along(palette.robust, blue(facts, drift)), PLAIN]
    : [along(palette.attention, orange(facts, drift)), LINES];
}

// Blue up to the threshold and orange beyond, whatever the class; between the two where it varies in the cell.
function shade(facts, drift) {
  if (!Number.isFinite(drift)) return [200, 196, 190];
  const { palette, threshold } = facts;
  return drift <= threshold ? along(palette.robust, blue(facts, drift)) : along(palette.attention, orange(facts, drift));
}

function blue({ threshold }, drift) {
  if (!Number.isFinite(drift)) return 0.5;
  return threshold > 0 ? Math.min(1, Math.max(0, drift / threshold)) : 1;
}

function orange({ threshold, top }, drift) {
  if (!Number.isFinite(drift)) return 0.5;
  return top > threshold ? Math.min(1, Math.max(0, (drift - threshold) / (top - threshold))) : 0;
}

function along([start, end], place) {
  return start.map((value, k) => Math.round(value + place * (end[k] - value)));
}

// Paints ids, lowest row first, into ImageData, highest row first.
export function paintIds(picture, ids, painted, kinds, { textures, borders, ratio }) {
  const { width, height, data } = picture;
  const { rgb, texture } = painted;
  const cells = kinds.length;
  const kindOf = (id) => (id >= 0 ? kinds[id] : id === NO_CELL ? UNDECIDED : 9);
  for (let row = 0; row < height; row++) {
    const line = (height - 1 - row) * width;
    for (let column = 0; column < width; column++) {
      const id = ids[line + column];
      const entry = id >= 0 ? id : id === NOT_HERE ? cells + 1 : cells;
      let light = 1;
      let [red, green, blueish] = [rgb[3 * entry], rgb[3 * entry + 1], rgb[3 * entry + 2]];
      const sign = texture[entry];
      if (sign === STRIPES) {
        if (Math.floor((row + column) / (6 * ratio)) % 2) [red, green, blueish] = [252, 232, 242];
      } else if (textures && sign) light = textured(sign, row, column, ratio);
      if (column + 1 < width && row + 1 < height) {
        const [right, below] = [ids[line + column + 1], ids[line - width + column]];
        if (right !== id || below !== id) {
          if (kindOf(right) !== kindOf(id) || kindOf(below) !== kindOf(id)) light *= 0.45;
          else if (borders) light *= 0.84;
        }
      }
      const at = 4 * (row * width + column);
      data[at] = red * light;
      data[at + 1] = green * light;
      data[at + 2] = blueish * light;
      data[at + 3] = 255;
    }
  }
}

// How light an element of a texture is; 1 leaves the colour as it is.
function textured(sign, row, column, ratio) {
  const [y, x] = [row / ratio, column / ratio];
  if (sign === LINES) return (x + y) % 9 < 1 ? 0.86 : 1;
  if (sign === DOTS) {
    const shift = Math.floor(y / 9) % 2 ? 4.5 : 0;
    return Math.hypot(((x + shift) % 9) - 4.5, (y % 9) - 4.5) < 1.1 ? 0.8 : 1;
  }
  return (x - y + 10000) % 12 < 1.2 ? 0.9 : 1;
}

// An image (channels, rows, columns) in [0, 1] into a canvas; other numbers of channels than 3 by their mean.
export function paintImage(canvas, values, [channels, rows, columns]) {
  const size = rows * columns;
  show(canvas, rows, columns, (k) => {
    if (channels === 3) return [0, 1, 2].map((c) => 255 * values[c * size + k]);
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += values[c * size + k];
    return Array(3).fill((255 * sum) / channels);
  });
}

// A map into a canvas: white at 0, full colour at `largest`, grey where it is not compared.
export function paintMap(canvas, values, rows, columns, largest, palette) {
  show(canvas, rows, columns, (k) => {
    const value = values[k];
    if (Number.isNaN(value)) return palette.not_compared;
    const full = value < 0 ? palette.negative : palette.positive;
    const place = largest > 0 ? Math.min(1, Math.abs(value) / largest) : 0;
    return full.map((part) => 255 + place * (part - 255));
  });
}

function show(canvas, rows, columns, colour) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const [red, green, blueish] = colour(k);
    picture.data.set([red, green, blueish, 255], 4 * k);
  }
  context.putImageData(picture, 0, 0);
}
