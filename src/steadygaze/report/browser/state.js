// What is pointed at and how it is shown; whoever listens is told what changed.

export class State {
  constructor(look) {
    this.look = look;
    this.theta = look.axes.map(() => 0); // where one stays
    this.peek = null; // where the pointer is, for as long as it is over the map
    this.axes = look.n > 1 ? [0, 1] : [0, 0];
    this.view = { x0: 0, x1: 1, y0: 0, y1: 1 };
    this.mode = look.facts.class_alone ? "class" : "all";
    this.textures = true;
    this.borders = look.kinds.length <= 4000;
    this.listeners = [];
  }

  get shown() {
    return this.peek ?? this.theta;
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  // Takes changes such as { mode: "class" }, and tells of their names.
  set(changes) {
    const changed = new Set(Object.keys(changes).filter((name) => changes[name] !== this[name]));
    Object.assign(this, changes);
    if (changed.size) for (const listener of this.listeners) listener(changed);
  }

  // Stays at theta, moved to the middle of a picture element where only these are known.
  go(theta) {
    const inside = theta.map((value, i) => {
      const { low, high } = this.look.axes[i];
      return Math.min(high, Math.max(low, value));
    });
    const exhibit = this.look.facts.exhibits.some((one) => one.theta.every((value, i) => value === inside[i]));
    this.set({ theta: exhibit ? inside : this.settled(inside), peek: null });
  }

  settled(theta) {
    const u = this.look.placed(theta);
    const moved = this.look.ground.settled(u, this.axes);
    return theta.map((value, i) => (moved[i] === u[i] ? value : this.look.theta(moved)[i]));
  }

  // Shows `share` times as much of each axis as now, about the place (x, y) of the box, never beyond it.
  zoom(share, x, y) {
    const { x0, x1, y0, y1 } = this.view;
    const size = Math.min(1, Math.max(1e-6, (x1 - x0) * share));
    const factor = size / (x1 - x0);
    this.show(x + (x0 - x) * factor, y + (y0 - y) * factor, size);
  }

  pan(dx, dy) {
    this.show(this.view.x0 + dx, this.view.y0 + dy, this.view.x1 - this.view.x0);
  }

  show(x, y, size) {
    const x0 = Math.min(1 - size, Math.max(0, x));
    const y0 = Math.min(1 - size, Math.max(0, y));
    this.set({ view: { x0, x1: x0 + size, y0, y1: y0 + size } });
  }

  // Moves the view, if need be, so that it shows the place one stays at.
  follow() {
    const u = this.look.placed(this.theta);
    const [x, y] = [u[this.axes[0]], u[this.axes[1]]];
    const { x0, x1, y0, y1 } = this.view;
    const size = x1 - x0;
    if (x < x0 || x > x1 || y < y0 || y > y1) this.show(x - size / 2, y - size / 2, size);
  }
}
