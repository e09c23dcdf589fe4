// Draws the map: an SVG of points, regions, lines, a grid and names, and a box about one point.

import { h, s, set, show } from "./dom.js";
import { count, decimal, elo, interval, plural } from "./format.js";
import { placeLabels } from "./map_labels.js";

const LAYERS = ["grid", "lines", "regions", "dots", "names"];

/** The outline of a star around 0, 0. */
export const STAR = "M0 -10 2.7 -3.4 9.8 -3.1 4.3 1.4 6.2 8.3 0 4.4 -6.2 8.3 -4.3 1.4 -9.8 -3.1 -2.7 -3.4Z";

/**
 * The elements of a map. `map` has `models`, `axes`, `colourOf` and `fresh` as `MapFigure` has them; `listeners` are
 * press(event), focus(index) and blur(). It keeps elements and no state: what is seen comes with `draw`.
 */
export class MapDrawing {
  #map;
  #colours;
  #labels = [];

  constructor(map, { press, focus, blur }) {
    const { models } = map;
    this.#map = map;
    this.#colours = models.map((model) => map.colourOf(model));
    this.regions = models.map((model, index) => this.#region(model, index));
    this.points = models.map((model, index) => this.#point(model, index, { focus: () => focus(index), blur }));
    this.layers = Object.fromEntries(LAYERS.map((name) => [name, s("g", { class: name, "aria-hidden": name === "dots" ? null : "true" })]));
    this.layers.regions.append(...this.regions.filter(Boolean));
    this.layers.dots.append(...this.points);
    const label = `Map of ${plural(models.length, "model")}. Arrow keys go from model to model, Enter opens one, plus and minus zoom.`;
    this.svg = s("svg", { role: "group", "aria-label": label, on: { keydown: press } }, ...Object.values(this.layers));
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.element = h("div", { class: "figure" }, this.svg, this.tip);
  }

  /** Where the names are that had room: [{index, x, y, anchor}]. */
  get labels() {
    return this.#labels;
  }

  resize({ width, height }) {
    set(this.svg, { width, height, viewBox: `0 0 ${width} ${height}` });
  }

  /** Gives a model, if there is one, a class or takes it. */
  toggle(index, name, on) {
    for (const element of [this.points[index], this.regions[index]]) element?.classList.toggle(name, on);
  }

  /** Gives each model the class that `colourOf(model)` says. */
  colour(colourOf) {
    this.#map.models.forEach((model, index) => {
      const [before, now] = [this.#colours[index], colourOf(model)];
      for (const element of [this.points[index], this.regions[index]]) element?.classList.replace(before, now);
      this.#colours[index] = now;
    });
  }

  /**
   * Puts everything in its place. `view` has the `camera`, the `size` of the figure, where the models are on the `screen`,
   * the index of the `chosen` one, those that `lines` go to, and the set of `lit` names or null. While the map is `moving`,
   * names go along with their points; once it rests, they are placed anew.
   */
  draw(view, moving) {
    const { camera, screen } = view;
    this.svg.classList.toggle("zoomed", !camera.isWhole);
    // Regions are in map units with y up, so that a move is one attribute for all of them.
    set(this.layers.regions, { transform: `translate(${camera.left} ${camera.top}) scale(${camera.scale} ${-camera.scale})` });
    screen.forEach(({ x, y }, index) => set(this.points[index], { transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})` }));
    this.#drawLines(view);
    this.#drawGrid(view);
    if (moving) this.#moveNames(view);
    else this.#drawNames(view);
  }

  /** Shows the box that tells of a model at a place on the screen. */
  tell(index, { x, y }, { width }) {
    const model = this.#map.models[index];
    this.tip.replaceChildren(h("strong", {}, model.name), ...facts(model).map((fact) => h("span", {}, fact)));
    const left = Math.min(Math.max(x, 110), width - 110);
    const below = y < 120;
    this.tip.classList.toggle("below", below);
    this.tip.style.setProperty("transform", `translate(${left}px, ${below ? y + 14 : y - 14}px) translate(-50%, ${below ? "0" : "-100%"})`);
    this.#showTip(true);
  }

  hush() {
    this.#showTip(false);
  }

  #showTip(visible) {
    this.svg.classList.toggle("over", visible);
    show(this.tip, visible);
  }

  #region(model, index) {
    if (!model.ellipse) return null;
    const { x, y, ellipse } = model;
    const turned = `rotate(${((180 * ellipse.angle) / Math.PI).toFixed(2)} ${x} ${y})`;
    return s("ellipse", { class: `region ${this.#colours[index]}`, cx: x, cy: y, rx: ellipse.major, ry: ellipse.minor, transform: turned });
  }

  #point(model, index, on) {
    const fresh = this.#map.fresh.has(model.name);
    const shape = fresh ? s("path", { class: "dot", d: STAR }) : s("circle", { class: "dot", r: model.enrolled ? 4.8 : 5.2 });
    const kind = fresh ? "fresh" : model.enrolled ? "enrolled" : "voted";
    return s(
      "g",
      { class: `point ${kind} ${this.#colours[index]}`, role: "button", tabindex: -1, "aria-label": describe(model, fresh), on },
      ...(fresh ? [s("circle", { class: "ripple", r: 16 })] : []),
      s("circle", { class: "halo", r: 11 }),
      shape,
    );
  }

  #drawLines({ screen, chosen, lines }) {
    const from = screen[chosen];
    const ends = from ? lines.map((index) => screen[index]) : [];
    this.layers.lines.replaceChildren(...ends.map((to) => s("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y })));
  }

  #drawGrid({ camera, size: { width, height } }) {
    if (!this.#map.axes) return; // places alone: their directions mean nothing
    const { x, y } = camera.toScreen({ x: 0, y: 0 });
    const [across, up] = this.#map.axes;
    this.layers.grid.replaceChildren(
      s("line", { x1: 0, x2: width, y1: y, y2: y }),
      s("line", { x1: x, x2: x, y1: 0, y2: height }),
      s("text", { x: width - 10, y: height - 10, "text-anchor": "end" }, `→ ${decimal(100 * across, 0)} % of the variance`),
      s("text", { x: 10, y: 20 }, `↑ ${decimal(100 * up, 0)} %`),
    );
  }

  #moveNames({ screen }) {
    this.#labels.forEach(({ index, dx, dy }, place) => {
      set(this.layers.names.children[place], { x: screen[index].x + dx, y: screen[index].y + dy });
    });
  }

  #drawNames(view) {
    const { screen, size, chosen } = view;
    const placed = placeLabels(screen, this.#map.models.map(({ name }) => name), this.#byImportance(view), size);
    this.#labels = placed.map((label) => ({ ...label, dx: label.x - screen[label.index].x, dy: label.y - screen[label.index].y }));
    this.layers.names.replaceChildren(
      ...this.#labels.map(({ index, x, y, anchor }) =>
        s("text", { x, y, "text-anchor": anchor, class: index === chosen ? "chosen" : null }, this.#map.models[index].name),
      ),
    );
  }

  // Indices of the models whose names are wanted, the one that must be readable first.
  #byImportance({ chosen, lines, lit }) {
    const weight = (index) => {
      const { name, votes = 0, count: responses } = this.#map.models[index];
      if (index === chosen) return Infinity;
      if (this.#map.fresh.has(name)) return 1e12;
      return (lines.includes(index) ? 1e9 : 0) + (lit?.has(name) ? 1e6 : 0) + votes + responses / 1e4;
    };
    const wanted = this.#map.models.map((_, index) => index).filter((index) => !lit || lit.has(this.#map.models[index].name));
    return wanted.sort((a, b) => weight(b) - weight(a));
  }
}

function facts(model) {
  const responses = plural(model.count, "response");
  if (model.rating === null || model.rating === undefined) return [model.family, responses]; // without a scorer, votes are unknown
  const votes = model.enrolled ? "enrolled, never voted on" : `${count(model.votes)} votes`;
  return [model.family, `rating ${elo(model.rating)} (${interval(model)})`, `${responses}, ${votes}`];
}

function describe(model, fresh) {
  return [`${model.name}${fresh ? ", new" : ""}`, ...facts(model)].join(", ");
}
