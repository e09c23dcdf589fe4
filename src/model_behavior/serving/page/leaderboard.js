// All models as a table: ratings with their intervals drawn, sorted and filtered.

import { announce, h, s, set } from "./dom.js";
import { save, toCsv } from "./files.js";
import { COST_UNIT, cost, count, elo, interval, plural } from "./format.js";
import { beyondMark, empty, enrolledMark, heading, modelLink } from "./parts.js";

const COLUMNS = [
  { key: "name", label: "Model", text: true },
  { key: "family", label: "Family", text: true, wide: true },
  { key: "rating", label: "Rating", show: (model) => elo(model.rating) },
  { key: "group", label: "Group", wide: true, show: (model) => model.group ?? "–" },
  { key: "votes", label: "Votes", wide: true, show: (model) => count(model.votes) },
  { key: "count", label: "Responses", wide: true, show: (model) => count(model.count) },
  { key: "cost", label: "Cost per request", wide: true, show: (model) => cost(model.cost) },
];
const EXPORTED = ["name", "family", "rating", "low", "high", "group", "beyond", "votes", "enrolled", "count", "spread", "cost"];

/** Shows the view; params: `sort`, `order` (asc, desc), `q` for the filter. */
export function showLeaderboard(place, app, params) {
  const { models } = app.catalog;
  const rated = models.some(({ rating }) => rating !== null);
  const priced = models.some((model) => model.cost !== null && model.cost !== undefined);
  const columns = COLUMNS.filter(({ key }) => (key !== "cost" || priced) && ((key !== "rating" && key !== "group") || rated));
  const state = { sort: params.sort ?? (rated ? "rating" : "name"), order: params.order ?? (params.sort || rated ? "desc" : "asc"), q: params.q ?? "" };
  const body = h("tbody");
  const heads = columns.map((column) => headCell(column, state, () => note()));
  const filter = h("input", { type: "search", value: state.q, placeholder: "Filter by name or family", "aria-label": "Filter by name or family" });
  const tally = h("span", { class: "soft" });
  const draw = () => {
    const rows = arrange(models, state);
    tally.textContent = rows.length === models.length ? plural(rows.length, "model") : `${count(rows.length)} of ${plural(models.length, "model")}`;
    columns.forEach(({ key }, index) => set(heads[index], { "aria-sort": key === state.sort ? `${state.order}ending` : null }));
    const scale = scaleOf(models);
    const places = placesOf(models);
    body.replaceChildren(...rows.map((model) => row(model, columns, scale, places)));
    if (!rows.length) body.append(h("tr", {}, h("td", { colspan: columns.length + 2 }, empty("No model matches.", "Try fewer letters."))));
  };
  const note = () => {
    app.note("leaderboard", { q: state.q, sort: state.sort, order: state.order });
    draw();
    announce(tally.textContent);
  };
  filter.addEventListener("input", () => {
    state.q = filter.value;
    note();
  });
  const csv = () => save(toCsv(EXPORTED, arrange(models, state).map((model) => EXPORTED.map((key) => model[key]))), "leaderboard.csv");
  place.append(
    heading("Leaderboard", rated ? "Elo ratings; lines are 95 % intervals, the mark in them is the mean. 400 points are odds of 10 to 1. No two models of a group can be told apart." : "These models have no ratings, since no scorer was trained on votes."),
    h("div", { class: "tools" }, filter, tally, h("span", { class: "spring" }), h("button", { type: "button", class: "quiet", on: { click: csv } }, "CSV")),
    h("div", { class: "scroll" }, table(heads, rated, body)),
    h("p", { class: "soft" }, enrolledMark(), " models have no votes: they are rated by their answers, with wider intervals."),
    ...(models.some(({ beyond }) => beyond) ? [h("p", { class: "soft" }, "The answers of a model beyond the known field look better, or worse, than those of every known model: its rating is a guess.")] : []),
    ...(priced ? [h("p", { class: "soft wide" }, `Costs are ${COST_UNIT}.`)] : []),
  );
  draw();
  return {};
}

function table(heads, rated, body) {
  const [name, ...others] = heads;
  const drawn = rated ? [h("th", { scope: "col", class: "drawn" }, "95 % interval")] : [];
  return h("table", { class: "board" }, h("caption", { class: "unseen" }, "Models and their ratings"), h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "#"), name, ...drawn, ...others)), body);
}

function headCell({ key, label, text, wide }, state, note) {
  const click = () => {
    const first = text ? "asc" : "desc";
    state.order = state.sort !== key ? first : state.order === "asc" ? "desc" : "asc";
    state.sort = key;
    note();
  };
  return h("th", { scope: "col", class: classOf(text, wide) }, h("button", { type: "button", on: { click } }, label));
}

function row(model, columns, scale, places) {
  const [, ...others] = columns;
  const cells = others.map(({ key, text, wide, show = (m) => m[key] }) => h("td", { class: classOf(text, wide) }, show(model)));
  const drawn = scale ? [h("td", { class: "drawn" }, intervalLine(model, scale))] : [];
  return h(
    "tr",
    { class: model.enrolled ? "enrolled" : null },
    h("td", { class: "number soft" }, places.get(model.name) ?? ""),
    h("th", { scope: "row" }, modelLink(model.name), model.enrolled ? enrolledMark() : null, beyondMark(model)),
    ...drawn,
    ...cells,
  );
}

/** The interval as a line, the rating as a dot on it; percentages of the width, so it fits any column. */
export function intervalLine(model, [least, most, mean]) {
  if (model.rating === null) return h("span", { class: "soft" }, "–");
  const at = (value) => `${(100 * (value - least)) / (most - least)}%`;
  return s(
    "svg",
    { class: "interval", role: "img", "aria-label": interval(model) },
    s("line", { class: "zero", x1: at(mean), x2: at(mean), y1: 0, y2: "100%" }),
    s("line", { class: "span", x1: at(model.low), x2: at(model.high), y1: "50%", y2: "50%" }),
    s("circle", { cx: at(model.rating), cy: "50%", r: 4 }),
  );
}

/** The range that intervals are drawn in and the mean of the known models, null without ratings. */
export function scaleOf(models) {
  const rated = models.filter(({ rating }) => rating !== null);
  if (!rated.length) return null;
  const [least, most] = [Math.min(...rated.map(({ low }) => low)), Math.max(...rated.map(({ high }) => high))];
  const known = rated.some(({ enrolled }) => !enrolled) ? rated.filter(({ enrolled }) => !enrolled) : rated;
  const mean = known.reduce((sum, { rating }) => sum + rating, 0) / known.length;
  const room = 0.04 * (most - least) || 1;
  return [least - room, most + room, mean];
}

function placesOf(models) {
  const rated = models.filter(({ rating }) => rating !== null).sort((a, b) => b.rating - a.rating);
  return new Map(rated.map(({ name }, index) => [name, String(index + 1)]));
}

function arrange(models, { sort, order, q }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = models.filter(({ name, family }) => words.every((word) => `${name} ${family}`.toLowerCase().includes(word)));
  const sign = order === "asc" ? 1 : -1;
  const missing = (model) => model[sort] === null || model[sort] === undefined;
  return found.sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const compared = typeof a[sort] === "string" ? a[sort].localeCompare(b[sort]) : a[sort] - b[sort];
    return sign * compared || a.name.localeCompare(b.name);
  });
}

function classOf(text, wide) {
  return [text ? "" : "number", wide ? "wide" : ""].join(" ").trim() || null;
}
