// Places names beside their points: important ones first, each on its freest side, without overlaps.

const HEIGHT = 15;
const GAP = 9;

let ruler = null;

/** Places labels: [{index, x, y, anchor}], for points in order of importance that are on the screen. */
export function placeLabels(points, names, order, { width, height }) {
  const taken = new Grid(64);
  for (const { x, y } of points) taken.add([x - 5, y - 5, x + 5, y + 5]);
  const placed = [];
  for (const index of order) {
    const { x, y } = points[index];
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const found = sides(x, y, widthOf(names[index])).find(({ box }) => inside(box, width, height) && taken.isFree(box));
    if (!found) continue;
    taken.add(found.box);
    placed.push({ index, x: found.x, y: found.y, anchor: found.anchor });
  }
  return placed;
}

function sides(x, y, wide) {
  const half = HEIGHT / 2;
  return [
    { x: x + GAP, y, anchor: "start", box: [x + GAP, y - half, x + GAP + wide, y + half] },
    { x: x - GAP, y, anchor: "end", box: [x - GAP - wide, y - half, x - GAP, y + half] },
    { x, y: y - GAP - half, anchor: "middle", box: [x - wide / 2, y - GAP - HEIGHT, x + wide / 2, y - GAP] },
    { x, y: y + GAP + half, anchor: "middle", box: [x - wide / 2, y + GAP, x + wide / 2, y + GAP + HEIGHT] },
  ];
}

function inside([x1, y1, x2, y2], width, height) {
  return x1 >= 2 && y1 >= 2 && x2 <= width - 2 && y2 <= height - 2;
}

const widths = new Map();

function widthOf(text) {
  if (!widths.has(text)) {
    ruler ??= document.createElement("canvas").getContext("2d");
    ruler.font = LABEL_FONT;
    widths.set(text, ruler.measureText(text).width);
  }
  return widths.get(text);
}

/** The font of labels; page.css has the same. */
export const LABEL_FONT = "500 11.5px system-ui, sans-serif";

// Boxes by the cells that they touch, so that 300 labels are placed in a moment.
class Grid {
  #cells = new Map();

  constructor(size) {
    this.size = size;
  }

  add(box) {
    for (const key of this.#keys(box)) this.#cells.set(key, [...(this.#cells.get(key) ?? []), box]);
  }

  isFree([x1, y1, x2, y2]) {
    const hit = ([a1, b1, a2, b2]) => x1 < a2 && a1 < x2 && y1 < b2 && b1 < y2;
    return !this.#keys([x1, y1, x2, y2]).some((key) => this.#cells.get(key)?.some(hit));
  }

  #keys([x1, y1, x2, y2]) {
    const keys = [];
    for (let column = Math.floor(x1 / this.size); column <= Math.floor(x2 / this.size); column++) {
      for (let row = Math.floor(y1 / this.size); row <= Math.floor(y2 / this.size); row++) keys.push(`${column},${row}`);
    }
    return keys;
  }
}
