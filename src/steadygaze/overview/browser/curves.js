// Reads the numbers of step curves off at s: by pointing, touching, or with the keys.

import { number, percent } from "../../report/browser/words.js";

const STEP = 0.01; // of s, with the keys
const FAR = 0.1;

// Counts of a measure at s: those of the step, or of the scales between its neighbours.
export function countsAt(curves, measure, s) {
  const { scale } = curves;
  let high = scale.findIndex((end) => end >= s);
  if (high < 0) high = scale.length - 1;
  const [told, place] = scale[high] === s ? [curves[measure], high] : [curves.between[measure], high - 1];
  const n = measure.endsWith("accuracy") ? curves.labelled : curves.n;
  return { n, certain: told.certain[place], unsettled: told.unsettled[place] };
}

export function rateWords({ n, certain, unsettled }) {
  if (!n) return "of no image";
  const most = unsettled ? `: at most ${percent((certain + unsettled) / n)}` : "";
  return `${percent(certain / n)} (${certain} of ${n}; ${unsettled} open${most})`.replaceAll(" %", "\u00a0%");
}

export function connectCurves(figure, curves) {
  const field = figure.querySelector(".field");
  const cursor = figure.querySelector(".cursor");
  const read = figure.querySelector("[data-part=read]");
  const { measure } = figure.dataset;
  const names = [...figure.closest("section").querySelectorAll(".legend li")].map((item) => item.dataset.model);
  const lines = figure.dataset.models
    .split(";")
    .filter(Boolean)
    .map((pair) => pair.split(" "));
  let at = 1;
  const show = (s, pointed) => {
    at = Math.min(1, Math.max(0, s));
    const told = lines.map(([place]) => rateWords(countsAt(curves[place], measure, at)));
    const here = document.createElement("span");
    here.textContent = `s = ${number(at, 3)}`;
    const rows = told.map((words, i) => {
      const row = document.createElement("span");
      row.append(Object.assign(document.createElement("i"), { className: `series s${lines[i][1]}` }), words);
      return row;
    });
    read.replaceChildren(here, ...rows);
    read.dataset.s = String(at);
    cursor.hidden = !pointed;
    cursor.style.left = `${100 * at}%`;
    field.setAttribute("aria-valuenow", String(at));
    field.setAttribute("aria-valuetext", [`s = ${number(at, 3)}`, ...told.map((words, i) => `${names[i] ?? ""} ${words}`)].join("; "));
  };
  const pointed = (event) => {
    const box = field.getBoundingClientRect();
    show(Math.round(((event.clientX - box.left) / box.width) * 1000) / 1000, true);
  };
  field.addEventListener("pointermove", pointed);
  field.addEventListener("pointerdown", pointed);
  field.addEventListener("pointerleave", () => field.matches(":focus-visible") || show(1, false));
  field.addEventListener("focus", () => field.matches(":focus-visible") && show(at, true));
  field.addEventListener("blur", () => show(1, false));
  field.addEventListener("keydown", (event) => {
    const by = event.shiftKey ? FAR : STEP;
    const to = { ArrowLeft: at - by, ArrowDown: at - by, ArrowRight: at + by, ArrowUp: at + by, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(Math.round(to * 1000) / 1000, true);
  });
  show(1, false);
}
