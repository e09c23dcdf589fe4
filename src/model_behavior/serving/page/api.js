// Reads the models from a running server.

const KEY = "model-behavior-key";

/** An error, with the server's message. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Every question that the page asks, answered by the server. */
export class LiveSource {
  live = true;
  views = ["map", "leaderboard", "compare", "prompt", "add", "drift"];
  fresh = [];

  session() {
    return this.#ask("/v1/session");
  }

  async catalog() {
    const [models, map] = await Promise.all([this.#ask("/v1/models"), this.#map()]);
    return { version: models.version, models: models.models, map };
  }

  describe(name) {
    return this.#ask(`/v1/models/${encodeURIComponent(name)}`);
  }

  neighbours(name) {
    return this.#ask(`/v1/models/${encodeURIComponent(name)}/neighbours?n=5`);
  }

  compare(a, b) {
    return this.#ask(`/v1/compare?${new URLSearchParams({ a, b })}`);
  }

  prompts(number) {
    return this.#ask(`/v1/prompts?${new URLSearchParams({ number })}`);
  }

  rank(prompt) {
    return this.#ask("/v1/rank", { body: JSON.stringify({ prompt }) });
  }

  route(request) {
    return this.#ask("/v1/route", { body: JSON.stringify(request) });
  }

  place(file, model, keep) {
    const query = new URLSearchParams({ dry_run: String(!keep), ...(model ? { model } : {}) });
    return this.#ask(`/v1/models?${query}`, { body: file, type: "application/octet-stream" });
  }

  remove(name) {
    return this.#ask(`/v1/models/${encodeURIComponent(name)}`, { method: "DELETE" });
  }

  checkDrift(file, model) {
    return this.#ask(`/v1/drift?${new URLSearchParams({ model })}`, { body: file, type: "application/octet-stream" });
  }

  drift() {
    return this.#ask("/v1/drift");
  }

  async parquet() {
    return (await this.#fetch("/v1/models.parquet")).blob();
  }

  /** Whether a key was given. */
  get hasKey() {
    return sessionStorage.getItem(KEY) !== null;
  }

  /** Keeps a key for as long as the tab is open. */
  useKey(key) {
    sessionStorage.setItem(KEY, key);
  }

  async #map() {
    try {
      return await this.#ask("/v1/map");
    } catch (error) {
      if (error.status === 409) return null; // too few models for a map
      throw error;
    }
  }

  async #ask(path, options) {
    return (await this.#fetch(path, options)).json();
  }

  async #fetch(path, { body, type = "application/json", method = body === undefined ? "GET" : "POST" } = {}) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...(body ? { "Content-Type": type } : {}) };
    let answer;
    try {
      answer = await fetch(path, { method, headers, body });
    } catch {
      throw new ApiError("The server does not answer. Is `model-behavior serve` still running?");
    }
    if (!answer.ok) throw new ApiError(await explain(answer), answer.status);
    return answer;
  }
}

async function explain(answer) {
  let message = `The server answered ${answer.status}.`;
  try {
    const { error } = await answer.json();
    const fields = (error.fields ?? []).map(({ at, message: text }) => `${at}: ${text}`);
    message = [error.message, ...fields].join("\n");
  } catch {
    // An answer of something between server and page: the status says what there is to say.
  }
  const wait = answer.headers.get("Retry-After");
  return wait ? `${message} Try again in ${wait} s.` : message;
}
