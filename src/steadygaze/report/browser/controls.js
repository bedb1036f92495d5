// Sliders, buttons, colours: everything that is not the map itself.

import { MODES } from "./paint.js";
import { Tracks } from "./tracks.js";
import { number } from "./words.js";

const STEPS = 1000; // of a slider
const PLAYED = 5000; // milliseconds from 0 to the nearest failure
const STOPS = 10; // steps of that way where motion is to be reduced

export function connectControls(root, state) {
  const player = new Player(root, state);
  connectSliders(root, state);
  new Tracks(root, state);
  connectPlane(root, state);
  connectColours(root, state);
  connectZoom(root, state);
  connectJumps(root, state, player);
  connectCopies(root, state);
  return player;
}

function connectSliders(root, state) {
  const { look } = state;
  const rows = look.axes.map((axis, i) => {
    const row = root.querySelector(`[data-axis="${i}"]`);
    const slider = row.querySelector("input[type=range]");
    const field = row.querySelector("input[type=number]");
    slider.max = STEPS;
    const move = (value) => state.go(state.theta.map((old, k) => (k === i ? value : old)));
    slider.addEventListener("input", () => move(axis.low + (slider.value / STEPS) * look.widths[i]));
    field.addEventListener("change", () => {
      if (field.value !== "" && Number.isFinite(Number(field.value))) move(Number(field.value));
      else show();
    });
    return { axis, slider, field };
  });
  const show = () => {
    rows.forEach(({ axis, slider, field }, i) => {
      const value = state.theta[i];
      slider.value = Math.round(((value - axis.low) / look.widths[i]) * STEPS);
      slider.setAttribute("aria-valuetext", `${number(value)}${axis.unit ? ` ${axis.unit}` : ""}`);
      if (document.activeElement !== field || !field.matches(":user-invalid")) field.value = number(value, 6);
    });
  };
  state.listen((changed) => changed.has("theta") && show());
  show();
}

// Which two of three and more parameters the map shows.
function connectPlane(root, state) {
  const [across, up] = ["across", "up"].map((name) => root.querySelector(`select[name=${name}]`));
  if (!across) return;
  const choose = (moved) => {
    let [i, j] = [Number(across.value), Number(up.value)];
    if (i === j) {
      const other = moved === across ? state.axes[0] : state.axes[1];
      if (moved === across) j = other;
      else i = other;
    }
    const axes = [Math.min(i, j), Math.max(i, j)];
    state.set({ axes, view: { x0: 0, x1: 1, y0: 0, y1: 1 } });
    [across.value, up.value] = axes;
  };
  [across, up].forEach((one) => one.addEventListener("change", () => choose(one)));
  [across.value, up.value] = state.axes;
}

function connectColours(root, state) {
  for (const name of MODES) {
    const choice = root.querySelector(`input[name=colours][value=${name}]`);
    choice?.addEventListener("change", () => state.set({ mode: name }));
  }
  for (const name of ["textures", "borders"]) {
    const box = root.querySelector(`input[name=${name}]`);
    if (!box) continue;
    box.checked = state[name];
    box.addEventListener("change", () => state.set({ [name]: box.checked }));
  }
  const show = () => {
    for (const key of root.querySelectorAll("[data-modes]")) key.hidden = !key.dataset.modes.split(" ").includes(state.mode);
  };
  state.listen((changed) => changed.has("mode") && show());
  show();
}

function connectZoom(root, state) {
  const middle = () => {
    const u = state.look.placed(state.theta);
    return [u[state.axes[0]], u[state.axes[1]]];
  };
  const press = (name, share) =>
    root.querySelector(`button[name=${name}]`).addEventListener("click", () => {
      state.zoom(share, ...middle());
      state.follow();
    });
  press("closer", 1 / 1.6);
  press("wider", 1.6);
  press("whole", Infinity);
  const show = () => {
    const size = state.view.x1 - state.view.x0;
    root.querySelector("button[name=whole]").disabled = size >= 1;
    root.querySelector("button[name=wider]").disabled = size >= 1;
    root.querySelector("[data-part=zoom]").textContent = size >= 1 ? "whole box" : `${number(1 / size, 3)} ×`;
  };
  state.listen((changed) => changed.has("view") && show());
  show();
}

function connectJumps(root, state, player) {
  for (const button of root.querySelectorAll("button[data-jump]")) {
    const { theta } = state.look.facts.exhibits[Number(button.dataset.jump)];
    button.addEventListener("click", () => {
      player.stop();
      state.go(theta);
      state.follow();
    });
  }
}

function connectCopies(root, state) {
  const { axes } = state.look;
  const texts = {
    json: () => JSON.stringify(Object.fromEntries(axes.map((axis, i) => [axis.name, state.theta[i]]))),
    python: () => `answer.at([${state.theta.map((value) => String(value)).join(", ")}])`,
  };
  const said = root.querySelector("[data-part=copied]");
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = texts[button.dataset.copy]();
      said.textContent = (await copied(text)) ? `copied: ${text}` : text;
    });
  }
}

// Whether the text is on the clipboard; pages from a disk may be refused it.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

// Moves along the line from 0 to the nearest failure, and tells on the way.
class Player {
  constructor(root, state) {
    this.state = state;
    this.button = root.querySelector("button[name=play]");
    this.goal = state.look.facts.failure?.theta ?? null;
    this.running = 0;
    this.button?.addEventListener("click", () => this.toggle());
  }

  toggle() {
    if (!this.goal) return;
    if (this.running) this.stop();
    else this.start();
  }

  stop() {
    if (this.button) this.button.setAttribute("aria-pressed", "false");
    this.running = 0;
  }

  start() {
    const run = (this.running = performance.now());
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.button.setAttribute("aria-pressed", "true");
    let last = -1;
    const step = (now) => {
      if (this.running !== run) return;
      const share = Math.min(1, Math.max(0, (now - run) / PLAYED));
      const part = calm ? Math.floor(share * STOPS) / STOPS : share;
      if (part !== last) {
        last = part;
        this.state.go(part === 1 ? this.goal : this.goal.map((value) => value * part));
      }
      if (share < 1) requestAnimationFrame(step);
      else this.stop();
    };
    requestAnimationFrame(step);
  }
}
