// The map of models: an SVG figure that is panned, zoomed, hovered, clicked and walked through with the keyboard.

import { h, mayMove, s, set, show } from "./dom.js";
import { count, decimal, interval, plural } from "./format.js";
import { Camera } from "./map_camera.js";
import { listenToGestures, nearestPoint, pointTowards } from "./map_gestures.js";
import { placeLabels } from "./map_labels.js";

const STAR = "M0 -10 2.7 -3.4 9.8 -3.1 4.3 1.4 6.2 8.3 0 4.4 -6.2 8.3 -4.3 1.4 -9.8 -3.1 -2.7 -3.4Z";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const JOURNEY = 450; // milliseconds
const SETTLED = 120; // milliseconds without a move, after which names are placed anew

/**
 * The figure of `models` (with x, y, ellipse). `colourOf(family)` is a class; `fresh` holds names of models just placed;
 * `axes` are shares of the variance; `onPick(name | null)` is told what is chosen.
 */
export class MapFigure {
  #camera = new Camera();
  #screen = [];
  #size = { width: 0, height: 0 };
  #chosen = -1;
  #focused = 0;
  #lines = [];
  #labels = [];
  #lit = null;
  #waiting = 0;
  #settling = 0;

  constructor({ models, axes, colourOf, fresh = new Set(), onPick = () => {} }) {
    Object.assign(this, { models, axes, colourOf, fresh, onPick });
    this.#build();
    this.#watcher = new ResizeObserver(() => this.#resize());
    this.#watcher.observe(this.element);
  }

  #watcher;

