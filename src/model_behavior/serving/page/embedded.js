// Reads the models from data that `model-behavior map` wrote into the page.

/** The questions that need no server, answered from the data in the page. */
export class EmbeddedSource {
  live = false;
  #data;

  constructor(text) {
    this.#data = JSON.parse(text);
  }

  async session() {
    return { scopes: [], keys_needed: false, chat: false };
  }

  async catalog() {
    return this.#data.catalog;
  }

  async describe(name) {
    const { drivers, rating_drivers, exemplars = [] } = this.#data.details[name]; // the map alone has no texts
    return { model: this.#row(name), drivers, rating_drivers, exemplars };
  }

  async neighbours(name) {
    return { model: name, neighbours: this.#data.details[name].neighbours };
  }

  /** Views that the data is enough for. */
  get views() {
    return this.#data.views;
  }

  /** Models to show as new. */
  get fresh() {
    return this.#data.fresh;
  }

  /** The heading of the map, where it has one of its own. */
  get title() {
    return this.#data.title;
  }

  /** The note below the heading of the map. */
  get note() {
    return this.#data.note;
  }

  /** Pairs are kept once, with one of the two as the subject. */
  async compare(a, b) {
    const [first, second] = this.#data.pairs[a]?.[b] ? [a, b] : [b, a];
    const { distance, prediction, drivers } = this.#data.pairs[first][second];
    return {
      a: this.#row(first),
      b: this.#row(second),
      distance,
      prediction,
      drivers: drivers.map(([feature, effect, text]) => this.#driver(first, second, feature, effect, text)),
      shared: this.#shared(first, second),
      exemplars_a: this.#data.details[first].exemplars,
      exemplars_b: this.#data.details[second].exemplars,
    };
  }

  // Answers of both models to the same prompts.
  #shared(first, second) {
    const others = new Map(this.#data.details[second].answers.map(({ key, response }) => [key, response]));
    const both = this.#data.details[first].answers.filter(({ key }) => others.has(key));
    return both.map(({ key, prompt, response }) => ({ prompt, response_a: response, response_b: others.get(key) }));
  }

  #row(name) {
    return this.#data.catalog.models.find((model) => model.name === name);
  }

  #driver(first, second, feature, effect, text) {
    const { name, unit } = this.#data.features[feature];
    const [value, reference] = [first, second].map((model) => this.#data.style[model][feature]);
    return { feature: name, unit, effect, value, reference, text };
  }
}
