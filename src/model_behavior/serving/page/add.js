// Places the model of an uploaded chat log on the map, with its uncertainty and its nearest neighbours.

import { announce, h, some } from "./dom.js";
import { fileDrop } from "./file_drop.js";
import { save } from "./files.js";
import { count, decimal, elo, interval, percent, plural } from "./format.js";
import { addressOf } from "./hash.js";
import { MapFigure } from "./map_figure.js";
import { familyColours } from "./palette.js";
import { beyondNote, fill, heading, modelLink, ratingDrivers } from "./parts.js";

/** Shows the view. */
export function showAdd(place, app) {
  const name = h("input", { type: "text", placeholder: "if the file does not name it", autocomplete: "off", maxlength: 200 });
  const result = h("div", { class: "landing", "aria-live": "polite" });
  const open = [];
  const close = () => open.splice(0).forEach((figure) => figure.close());
  const tryFile = (file, keep) => {
    close();
    const ask = () => app.source.place(file, name.value.trim(), keep);
    fill(result, `Reading ${file.name} …`, ask, (told) => {
      const figure = app.catalog.map ? landingMap(app, told.models) : null;
      if (figure) open.push(figure);
      announce(`${told.models.map((model) => model.name).join(", ")} placed on the map`);
      return landing(app, told, figure, () => keepIt(file));
    });
  };
  const keepIt = async (file) => {
    const ask = async () => {
      const told = await app.source.place(file, name.value.trim(), true);
      told.models.forEach((model) => app.fresh.add(model.name));
      await app.reload();
      app.go("map", { model: told.models[0].name });
      return told;
    };
    await fill(result, "Keeping it …", ask, () => []);
  };
  place.append(
    heading("Place a model", "Drop some of its responses. The model is placed as a trial; nothing is kept until you confirm."),
    h("div", { class: "adding" }, h("label", { class: "field" }, h("span", {}, "Name of the model"), name), fileDrop("Drop a chat log here", (file) => tryFile(file, false))),
    result,
    app.source.prompts ? promptsToAsk(app) : null,
  );
  return { close };
}

/** The prompts whose answers tell most about a model's rating, to copy. */
function promptsToAsk(app) {
  const list = h("div", { "aria-live": "polite" });
  const number = h("input", { type: "number", min: 1, max: 100, value: 8 });
  const show = () =>
    fill(list, "Choosing prompts …", () => app.source.prompts(Math.min(Math.max(Math.round(Number(number.value)) || 8, 1), 100)), ({ prompts }) => {
      const lines = prompts.map(({ key, prompt }) => `${JSON.stringify({ prompt_id: key, messages: [{ role: "user", content: prompt }] })}\n`).join("");
      return some(
        h("p", { class: "soft" }, `Their answers leave about ${percent(prompts.at(-1)?.left ?? 1)} of what is not known of the rating.`),
        h("p", { class: "actions" }, h("button", { type: "button", class: "quiet", on: { click: () => save(new Blob([lines], { type: "application/jsonl" }), "prompts.jsonl") } }, "Save as JSONL")),
        h("ol", { class: "asked" }, ...prompts.map(({ prompt }) => h("li", {}, h("pre", { tabindex: 0 }, prompt), copyButton(prompt)))),
      );
    });
  return h(
    "section",
    { class: "asking" },
    h("h2", {}, "What to ask it"),
    h("p", {}, "These prompts tell most about a new model's rating, the first ones first."),
    h("div", { class: "tools" }, h("label", { class: "field" }, h("span", {}, "Prompts"), number), h("button", { type: "button", class: "main", on: { click: show } }, "Show prompts")),
    list,
  );
}

function copyButton(text) {
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    announce("Prompt copied");
  };
  return navigator.clipboard ? h("button", { type: "button", class: "quiet", on: { click: copy } }, "Copy") : null;
}

function landingMap(app, placed) {
  const { map, families } = app.catalog;
  const names = new Set(placed.map((model) => model.name));
  const others = map.models.filter((model) => !names.has(model.name));
  const figure = new MapFigure({
    models: [...others, ...placed],
    axes: map.axes,
    colourOf: familyColours(families, names),
    fresh: names,
    onPick: (name) => name && !names.has(name) && app.go("map", { model: name }),
  });
  figure.choose(placed[0].name, placed[0].neighbours.map(({ model }) => model));
  return figure;
}

function landing(app, told, figure, keep) {
  const known = new Set(app.catalog.models.map((model) => model.name));
  const admin = app.scopes.includes("admin");
  const skipped = Object.entries(told.skipped).map(([reason, n]) => `${count(n)} ${reason}`);
  return some(
    h("div", { class: "map-view" }, figure && h("div", { class: "map-column" }, figure.element), h("section", { class: "card" }, ...told.models.flatMap((model) => placedModel(model, known.has(model.name))))),
    h("p", { class: "soft" }, `${count(told.used)} of ${plural(told.rows, "row")} used (${told.format})${skipped.length ? `; left out: ${skipped.join(", ")}` : ""}.`),
    admin
      ? h("p", { class: "actions" }, h("button", { type: "button", class: "main", on: { click: keep } }, told.models.length === 1 ? "Keep this model" : "Keep these models"))
      : h("p", { class: "soft" }, "To keep it, use a key with the admin scope."),
  );
}

function placedModel(model, known) {
  return some(
    h("h2", {}, `★ ${model.name}`),
    known && h("p", { class: "notice" }, "A model of this name exists. Keeping this one replaces it; ", h("a", { href: addressOf("drift", { model: model.name }) }, "has it drifted?")),
    h(
      "dl",
      { class: "facts" },
      h("div", {}, h("dt", {}, "Rating"), h("dd", {}, elo(model.rating))),
      h("div", {}, h("dt", {}, "95 % interval"), h("dd", {}, interval(model))),
      h("div", {}, h("dt", {}, "Responses"), h("dd", {}, count(model.count))),
    ),
    beyondNote(model),
    ...(model.more ?? []).map(({ responses, half_width: half }) => h("p", { class: "more" }, `About ${plural(responses, "more response")} narrow the interval to ±${elo(half)} Elo.`)),
    ratingDrivers(model.rating_drivers),
    h("h3", {}, "Nearest"),
    h("ol", { class: "nearest" }, ...model.neighbours.map(({ model: near, distance }) => h("li", {}, modelLink(near), h("span", {}, decimal(distance, 3))))),
  );
}
