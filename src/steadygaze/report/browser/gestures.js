// Pointer, wheel and keys over a map or a line, as changes of the state.
//
// `place(event)` is where the pointer is: { x, y } in the box as it is drawn, `inside` the frame or not, and
// `width`, `height` of the frame in pixels. A click or tap stays there; a mouse that passes over only peeks.

const MOVED = 5; // pixels from which on a press is a drag
const QUIET = 350; // a wheel that has been scrolling the page goes on doing so for so many milliseconds

export function followPointer(target, state, place) {
  const pressed = new Map();
  let start = null;
  let apart = 0;

  const thetaAt = ({ x, y }) => {
    const u = state.look.placed(state.theta);
    u[state.axes[0]] = Math.min(1, Math.max(0, x));
    if (state.axes[1] !== state.axes[0]) u[state.axes[1]] = Math.min(1, Math.max(0, y));
    const theta = [...state.theta];
    for (const axis of state.axes) theta[axis] = state.look.theta(u)[axis];
    return state.settled(theta);
  };

  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const at = place(event);
    if (!at.inside) return;
    pressed.set(event.pointerId, event);
    target.setPointerCapture(event.pointerId);
    start = { x: event.clientX, y: event.clientY, view: state.view, dragged: pressed.size > 1 };
    apart = pressed.size > 1 ? gap([...pressed.values()]) : 0;
  });

  target.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (!pressed.has(event.pointerId)) {
      if (event.pointerType !== "touch") state.set({ peek: at.inside ? thetaAt(at) : null });
      return;
    }
    const before = pressed.get(event.pointerId);
    pressed.set(event.pointerId, event);
    if (pressed.size > 1) {
      const now = gap([...pressed.values()]);
      if (apart && now) state.zoom(apart / now, at.x, at.y);
      apart = now;
      return;
    }
    if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > MOVED) start.dragged = true;
    if (!start.dragged) return;
    if (event.pointerType === "touch" && whole(state.view)) state.go(thetaAt(at));
    else {
      const size = state.view.x1 - state.view.x0;
      const across = ((before.clientX - event.clientX) / at.width) * size;
      state.set({ peek: null });
      state.pan(across, ((event.clientY - before.clientY) / at.height) * size);
    }
  });

  const release = (event) => {
    if (!pressed.delete(event.pointerId)) return;
    const at = place(event);
    if (event.type === "pointerup" && !start.dragged && at.inside) state.go(thetaAt(at));
    if (pressed.size) start.dragged = true;
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("pointerleave", () => state.set({ peek: null }));
}

function gap([one, other]) {
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
}

function whole({ x0, x1 }) {
  return x1 - x0 >= 1;
}

export function followWheel(target, state, place) {
  let elsewhere = -Infinity;
  window.addEventListener("wheel", (event) => {
    if (!target.contains(event.target)) elsewhere = event.timeStamp;
  }, { passive: true });
  target.addEventListener("wheel", (event) => {
    const at = place(event);
    const scrolling = event.timeStamp - elsewhere < QUIET;
    if (scrolling) elsewhere = event.timeStamp;
    if (!at.inside || (!event.ctrlKey && (scrolling || (event.deltaY > 0 && whole(state.view))))) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 24 : 1;
    state.zoom(Math.exp(Math.max(-1, Math.min(1, (event.deltaY * lines) / 320))), at.x, at.y);
  }, { passive: false });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

// Arrows move by a hundredth of what is shown, ten with Shift; +, - and 0 zoom; `others` are further keys.
export function followKeys(target, state, others) {
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { view, axes, look } = state;
    const u = look.placed(state.theta);
    const [x, y] = [u[axes[0]], u[axes[1]]];
    if (event.key in ARROWS) {
      const step = ((view.x1 - view.x0) / 100) * (event.shiftKey ? 10 : 1);
      const theta = [...state.theta];
      ARROWS[event.key].forEach((way, k) => {
        if (way && (k === 0 || axes[1] !== axes[0])) theta[axes[k]] += way * step * look.widths[axes[k]];
      });
      state.go(theta.map((value) => (Math.abs(value) < 1e-15 ? 0 : value)));
      state.follow();
    } else if (event.key === "+" || event.key === "=") state.zoom(1 / 1.5, x, y);
    else if (event.key === "-" || event.key === "_") state.zoom(1.5, x, y);
    else if (event.key === "0") state.zoom(Infinity, x, y);
    else if (event.key in others) others[event.key]();
    else return;
    event.preventDefault();
  });
}
