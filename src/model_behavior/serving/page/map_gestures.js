// Pan by dragging, zoom by wheel or two fingers, hover and click on the nearest point.

const REACH = 26; // pixels from a point that still count as on it
const CLICK = 5; // pixels that a click may wander

/** Listens on the figure; `act` has zoom(factor, at), pan(dx, dy), hover(at | null), pick(at). */
export function listenToGestures(figure, act) {
  const fingers = new Map();
  let wandered = 0;
  const place = (event) => {
    const box = figure.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  figure.addEventListener("wheel", (event) => {
    event.preventDefault();
    act.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), place(event));
  }, { passive: false });
  figure.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, place(event));
    wandered = 0;
  });
  figure.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = fingers.get(event.pointerId);
    if (!before) return act.hover(event.pointerType === "mouse" ? now : null);
    wandered += Math.hypot(now.x - before.x, now.y - before.y);
    if (wandered < CLICK) return undefined;
    figure.setPointerCapture(event.pointerId);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, now);
    if (!other) return act.pan(now.x - before.x, now.y - before.y);
    const apart = ({ x, y }) => Math.hypot(x - other.x, y - other.y);
    return act.zoom(apart(now) / Math.max(apart(before), 1), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
  });
  const lift = (event) => {
    const known = fingers.delete(event.pointerId);
    if (known && event.type === "pointerup" && wandered < CLICK) act.pick(place(event));
  };
  for (const event of ["pointerup", "pointercancel"]) figure.addEventListener(event, lift);
  figure.addEventListener("pointerleave", () => act.hover(null));
}

/** The index of the point nearest to a place on the screen, -1 where none is in reach. */
export function nearestPoint(points, at) {
  let best = -1;
  let least = REACH;
  points.forEach(({ x, y }, index) => {
    const distance = Math.hypot(x - at.x, y - at.y);
    if (distance < least) [best, least] = [index, distance];
  });
  return best;
}

/** The index of the next point in a direction, a unit vector: near, and little off the line. */
export function pointTowards(points, from, [dx, dy]) {
  let best = from;
  let least = Infinity;
  points.forEach(({ x, y }, index) => {
    const [ox, oy] = [x - points[from].x, y - points[from].y];
    const along = ox * dx + oy * dy;
    const across = Math.abs(ox * dy - oy * dx);
    if (index === from || along <= 0 || across > 2 * along) return;
    const effort = along + 2 * across;
    if (effort < least) [best, least] = [index, effort];
  });
  return best;
}