  close() {
    this.#watcher.disconnect();
    clearTimeout(this.#settling);
  }

  /** Chooses a model by name, null for none, draws lines to its neighbours, and brings it into sight. */
  choose(name, neighbours = []) {
    const index = this.models.findIndex((model) => model.name === name);
    this.points[this.#chosen]?.classList.remove("chosen");
    this.#chosen = index;
    this.points[index]?.classList.add("chosen");
    if (index >= 0) this.#moveFocusTo(index, false);
    this.#lines = neighbours.map((near) => this.models.findIndex((model) => model.name === near)).filter((to) => to >= 0);
    this.#draw();
    const at = this.#screen[index];
    const away = at && (at.x < 20 || at.y < 20 || at.x > this.#size.width - 20 || at.y > this.#size.height - 20);
    if (away) this.#travel(new Camera().set(this.#camera.scale, ...this.#centred(index)));
  }

  /** Lights some models and dims the others; null lights all. */
  light(names) {
    this.#lit = names && new Set(names);
    this.models.forEach(({ name }, index) => {
      const dim = Boolean(this.#lit) && !this.#lit.has(name);
      this.points[index].classList.toggle("dim", dim);
      this.ellipses[index]?.classList.toggle("dim", dim);
    });
    this.#draw();
  }

  zoom(factor) {
    const goal = Object.assign(new Camera(), this.#camera);
    goal.zoom(factor, { x: this.#size.width / 2, y: this.#size.height / 2 });
    this.#travel(goal);
  }

  reset() {
    this.#travel(new Camera().fit(this.models, this.#size));
  }

  /** What a picture of the present view needs. */
  get scene() {
    const { scale } = this.#camera;
    return { size: this.#size, screen: this.#screen, labels: this.#labels, models: this.models, fresh: this.fresh, scale };
  }

  #build() {
    this.ellipses = this.models.map((model) => this.#region(model));
    this.points = this.models.map((model, index) => this.#point(model, index));
    this.layers = Object.fromEntries(["grid", "lines", "regions", "dots", "names"].map((name) => [name, s("g", { class: name })]));
    for (const name of ["grid", "lines", "regions", "names"]) set(this.layers[name], { "aria-hidden": "true" });
    this.layers.regions.append(...this.ellipses.filter(Boolean));
    this.layers.dots.append(...this.points);
    set(this.points[0], { tabindex: 0 });
    const label = `Map of ${plural(this.models.length, "model")}. Arrow keys go from model to model, Enter opens one, plus and minus zoom.`;
    this.svg = s("svg", { role: "group", "aria-label": label, on: { keydown: (event) => this.#press(event) } }, ...Object.values(this.layers));
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.element = h("div", { class: "figure" }, this.svg, this.tip);
    listenToGestures(this.svg, {
      zoom: (factor, at) => this.#change(() => this.#camera.zoom(factor, at)),
      pan: (dx, dy) => this.#change(() => this.#camera.pan(dx, dy)),
      hover: (at) => this.#hover(at ? nearestPoint(this.#screen, at) : -1),
      pick: (at) => this.#pick(nearestPoint(this.#screen, at)),
    });
  }

  // In map units with y up: the layer has the camera's transform, so that a move is one attribute for all of them.
  #region(model) {
    if (!model.ellipse) return null;
    const { x, y, ellipse } = model;
    const turned = `rotate(${((180 * ellipse.angle) / Math.PI).toFixed(2)} ${x} ${y})`;
    return s("ellipse", { class: `region ${this.#classOf(model)}`, cx: x, cy: y, rx: ellipse.major, ry: ellipse.minor, transform: turned });
  }

  #point(model, index) {
    const fresh = this.fresh.has(model.name);
    const shape = fresh ? s("path", { class: "dot", d: STAR }) : s("circle", { class: "dot", r: model.enrolled ? 4.8 : 5.2 });
    const kind = fresh ? "fresh" : model.enrolled ? "enrolled" : "voted";
    return s(
      "g",
      {
        class: `point ${kind} ${this.#classOf(model)}`,
        role: "button",
        tabindex: -1,
        "aria-label": describe(model, fresh),
        on: { focus: () => this.#focus(index), blur: () => this.#hover(-1) },
      },
      ...(fresh ? [s("circle", { class: "ripple", r: 16 })] : []),
      s("circle", { class: "halo", r: 11 }),
      shape,
    );
  }

  #classOf(model) {
    return this.fresh.has(model.name) ? "family-fresh" : this.colourOf(model.family);
  }

  #resize() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!width || !height) return;
    this.#size = { width, height };
    set(this.svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    this.#camera.fit(this.models, this.#size);
    this.#camera.markWhole();
    this.#draw();
  }

  #change(move) {
    move();
    this.#hover(-1);
    if (!this.#waiting) this.#waiting = requestAnimationFrame(() => this.#draw(true));
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#draw(), SETTLED);
  }

  #travel(goal) {
    this.#camera.travel(goal, (moving) => this.#draw(moving), mayMove() ? JOURNEY : 0);
  }

  #centred(index) {
    const { scale } = this.#camera;
    const { x, y } = this.models[index];
    return [this.#size.width / 2 - scale * x, this.#size.height / 2 + scale * y];
  }

  #draw(moving = false) {
    this.#waiting = 0;
    if (!this.#size.width) return;
    this.svg.classList.toggle("zoomed", !this.#camera.isWhole);
    this.#screen = this.models.map((model) => this.#camera.toScreen(model));
    const { left, top, scale } = this.#camera;
    set(this.layers.regions, { transform: `translate(${left} ${top}) scale(${scale} ${-scale})` });
    this.#screen.forEach(({ x, y }, index) => set(this.points[index], { transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})` }));
    this.#drawLines();
    this.#drawGrid();
    if (moving) this.#moveNames();
    else this.#drawNames();
  }

  #drawLines() {
    const from = this.#screen[this.#chosen];
    const ends = from ? this.#lines.map((index) => this.#screen[index]) : [];
    this.layers.lines.replaceChildren(...ends.map((to) => s("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y })));
  }

  #drawGrid() {
    const { width, height } = this.#size;
    const { x, y } = this.#camera.toScreen({ x: 0, y: 0 });
    const [across, up] = this.axes ?? [];
    this.layers.grid.replaceChildren(
      s("line", { x1: 0, x2: width, y1: y, y2: y }),
      s("line", { x1: x, x2: x, y1: 0, y2: height }),
      ...(this.axes
        ? [
            s("text", { x: width - 10, y: height - 10, "text-anchor": "end" }, `→ ${decimal(100 * across, 0)} % of the variance`),
            s("text", { x: 10, y: 20 }, `↑ ${decimal(100 * up, 0)} %`),
          ]
        : []),
    );
  }

  // While the map moves, names go along with their points.
  #moveNames() {
    this.#labels.forEach(({ index, dx, dy }, place) => {
      set(this.layers.names.children[place], { x: this.#screen[index].x + dx, y: this.#screen[index].y + dy });
    });
  }

  #drawNames() {
    const weight = (index) => {
      const { name, votes = 0, count: responses } = this.models[index];
      if (index === this.#chosen) return Infinity;
      if (this.fresh.has(name)) return 1e12;
      return (this.#lines.includes(index) ? 1e9 : 0) + (this.#lit?.has(name) ? 1e6 : 0) + votes + responses / 1e4;
    };
    const order = this.models.map((_, index) => index).filter((index) => !this.#lit || this.#lit.has(this.models[index].name));
    order.sort((a, b) => weight(b) - weight(a));
    const placed = placeLabels(this.#screen, this.models.map(({ name }) => name), order, this.#size);
    this.#labels = placed.map((label) => ({ ...label, dx: label.x - this.#screen[label.index].x, dy: label.y - this.#screen[label.index].y }));
    this.layers.names.replaceChildren(
      ...this.#labels.map(({ index, x, y, anchor }) =>
        s("text", { x, y, "text-anchor": anchor, class: index === this.#chosen ? "chosen" : null }, this.models[index].name),
      ),
    );
  }

  #hover(index) {
    this.svg.classList.toggle("over", index >= 0);
    show(this.tip, index >= 0);
    if (index < 0) return;
    const model = this.models[index];
    const { x, y } = this.#screen[index];
    this.tip.replaceChildren(h("strong", {}, model.name), ...facts(model).map((fact) => h("span", {}, fact)));
    const left = Math.min(Math.max(x, 110), this.#size.width - 110);
    const below = y < 120;
    this.tip.classList.toggle("below", below);
    this.tip.style.setProperty("transform", `translate(${left}px, ${below ? y + 14 : y - 14}px) translate(-50%, ${below ? "0" : "-100%"})`);
  }

  #focus(index) {
    this.#moveFocusTo(index, false);
    this.#hover(index);
  }

  #moveFocusTo(index, really = true) {
    set(this.points[this.#focused], { tabindex: -1 });
    this.#focused = index;
    set(this.points[index], { tabindex: 0 });
    if (really) this.points[index].focus();
  }

  #pick(index) {
    this.onPick(index < 0 ? null : this.models[index].name);
  }

  #press(event) {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key in ARROWS) this.#moveFocusTo(pointTowards(this.#screen, this.#focused, ARROWS[key]));
    else if (key === "Home") this.#moveFocusTo(0);
    else if (key === "End") this.#moveFocusTo(this.models.length - 1);
    else if (key === "Enter" || key === " ") this.#pick(this.#focused);
    else if (key === "Escape") this.#pick(-1);
    else if (key === "+" || key === "=") this.zoom(1.5);
    else if (key === "-") this.zoom(1 / 1.5);
    else if (key === "0") this.reset();
    else return;
    event.preventDefault();
  }
}

function facts(model) {
  const rated = model.rating === null || model.rating === undefined ? [] : [`rating ${decimal(model.rating)} (${interval(model)})`];
  const votes = model.enrolled ? "enrolled, never voted on" : `${count(model.votes)} votes`;
  return [model.family, ...rated, `${plural(model.count, "response")}, ${votes}`];
}

function describe(model, fresh) {
  return [`${model.name}${fresh ? ", new" : ""}`, ...facts(model)].join(", ");
}
