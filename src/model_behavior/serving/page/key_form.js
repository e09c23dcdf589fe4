// Asks for the API key of the server. It stays in this tab.

import { h } from "./dom.js";
import { heading } from "./parts.js";

/** A form that starts the page again with a key. */
export function showKeyForm(app, error) {
  const key = h("input", { type: "password", autocomplete: "off", required: true, id: "key" });
  const submit = (event) => {
    event.preventDefault();
    app.source.useKey(key.value.trim());
    app.start();
  };
  const tried = app.source.hasKey;
  return h(
    "form",
    { class: "asking key-form", on: { submit } },
    heading("This server needs an API key", "The key is kept in this tab only, and sent with each request."),
    ...(tried ? [h("p", { class: "notice problem", role: "alert" }, error.message)] : []),
    h("label", { class: "field", for: "key" }, h("span", {}, "Key"), key),
    h("button", { type: "submit", class: "main" }, "Go on"),
  );
}
