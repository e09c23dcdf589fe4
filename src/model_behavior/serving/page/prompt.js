// Predicts the ranking of the models on a prompt, with costs, and the model that it would be routed to.

import { h, some } from "./dom.js";
import { COST_UNIT, cost, elo, percent } from "./format.js";
import { intervalLine, scaleOf } from "./leaderboard.js";
import { enrolledMark, fill, heading, meter, modelLink } from "./parts.js";

const EXAMPLE = "Explain to a ten-year-old why the sky is blue.";

/** Shows the view. */
export function showPrompt(place, app) {
  const text = h("textarea", { rows: 4, required: true, placeholder: EXAMPLE, "aria-label": "Prompt", maxlength: 20000 });
  const floor = h("input", { type: "range", min: 0, max: 0.5, step: 0.01, value: 0.5, "aria-label": "Win rate against the best model" });
  const meaning = h("output", {});
  const explain = () => (meaning.textContent = describeFloor(Number(floor.value)));
  floor.addEventListener("input", explain);
  explain();
  const result = h("div", { class: "prediction", "aria-live": "polite" });
  const submit = (event) => {
    event.preventDefault();
    const prompt = text.value.trim() || EXAMPLE;
    text.value = prompt;
    const limit = Number(floor.value) < 0.5 ? { floor: Number(floor.value) } : {};
    const ask = () => Promise.all([app.source.rank(prompt), app.source.route({ prompt, ...limit })]);
    fill(result, "Asking the scorer …", ask, ([ranking, route]) => prediction(app, ranking, route));
  };
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const form = h(
    "form",
    { class: "asking", novalidate: true, on: { submit } },
    text,
    h("div", { class: "tools" }, h("label", { class: "field" }, h("span", {}, "Good enough"), floor), meaning, h("span", { class: "spring" }), h("button", { type: "submit", class: "main" }, "Predict")),
  );
  place.append(heading("Who answers this best?", "No model is called: a scorer predicts the order from the models' embeddings."), form, result);
  return {};
}

function describeFloor(floor) {
  return floor >= 0.5 ? "the best model only" : `the cheapest model that wins ${percent(floor)} of votes against the best`;
}

function prediction(app, ranking, route) {
  const rows = new Map(app.catalog.models.map((model) => [model.name, model]));
  const ranked = new Map(ranking.models.map((each) => [each.model, each]));
  const order = [route, ...route.alternatives].toSorted((a, b) => b.win_rate - a.win_rate);
  const scale = scaleOf(ranking.models);
  const priced = order.some((each) => each.cost > 0);
  return some(
    h(
      "p",
      { class: "verdict" },
      "Send it to ",
      h("strong", {}, route.model),
      route.model === route.reference ? "" : `, expected to win ${percent(route.win_rate)} of votes against ${route.reference}`,
      priced ? `, for ${cost(route.cost)} a request` : "",
      ".",
    ),
    h("p", { class: "soft" }, priced ? `Costs are ${COST_UNIT}.` : "No costs are set, so the best model is chosen. Start the server with costs to route by them."),
    h("div", { class: "scroll" }, orderTable(order, { rows, ranked, scale, priced, route })),
  );
}

function orderTable(order, { rows, ranked, scale, priced, route }) {
  const line = (each, index) => {
    const chosen = each.model === route.model;
    return h(
      "tr",
      { class: chosen ? "chosen" : null },
      h("td", { class: "number soft" }, String(index + 1)),
      h("th", { scope: "row" }, modelLink(each.model), rows.get(each.model)?.enrolled ? enrolledMark() : null, chosen ? h("span", { class: "tag route" }, "route") : null),
      h("td", { class: "drawn" }, ranked.has(each.model) ? intervalLine(ranked.get(each.model), scale) : null),
      h("td", { class: "number" }, elo(ranked.get(each.model)?.rating)),
      h("td", { class: "number" }, h("span", { class: "with-meter" }, meter(each.win_rate), percent(each.win_rate))),
      ...(priced ? [h("td", { class: "number" }, cost(each.cost))] : []),
    );
  };
  const head = (label, kind) => h("th", { scope: "col", class: kind ?? null }, label);
  const heads = [head("#", "number"), head("Model"), head("On this prompt", "drawn"), head("Score", "number"), head(`Wins against ${route.reference}`, "number")];
  return h("table", { class: "board" }, h("caption", { class: "unseen" }, "Predicted order"), h("thead", {}, h("tr", {}, ...heads, ...(priced ? [head("Cost per request", "number")] : []))), h("tbody", {}, ...order.map(line)));
}
