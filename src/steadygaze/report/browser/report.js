// The entry: takes the data out of the page and brings the pointing to life; without it the page stays as it is.

import { connectControls } from "./controls.js";
import { unpacked } from "./data.js";
import { LineView } from "./line.js";
import { Look } from "./look.js";
import { MapView } from "./map.js";
import { Panel } from "./panel.js";
import { State } from "./state.js";
import { connectTheme } from "./theme.js";

connectTheme();
const facts = JSON.parse(document.getElementById("atlas-facts")?.textContent ?? "null");
if (facts && typeof DecompressionStream === "function") {
  begin(facts, await unpacked(facts, document.getElementById("atlas-arrays").textContent.trim()));
}

function begin(told, arrays) {
  const root = document.getElementById("pointing");
  const state = new State(new Look(told, arrays));
  const host = document.getElementById("map");
  const player = connectControls(root, state);
  const keys = {
    Home: () => state.go(state.look.axes.map(() => 0)),
    End: () => told.failure && state.go(told.failure.theta),
    p: () => player.toggle(),
    Escape: () => player.stop(),
  };
  const panel = new Panel(document.getElementById("pointed"), state);
  root.hidden = false;
  document.documentElement.classList.add("alive");
  const view = state.look.n === 1 ? new LineView(host, state, keys) : new MapView(host, state, keys);
  view.refresh(true);
  panel.refresh();
  document.addEventListener("theme", () => view.refresh(true));
  addEventListener("beforeprint", () => view.print());
  addEventListener("afterprint", () => view.refresh(true));
  root.dataset.ready = "true";
}
