// Tests whether a model's answers have changed since it was enrolled.

import { h, some } from "./dom.js";
import { fileDrop } from "./file_drop.js";
import { count, decimal, moment, plural } from "./format.js";
import { driverList, empty, fill, heading, modelChoice, modelLink } from "./parts.js";

/** Shows the view; `params.model` is the model to check. */
export function showDrift(place, app, params) {
  const { models, families } = app.catalog;
  const names = models.map(({ name }) => name);
  let chosen = names.includes(params.model) ? params.model : families[0]?.members[0];
  const alerts = h("div", { class: "alerts", "aria-live": "polite" });
  const list = () =>
    fill(alerts, "Reading the checks …", () => app.source.drift(), ({ checks, history }) => {
      app.tellDrift(checks);
      return checks.length || history.length
        ? [...checks.map(check), pastChecks(history)]
        : [empty("No model has been checked yet.", "Choose a model and drop new responses of it. They are compared with those that it was enrolled from.")];
    });
  const tryFile = (file) => fill(alerts, `Comparing ${file.name} with ${chosen} …`, () => app.source.checkDrift(file, chosen), () => (setTimeout(list), []));
  place.append(
    heading("Drift", "Tests whether a model's answers have changed since it was enrolled. New responses may answer any prompts; the same prompts work best."),
    h("div", { class: "adding" }, modelChoice("Model", families, chosen, (name) => ((chosen = name), app.note("drift", { model: name }))), fileDrop("Drop new responses here", tryFile)),
    alerts,
  );
  list();
  return {};
}

function check(told) {
  return h(
    "section",
    { class: `check ${told.changed ? "changed" : "steady"}` },
    h("h2", {}, modelLink(told.model), h("span", { class: "tag" }, told.changed ? "changed" : "no change found")),
    h("p", {}, sentence(told)),
    ...some(
      told.resembles && h("p", {}, "They lean to ", modelLink(told.resembles), "."),
      told.caution && h("p", { class: "soft" }, told.caution),
      told.changed && told.drivers.length && driverList(told.drivers, "now", "before"),
      told.checked_at && h("p", { class: "soft" }, moment(told.checked_at)),
    ),
  );
}

/** Every check that the folder's history has, newest first. */
function pastChecks(history) {
  const row = (past) =>
    h(
      "tr",
      { class: past.changed ? "changed" : "" },
      h("td", {}, moment(past.checked_at)),
      h("th", { scope: "row" }, modelLink(past.model)),
      h("td", {}, past.changed ? "changed" : "no change found"),
      h("td", { class: "number" }, past.p_value < 0.001 ? "< 0.001" : decimal(past.p_value, 3)),
      h("td", { class: "number" }, decimal(past.effect)),
      h("td", { class: "number" }, plural(past.n, { votes: "vote", thumbs: "thumb" }[past.kind] ?? "response")),
    );
  const heads = ["When", "Model", "Result", "p", "Effect", "New"].map((text) => h("th", { scope: "col" }, text));
  return history.length && h("details", { class: "history", open: true }, h("summary", {}, `History: ${plural(history.length, "check")}`), h("div", { class: "scroll" }, h("table", { class: "board" }, h("caption", { class: "unseen" }, "Past checks, newest first"), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...history.map(row)))));
}

function sentence({ effect, p_value: p, n_enrolled: before, n_new: now, needed, changed }) {
  const chance = p < 0.001 ? "less than 0.1 %" : `${decimal(100 * p, 1)} %`;
  const size = `Effect ${decimal(effect)}; without a change, an effect this large occurs in ${chance} of cases (${plural(now, "new response")}, ${count(before)} before).`;
  const enough = needed?.["0.5"];
  return changed || !enough ? size : `${size} Detecting an effect of 0.5 needs about ${plural(enough, "response")}.`;
}
