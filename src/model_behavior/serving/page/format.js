// Formats numbers and dates.

const WHOLE = new Intl.NumberFormat("en");
const COST = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A count: 12,345. */
export function count(value) {
  return WHOLE.format(value);
}

/** "1 response", "2 responses". */
export function plural(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** A number with a true minus sign; a dash where there is none. */
export function decimal(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
}

/** A rating, Elo: "1,093". */
export function elo(value) {
  return value === null || value === undefined ? "–" : WHOLE.format(Math.round(value)).replace("-", "−");
}

/** The 95 % interval of a rating: "1,081 to 1,120". */
export function interval(row) {
  return row.low === null ? "–" : `${elo(row.low)} to ${elo(row.high)}`;
}

/** A share in [0, 1]: "61 %". */
export function percent(value, digits = 0) {
  return `${decimal(100 * value, digits)} %`;
}

/** The cost of a request; `COST_UNIT` says in which unit. */
export function cost(value) {
  return value === null || value === undefined ? "–" : COST.format(value);
}

export const COST_UNIT = "per request, in the currency of the cost file";

/** The mean of a style feature, in its unit. */
export function amount(value) {
  return decimal(value, Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}

/** A difference of ratings, Elo: "+27", "−13". */
export function signed(value) {
  return `${value > 0 ? "+" : ""}${decimal(value, 0)}`;
}

/** A time, ISO 8601, in the reader's zone. */
export function moment(text) {
  return new Date(text).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
}
