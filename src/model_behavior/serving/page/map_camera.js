// Converts map units to pixels and back. Both axes have the same scale, so distances on the screen are comparable.

const PADDING = 48; // pixels around the outermost models
const DEEPEST = 60; // how far to zoom in, as a multiple of the whole map

export class Camera {
  scale = 1;
  left = 0;
  top = 0;
  whole = 1;

  /** Shows these points in a figure of this size. */
  fit(points, { width, height }, deepest = Infinity) {
    const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
    const [minX, maxX, minY, maxY] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const room = [Math.max(width - 2 * PADDING, 40), Math.max(height - 2 * PADDING, 40)];
    const scale = Math.min(room[0] / Math.max(maxX - minX, 1e-6), room[1] / Math.max(maxY - minY, 1e-6), deepest);
    return this.set(scale, width / 2 - (scale * (minX + maxX)) / 2, height / 2 + (scale * (minY + maxY)) / 2);
  }

  set(scale, left, top) {
    Object.assign(this, { scale, left, top });
    return this;
  }

  /** Remembers the present scale as that of the whole map. */
  markWhole() {
    this.whole = this.scale;
  }

  toScreen({ x, y }) {
    return { x: this.left + this.scale * x, y: this.top - this.scale * y };
  }

  /** Zooms so that what is under a point of the screen stays there. */
  zoom(factor, at) {
    const scale = Math.min(Math.max(this.scale * factor, this.whole / 2), this.whole * DEEPEST);
    const ratio = scale / this.scale;
    this.set(scale, at.x - ratio * (at.x - this.left), at.y - ratio * (at.y - this.top));
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
  }

  get isWhole() {
    return this.scale <= this.whole * 1.001;
  }

  /** Goes to another camera's place, step by step; `draw(moving)` is called at each, the last one at the goal. */
  travel(goal, draw, milliseconds) {
    const from = { scale: this.scale, left: this.left, top: this.top };
    const started = performance.now();
    const step = (now) => {
      const part = milliseconds ? Math.min(Math.max((now - started) / milliseconds, 0), 1) : 1;
      const eased = 1 - (1 - part) ** 3;
      this.set(...["scale", "left", "top"].map((key) => from[key] + eased * (goal[key] - from[key])));
      draw(part < 1);
      if (part < 1) requestAnimationFrame(step);
    };
    step(started);
  }
}
