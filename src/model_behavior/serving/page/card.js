// The card of one model, beside the map.

import { h } from "./dom.js";
import { COST_UNIT, cost, count, decimal, elo, interval } from "./format.js";
import { addressOf } from "./hash.js";
import { beyondNote, driverList, enrolledMark, exemplar, modelLink, ratingDrivers } from "./parts.js";

/** The card's content, from what `describe` and `neighbours` told. `links`: whether there is a view to compare in. */
export function modelCard({ model, drivers, rating_drivers: driven, exemplars }, neighbours, { links, onRemove }) {
  const nearest = links && neighbours[0]?.model;
  return [
    h("h2", { tabindex: -1 }, model.name),
    h("p", { class: "soft" }, `family ${model.family} `, model.enrolled ? enrolledMark() : null),
    beyondNote(model),
    h("dl", { class: "facts" }, ...facts(model)),
    nearest && h("p", { class: "actions" }, h("a", { class: "button", href: addressOf("compare", { a: model.name, b: nearest }) }, `Compare with ${nearest}`)),
    h("h3", {}, "Nearest"),
    neighbours.length
      ? h("ol", { class: "nearest" }, ...neighbours.map(({ model: name, distance }) => h("li", {}, modelLink(name), h("span", {}, decimal(distance, 3)))))
      : h("p", { class: "soft" }, "There is no other model."),
    h("h3", {}, "What sets it apart"),
    drivers.length
      ? driverList(drivers, model.name, "the others")
      : h("p", { class: "soft" }, "No statistically significant difference of style from the other models."),
    ratingDrivers(driven),
    ...(exemplars.length ? [h("h3", {}, "Typical responses"), ...exemplars.map(exemplar)] : []),
    ...(onRemove ? [h("button", { type: "button", class: "danger", on: { click: onRemove } }, "Remove this model")] : []),
  ];
}

function facts(model) {
  const rated = model.rating !== null; // without a scorer nothing is known of votes either
  const shown = [
    ...(rated ? [["Rating", elo(model.rating)], ["95 % interval", interval(model)], ["Votes", count(model.votes)]] : []),
    ["Responses", count(model.count)],
    ...(model.cost === null || model.cost === undefined ? [] : [["Cost", cost(model.cost), ` ${COST_UNIT}`]]),
  ];
  return shown.map(([term, value, unit]) => h("div", {}, h("dt", {}, term), h("dd", {}, value, unit && h("small", { class: "soft" }, unit))));
}
