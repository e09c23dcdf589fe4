// The interactive map of models: pan, zoom, hover, click, and keyboard.

import { mayMove, set } from "./dom.js";
import { Camera } from "./map_camera.js";
import { MapDrawing } from "./map_drawing.js";
import { listenToGestures, nearestPoint, pointTowards } from "./map_gestures.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MARGIN = 20; // pixels from the edge within which a model counts as out of sight
const JOURNEY = 450; // milliseconds
const SETTLED = 120; // milliseconds without a move, after which names are placed anew

/**
 * The figure of `models` (with x, y, ellipse or null). `colourOf(model)` is a class; `fresh` holds names of models drawn as
 * stars; `axes` are shares of the variance, null where directions mean nothing; `onPick(name | null)` is told what is chosen.
 */
export class MapFigure {
  #view = { camera: new Camera(), size: { width: 0, height: 0 }, screen: [], chosen: -1, lines: [], lit: null };
  #focused = 0;
  #waiting = 0;
  #settling = 0;
  #drawing;
  #watcher;

  constructor({ models, axes, colourOf, fresh = new Set(), onPick = () => {} }) {
    Object.assign(this, { models, fresh, onPick });
    const listeners = { press: (event) => this.#press(event), focus: (index) => this.#focus(index), blur: () => this.#drawing.hush() };
    this.#drawing = new MapDrawing({ models, axes, colourOf, fresh }, listeners);
    this.element = this.#drawing.element;
    this.#moveFocusTo(0, false);
    const { camera } = this.#view;
    listenToGestures(this.#drawing.svg, {
      zoom: (factor, at) => this.#change(() => camera.zoom(factor, at)),
      pan: (dx, dy) => this.#change(() => camera.pan(dx, dy)),
      hover: (at) => this.#hover(at ? nearestPoint(this.#view.screen, at) : -1),
      pick: (at) => this.#pick(nearestPoint(this.#view.screen, at)),
    });
    this.#watcher = new ResizeObserver(() => this.#resize());
    this.#watcher.observe(this.element);
  }

  close() {
    this.#watcher.disconnect();
    clearTimeout(this.#settling);
  }

  /** Chooses a model by name, null for none, draws lines to its neighbours, and brings it into sight. */
  choose(name, neighbours = []) {
    const index = this.#indexOf(name);
    this.#drawing.toggle(this.#view.chosen, "chosen", false);
    this.#drawing.toggle(index, "chosen", true);
    if (index >= 0) this.#moveFocusTo(index, false);
    Object.assign(this.#view, { chosen: index, lines: neighbours.map((near) => this.#indexOf(near)).filter((to) => to >= 0) });
    this.#draw();
    const { size, screen, camera } = this.#view;
    const at = screen[index];
    const away = at && (at.x < MARGIN || at.y < MARGIN || at.x > size.width - MARGIN || at.y > size.height - MARGIN);
    if (away) this.#travel(new Camera().set(camera.scale, ...this.#centred(index)));
  }

  /** Colours the models anew. */
  colour(colourOf) {
    this.#drawing.colour(colourOf);
  }

  /** Lights some models and dims the others; null lights all. */
  light(names) {
    const lit = names && new Set(names);
    this.#view.lit = lit;
    this.models.forEach(({ name }, index) => this.#drawing.toggle(index, "dim", Boolean(lit) && !lit.has(name)));
    this.#draw();
  }

  zoom(factor) {
    const { camera, size } = this.#view;
    const goal = Object.assign(new Camera(), camera);
    goal.zoom(factor, { x: size.width / 2, y: size.height / 2 });
    this.#travel(goal);
  }

  reset() {
    this.#travel(new Camera().fit(this.models, this.#view.size));
  }

  /** What a picture of the present view needs. */
  get scene() {
    const { size, screen, camera } = this.#view;
    const { points, labels } = this.#drawing;
    return { size, screen, points, labels, models: this.models, fresh: this.fresh, scale: camera.scale };
  }

  #indexOf(name) {
    return this.models.findIndex((model) => model.name === name);
  }

  #resize() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!width || !height) return;
    this.#view.size = { width, height };
    this.#drawing.resize(this.#view.size);
    this.#view.camera.fit(this.models, this.#view.size).markWhole();
    this.#draw();
  }

  #change(move) {
    move();
    this.#drawing.hush();
    if (!this.#waiting) this.#waiting = requestAnimationFrame(() => this.#draw(true));
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#draw(), SETTLED);
  }

  #travel(goal) {
    this.#view.camera.travel(goal, (moving) => this.#draw(moving), mayMove() ? JOURNEY : 0);
  }

  #centred(index) {
    const { size, camera } = this.#view;
    const { x, y } = this.models[index];
    return [size.width / 2 - camera.scale * x, size.height / 2 + camera.scale * y];
  }

  #draw(moving = false) {
    this.#waiting = 0;
    if (!this.#view.size.width) return;
    this.#view.screen = this.models.map((model) => this.#view.camera.toScreen(model));
    this.#drawing.draw(this.#view, moving);
  }

  #hover(index) {
    if (index < 0) this.#drawing.hush();
    else this.#drawing.tell(index, this.#view.screen[index], this.#view.size);
  }

  #focus(index) {
    this.#moveFocusTo(index, false);
    this.#hover(index);
  }

  #moveFocusTo(index, really = true) {
    const { points } = this.#drawing;
    set(points[this.#focused], { tabindex: -1 });
    this.#focused = index;
    set(points[index], { tabindex: 0 });
    if (really) points[index].focus();
  }

  #pick(index) {
    this.onPick(index < 0 ? null : this.models[index].name);
  }

  #press(event) {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key in ARROWS) this.#moveFocusTo(pointTowards(this.#view.screen, this.#focused, ARROWS[key]));
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
