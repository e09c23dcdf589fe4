// Starts the page: reads the models, then shows the view that the address names.

import { showAdd } from "./add.js";
import { LiveSource } from "./api.js";
import { showCompare } from "./compare.js";
import { announce, h, set } from "./dom.js";
import { showDrift } from "./drift.js";
import { EmbeddedSource } from "./embedded.js";
import { plural } from "./format.js";
import { addressOf, readAddress } from "./hash.js";
import { showKeyForm } from "./key_form.js";
import { showLeaderboard } from "./leaderboard.js";
import { showMap } from "./map_view.js";
import { arrangeFamilies } from "./palette.js";
import { loading, problem } from "./parts.js";
import { showPrompt } from "./prompt.js";
import { startTheme } from "./theme.js";

const VIEWS = {
  map: { label: "Map", show: showMap },
  leaderboard: { label: "Leaderboard", show: showLeaderboard },
  compare: { label: "Compare", show: showCompare },
  prompt: { label: "Prompt", show: showPrompt },
  add: { label: "Place a model", show: showAdd },
  drift: { label: "Drift", show: showDrift },
};

class App {
  scopes = [];
  catalog = null;
  params = {};
  #current = null;
  #tabs = new Map();

  constructor(source, main) {
    Object.assign(this, { source, main });
    this.fresh = new Set(source.fresh); // names of models to show as new
  }

  async start() {
    this.main.replaceChildren(loading("Reading the models …"));
    try {
      const session = await this.source.session();
      this.scopes = session.scopes;
      await this.reload();
    } catch (error) {
      this.main.replaceChildren(error.status === 401 ? showKeyForm(this, error) : problem(error, () => this.start()));
      return;
    }
    this.#drawTabs();
    this.render();
    if (this.source.live) this.source.drift().then(({ checks }) => this.tellDrift(checks), () => {}); // a badge, not worth an error
  }

  /** Reads the models again. */
  async reload() {
    const { version, models, map } = await this.source.catalog();
    const rows = new Map(models.map((model) => [model.name, model]));
    const placed = map && { ...map, models: map.models.map((model) => ({ ...rows.get(model.name), ...model })) };
    this.catalog = { version, models, map: placed, families: arrangeFamilies(models) };
    document.getElementById("about").textContent = `${plural(models.length, "model")}, catalog ${version.slice(0, 8)}`;
  }

  /** Goes to a view. */
  go(view, params = {}) {
    const address = addressOf(view, params);
    if (address === location.hash) this.render();
    else location.hash = address;
  }

  /** Keeps the state of the present view in its address, without going anywhere. */
  note(view, params) {
    history.replaceState(null, "", addressOf(view, params));
  }

  /** Shows how many models have changed. */
  tellDrift(checks) {
    const changed = checks.filter((check) => check.changed).length;
    this.#tabs.get("drift")?.replaceChildren("Drift", ...(changed ? [h("span", { class: "badge" }, String(changed), h("span", { class: "unseen" }, " changed"))] : []));
  }

  /** Draws the view of the address; one that is there already takes the new parameters. */
  render() {
    const { view: asked, params } = readAddress(location.hash);
    const view = this.offers(asked) ? asked : "map";
    this.params = params;
    if (this.#current?.view === view && this.#current.catalog === this.catalog && this.#current.update) return this.#current.update(params);
    this.#current?.close?.();
    this.main.replaceChildren();
    set(this.main, { class: `view-${view}` });
    const shown = VIEWS[view].show(this.main, this, params);
    const moved = this.#current && this.#current.view !== view;
    this.#current = { view, catalog: this.catalog, ...shown };
    for (const [name, tab] of this.#tabs) set(tab, { "aria-current": name === view ? "page" : null });
    document.title = `${VIEWS[view].label} · ${this.source.title ?? "Model Behavior"}`;
    if (!moved) return undefined;
    announce(VIEWS[view].label);
    this.main.focus({ preventScroll: true });
    return scrollTo(0, 0);
  }

  /** Whether there is such a view, and the source can answer its questions. */
  offers(view) {
    return Object.hasOwn(VIEWS, view) && this.source.views.includes(view);
  }

  #drawTabs() {
    for (const [name, { label }] of Object.entries(VIEWS)) {
      if (this.offers(name)) this.#tabs.set(name, h("a", { href: addressOf(name) }, label));
    }
    const tabs = this.#tabs.size > 1 ? [...this.#tabs.values()] : []; // one view needs no choice
    document.getElementById("views").replaceChildren(...tabs.map((tab) => h("li", {}, tab)));
  }
}

const embedded = document.getElementById("page-data");
const app = new App(embedded ? new EmbeddedSource(embedded.textContent) : new LiveSource(), document.getElementById("main"));
startTheme(document.getElementById("theme"));
addEventListener("hashchange", () => app.catalog && app.render());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the address of the view
  app.main.focus();
});
app.start();
