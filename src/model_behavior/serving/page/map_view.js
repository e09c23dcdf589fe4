// The map with its legend, its tools and the card of the chosen model.

import { announce, h, some } from "./dom.js";
import { modelCard } from "./card.js";
import { save } from "./files.js";
import { count, elo, plural } from "./format.js";
import { MapFigure } from "./map_figure.js";
import { pictureOf } from "./map_picture.js";
import { familyColours, legendEntries, ratingScale } from "./palette.js";
import { empty, fill, heading } from "./parts.js";

const INTRODUCTION = "Models that answer alike are close together. Choose a point to see what sets a model apart.";
const LAYOUTS = {
  pca: "The axes are the two directions in which the models differ most.",
  tsne: "t-SNE keeps neighbours together; long distances mean little.",
  umap: "UMAP keeps neighbours together; long distances mean little.",
};
const UNRATED = "These models have no ratings, since no scorer was trained on votes. Colours are families.";

/**
 * Shows the view; `params.model` is the chosen model, `params.colour` what colours mean (family, or rating), `params.family`
 * the lit family.
 */
export function showMap(place, app, params) {
  const { models, map, families } = app.catalog;
  const { title, note } = app.source;
  if (!map) {
    place.append(heading("Models by what they answer"), empty("A map needs three models.", `There ${models.length === 1 ? "is" : "are"} ${count(models.length)}.`));
    return {};
  }
  const card = h("section", { class: "card", "aria-label": "The chosen model" });
  const figure = new MapFigure({
    models: map.models,
    axes: map.axes,
    colourOf: familyColours(families, app.fresh),
    fresh: app.fresh,
    onPick: (name) => app.go("map", { ...app.params, model: name }),
  });
  const scale = ratingScale(models);
  const legend = h("div", {});
  const colour = scale && colourChoice(app);
  place.append(
    heading(title ?? `${plural(models.length, "model")} by what they answer`, some(note, LAYOUTS[map.method], !scale && UNRATED).join(" ")),
    h("div", { class: "map-view" }, h("div", { class: "map-column" }, toolbar(app, figure), figure.element, h("div", { class: "legend-box" }, h("div", { class: "colours" }, colour, legend), key(app))), card),
  );
  const update = (now) => {
    const rated = scale && now.colour === "rating";
    if (colour) colour.choice.value = rated ? "rating" : "family";
    figure.colour(rated ? scale.colourOf : familyColours(families, app.fresh));
    choose(app, figure, card, now.model);
    if (rated) showScale(figure, legend, scale);
    else lightFamily(app, figure, legend, now);
  };
  update(params);
  return { update, close: () => figure.close() };
}

async function choose(app, figure, card, name) {
  const known = name && app.catalog.models.some((model) => model.name === name);
  if (!known) {
    figure.choose(null);
    card.turn = (card.turn ?? 0) + 1;
    card.replaceChildren(...some(name ? empty(`No model is called “${name}”.`, INTRODUCTION) : h("p", { class: "soft lead" }, INTRODUCTION)));
    return;
  }
  figure.choose(name);
  const ask = () => Promise.all([app.source.describe(name), app.source.neighbours(name)]);
  await fill(card, `Reading ${name} …`, ask, ([told, { neighbours }]) => {
    figure.choose(name, neighbours.map(({ model }) => model));
    announce(`${name}: nearest are ${neighbours.map(({ model }) => model).join(", ")}`);
    const removable = told.model.enrolled && app.scopes.includes("admin");
    return modelCard(told, neighbours, { links: app.offers("compare"), onRemove: removable ? () => remove(app, name) : null });
  });
}

async function remove(app, name) {
  if (!confirm(`Remove ${name}? It can be added again from its responses.`)) return;
  try {
    await app.source.remove(name);
    await app.reload();
    app.go("map");
  } catch (error) {
    announce(error.message);
    alert(error.message);
  }
}

function lightFamily(app, figure, legend, params) {
  const entries = legendEntries(app.catalog.families);
  const lit = entries.find(({ label }) => label === params.family);
  figure.light(lit ? lit.members : null);
  const focused = [...legend.querySelectorAll("button")].indexOf(document.activeElement);
  const items = entries.map(({ label, class: colour, members }) => {
    const pressed = label === params.family;
    const click = () => app.go("map", { ...app.params, family: pressed ? null : label });
    const button = h("button", { type: "button", "aria-pressed": String(pressed), on: { click } }, h("i", { class: `swatch ${colour}` }), `${label} `, h("span", {}, count(members.length)));
    return h("li", {}, button);
  });
  legend.replaceChildren(h("ul", { class: "legend", "aria-label": "Families" }, ...items));
  legend.querySelectorAll("button")[focused]?.focus();
}

function showScale(figure, legend, { least, most, steps }) {
  figure.light(null);
  const swatches = steps.map((colour) => h("i", { class: `swatch ${colour}` }));
  legend.replaceChildren(h("p", { class: "rating-scale" }, "rating, Elo: ", elo(least), h("span", { "aria-hidden": "true" }, ...swatches), h("span", { class: "unseen" }, " to "), elo(most)));
}

function key(app) {
  const { models } = app.catalog.map;
  const entry = (kind, text) => h("li", {}, h("i", { class: `swatch ${kind}` }), text);
  const entries = some(
    models.some(({ votes }) => votes > 0) && entry("voted", "voted on"),
    models.some(({ name, enrolled }) => enrolled && !app.fresh.has(name)) && entry("enrolled", "enrolled only"),
    app.fresh.size > 0 && h("li", {}, h("span", { "aria-hidden": "true" }, "★"), "new"),
    models.some(({ ellipse }) => ellipse) && entry("region", "95 % region of uncertainty"),
  );
  return entries.length ? h("ul", { class: "key" }, ...entries) : null;
}

// What colours mean: a label with a select, which is its `choice`.
function colourChoice(app) {
  const choice = h("select", {}, h("option", { value: "family" }, "family"), h("option", { value: "rating" }, "rating"));
  choice.addEventListener("change", () => app.go("map", { ...app.params, colour: choice.value === "rating" ? "rating" : null, family: null }));
  return Object.assign(h("label", { class: "field" }, h("span", {}, "Colour"), choice), { choice });
}

function toolbar(app, figure) {
  const names = h("datalist", { id: "names" }, ...app.catalog.models.map(({ name }) => h("option", { value: name })));
  const find = h("input", { type: "search", list: "names", placeholder: "Find a model", "aria-label": "Find a model", autocomplete: "off" });
  find.addEventListener("change", () => find.value && app.go("map", { ...app.params, model: find.value }));
  const tool = (sign, label, click) => h("button", { type: "button", class: "quiet", "aria-label": label, title: label, on: { click } }, sign);
  const picture = async () => save(await pictureOf(figure, document.body), "model-map.png");
  return h(
    "div",
    { class: "tools", role: "toolbar", "aria-label": "Map" },
    find,
    names,
    h("span", { class: "spring" }),
    tool("+", "Zoom in", () => figure.zoom(1.6)),
    tool("−", "Zoom out", () => figure.zoom(1 / 1.6)),
    tool("⤢", "Show all", () => figure.reset()),
    tool("PNG", "Save the map as PNG", picture),
    app.source.live ? tool("Parquet", "Save for embedding-atlas as Parquet", () => saveParquet(app)) : null,
  );
}

async function saveParquet(app) {
  try {
    save(await app.source.parquet(), "models.parquet");
  } catch (error) {
    alert(error.message);
  }
}
