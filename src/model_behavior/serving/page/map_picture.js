// The map as a PNG: what is on the screen, drawn again on a canvas.

import { STAR } from "./map_drawing.js";
import { LABEL_FONT } from "./map_labels.js";

const SHARPNESS = 2;

/** A PNG of a figure's scene, with the colours that `page` has at this moment. */
export function pictureOf(figure, page) {
  const { size, screen, points, labels, models, fresh, scale } = figure.scene;
  const canvas = document.createElement("canvas");
  canvas.width = size.width * SHARPNESS;
  canvas.height = size.height * SHARPNESS;
  const pen = canvas.getContext("2d");
  pen.scale(SHARPNESS, SHARPNESS);
  pen.fillStyle = getComputedStyle(page).backgroundColor;
  pen.fillRect(0, 0, size.width, size.height);
  const colours = points.map((point) => getComputedStyle(point).color);
  screen.forEach((at, index) => drawRegion(pen, at, models[index].ellipse, scale, colours[index]));
  screen.forEach((at, index) => drawPoint(pen, at, models[index], fresh.has(models[index].name), colours[index]));
  pen.fillStyle = getComputedStyle(page).color;
  pen.font = LABEL_FONT;
  pen.textBaseline = "middle";
  for (const { index, x, y, anchor } of labels) {
    pen.textAlign = anchor === "middle" ? "center" : anchor;
    pen.fillText(models[index].name, x, y);
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function drawRegion(pen, { x, y }, ellipse, scale, colour) {
  if (!ellipse) return;
  pen.beginPath();
  pen.ellipse(x, y, ellipse.major * scale, ellipse.minor * scale, -ellipse.angle, 0, 2 * Math.PI);
  pen.fillStyle = pen.strokeStyle = colour;
  pen.globalAlpha = 0.12;
  pen.fill();
  pen.globalAlpha = 0.5;
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawPoint(pen, { x, y }, model, isFresh, colour) {
  const shape = new Path2D(isFresh ? STAR : undefined);
  if (!isFresh) shape.arc(0, 0, 5, 0, 2 * Math.PI);
  pen.save();
  pen.translate(x, y);
  pen.fillStyle = pen.strokeStyle = colour;
  pen.lineWidth = 2;
  if (model.enrolled && !isFresh) pen.stroke(shape);
  else pen.fill(shape);
  pen.restore();
}
