// Compares two models: predicted votes, differences of style in words, and answers side by side.

import { h, some } from "./dom.js";
import { decimal, elo, interval, percent } from "./format.js";
import { driverList, empty, exemplar, fill, heading, modelChoice } from "./parts.js";

/** Shows the view; params: `a` and `b`, names. */
export function showCompare(place, app, params) {
  const { models, families } = app.catalog;
  place.append(heading("Compare two models", "Statistically significant differences of style, strongest first, and answers of both models."));
  if (models.length < 2) {
    place.append(empty("Two models are needed.", "Add one from its responses."));
    return {};
  }
  const known = new Set(models.map(({ name }) => name));
  const [first, second] = models.map(({ name }) => name);
  const a = known.has(params.a) ? params.a : first;
  const b = known.has(params.b) ? params.b : a === second ? first : second;
  const result = h("div", { class: "comparison", "aria-live": "polite" });
  place.append(
    h(
      "div",
      { class: "tools pair" },
      modelChoice("First", families, a, (name) => app.go("compare", { a: name, b })),
      h("button", { type: "button", class: "quiet", "aria-label": "Swap the models", title: "Swap the models", on: { click: () => app.go("compare", { a: b, b: a }) } }, "⇄"),
      modelChoice("Second", families, b, (name) => app.go("compare", { a, b: name })),
    ),
    result,
  );
  if (a === b) result.append(empty("These are the same model.", "Choose another one on either side."));
  else fill(result, `Comparing ${a} and ${b} …`, () => app.source.compare(a, b), (told) => comparison(told, a));
  return {};
}

function comparison(told, left) {
  // The subject of the sentences is the first model of the answer, which may be either side here.
  const sides = [
    { row: told.a, exemplars: told.exemplars_a, kind: "first", win: told.prediction?.p_model_a },
    { row: told.b, exemplars: told.exemplars_b, kind: "second", win: told.prediction?.p_model_b },
  ];
  const [one, two] = told.a.name === left ? sides : sides.toReversed();
  return some(
    h("div", { class: "sides" }, sideHead(one), h("p", { class: "distance" }, h("strong", {}, decimal(told.distance, 3)), " cosine distance"), sideHead(two)),
    told.prediction && predictionBar(told.prediction, one, two),
    h("section", {}, h("h2", {}, `How ${told.a.name} differs`), driverList(told.drivers, told.a.name, told.b.name)),
    responses(told, one, two),
  );
}

function sideHead({ row, kind }) {
  const rated = row.rating === null ? "no rating" : `${elo(row.rating)} (${interval(row)})`;
  return h("div", { class: `side ${kind}` }, h("strong", {}, row.name), h("span", { class: "soft" }, `${row.family} · ${rated}`));
}

function predictionBar(prediction, one, two) {
  const parts = [
    { kind: one.kind, share: one.win, label: `${one.row.name} wins` },
    { kind: "tie", share: prediction.p_tie, label: "tie" },
    { kind: "bad", share: prediction.p_both_bad, label: "both bad" },
    { kind: two.kind, share: two.win, label: `${two.row.name} wins` },
  ];
  const bar = h("div", { class: "stack", "aria-hidden": "true" });
  for (const { kind, share } of parts) {
    const part = h("i", { class: kind });
    part.style.setProperty("flex-grow", share.toFixed(4));
    bar.append(part);
  }
  const legend = parts.map(({ kind, share, label }) => h("li", {}, h("i", { class: `swatch ${kind}` }), `${label} `, h("strong", {}, percent(share))));
  return h("section", {}, h("h2", {}, "Predicted vote"), bar, h("ul", { class: "key" }, ...legend));
}

function responses({ shared, a }, one, two) {
  const swap = one.row.name !== a.name;
  const sameAsked = new Set(shared.map(({ prompt }) => prompt));
  const rest = ({ exemplars }) => exemplars.filter(({ prompt }) => !sameAsked.has(prompt));
  if (!shared.length && !one.exemplars.length && !two.exemplars.length) return null;
  const beside = shared.map(({ prompt, response_a: first, response_b: second }) => [
    exemplar({ prompt, response: swap ? second : first }),
    exemplar({ prompt, response: swap ? first : second }),
  ]);
  const rows = Math.max(rest(one).length, rest(two).length);
  for (let index = 0; index < rows; index++) {
    beside.push([one, two].map((side) => (rest(side)[index] ? exemplar(rest(side)[index]) : h("div"))));
  }
  return h("section", {}, h("h2", {}, "What they answer"), h("div", { class: "beside" }, h("h3", {}, one.row.name), h("h3", {}, two.row.name), ...beside.flat()));
}
