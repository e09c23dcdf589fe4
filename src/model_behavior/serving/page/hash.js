// Views are addressed by the URL's hash, such as "#/compare?a=gpt-4&b=claude", so that every view can be linked to.

/** The view and its parameters, an object of texts. */
export function readAddress(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { view: path || "map", params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view; empty parameters are left out. */
export function addressOf(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}
