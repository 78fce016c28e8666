// A client for Waybill: uploads, queries, commands and live states. It has no dependencies and runs
// in browsers and in Node 18 or newer. Its types are in waybill.d.ts.

export const TERMINAL = new Set(["completed", "failed", "cancelled"]);

const PAUSES = [500, 1000, 2000, 5000, 10000];
const STEADY_AFTER = 10000;
const SILENCE = 45000; // Three heartbeats.
const LONG_POLL = 20;
const TRIES = 4;

// An error response. `status` is 0 if there was no response.
export class Refusal extends Error {
  constructor(message, { status = 0, code = "no_answer", retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }

  // True if a retry may succeed.
  get mayMend() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

// The Refusal for a problem document (RFC 9457), or for any other error body.
export function refusalOf(text, status, retryAfter = 0) {
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // A proxy responded with its own page, which is not meant for readers.
  }
  const message = problem.detail || problem.title || `The service responded with status ${status}.`;
  return new Refusal(message, { status, code: problem.code, retryAfter });
}

export class Client {
  #url;
  #uploadUrl;
  #token;
  #onAnswer;

  constructor({ url = "", uploadUrl = url, token = null, onAnswer = () => {} } = {}) {
    this.#url = url;
    this.#uploadUrl = uploadUrl;
    this.#token = token;
    this.#onAnswer = onAnswer;
  }

  // Retries create no second file, because all attempts carry the same idempotency key.
  async upload(
    body,
    { name = body.name, type = body.type, labels = {}, deduplicate, allowEmpty, signal } = {},
  ) {
    const named = Object.entries(labels).map(([key, value]) => [`label.${key}`, value]);
    const headers = { "Idempotency-Key": `"${randomKey()}"` };
    if (type) headers["Content-Type"] = type;
    const params = { name, deduplicate, allow_empty: allowEmpty, ...Object.fromEntries(named) };
    for (let tries = 1; ; tries += 1) {
      try {
        const options = { method: "POST", headers, body, signal };
        const address = `${this.#uploadUrl}/api/files/upload`;
        return await (await this.#fetch(address, params, options)).json();
      } catch (error) {
        if (signal?.aborted || tries === TRIES || !error.mayMend) throw error;
        await pause(Math.max(error.retryAfter * 1000, PAUSES[tries]), signal);
      }
    }
  }

  status(id, { wait, signal } = {}) {
    return this.ask("GET", `${fileOf(id)}/process/status`, { wait }, { signal });
  }

  // Resolves with the status of a file once it is terminal.
  async wait(id, { signal } = {}) {
    for (;;) {
      const status = await this.status(id, { wait: LONG_POLL, signal });
      if (TERMINAL.has(status.status)) return status;
    }
  }

  files(params = {}) {
    return this.ask("GET", "/api/files", params);
  }

  events(id) {
    return this.ask("GET", `${fileOf(id)}/events`);
  }

  cancel(id, { reason } = {}) {
    return this.ask("POST", `${fileOf(id)}/cancel`, { reason });
  }

  retry(id, { force, reason } = {}) {
    return this.ask("POST", `${fileOf(id)}/retry`, { force, reason });
  }

  // The subjects with whom a file is shared.
  async shares(id) {
    const { items } = await this.ask("GET", `${fileOf(id)}/shares`);
    return items.map(({ subject }) => subject);
  }

  share(id, subject, { reason } = {}) {
    return this.ask("PUT", `${fileOf(id)}/shares/${encodeURIComponent(subject)}`, { reason });
  }

  unshare(id, subject, { reason } = {}) {
    return this.ask("DELETE", `${fileOf(id)}/shares/${encodeURIComponent(subject)}`, { reason });
  }

  delete(id, { reason } = {}) {
    return this.ask("DELETE", fileOf(id), { reason });
  }

  // A ticket opens one stream without a token, within 30 seconds: for an EventSource or a WebSocket.
  async ticket() {
    return (await this.ask("POST", "/api/tickets")).ticket;
  }

  watch(filters = {}, options = {}) {
    return new Watch((params, signal) => this.#open(params, signal), filters, options);
  }

  async ask(method, path, params = {}, options = {}) {
    const response = await this.#fetch(this.#url + path, params, { method, ...options });
    return response.json();
  }

  #open(params, signal) {
    const headers = { Accept: "text/event-stream" };
    return this.#fetch(`${this.#url}/api/stream`, params, { headers, signal, cache: "no-store" });
  }

  async #fetch(address, params, { headers, ...options }) {
    const query = queryOf(params);
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    const authorization = token ? { Authorization: `Bearer ${token}` } : {};
    let response;
    try {
      response = await fetch(query.size ? `${address}?${query}` : address, {
        ...options,
        headers: { ...headers, ...authorization },
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Refusal("The service is unreachable.");
    }
    this.#onAnswer(response);
    if (response.ok) return response;
    const retryAfter = Number(response.headers.get("Retry-After")) || 0;
    throw refusalOf(await response.text(), response.status, retryAfter);
  }
}

// An endless stream of file states. A lost connection is reopened, on any pod, and resumes where it
// broke. Iterating again over a closed watch resumes it as well.
export class Watch {
  #open;
  #filters;
  #onConnection;
  #onWithdrawn;
  #closing = null;

  constructor(
    open,
    filters,
    { cursor = null, onConnection = () => {}, onWithdrawn = () => {} } = {},
  ) {
    this.#open = open;
    this.#onWithdrawn = onWithdrawn;
    this.#filters = { ...filters, ids: filters.ids?.join() };
    this.#onConnection = onConnection;
    this.cursor = cursor;
  }

  close() {
    this.#closing?.abort();
    this.#closing = null;
  }

  async *[Symbol.asyncIterator]() {
    this.close();
    const closing = new AbortController();
    this.#closing = closing;
    const { signal } = closing;
    let failures = 0;
    while (!signal.aborted) {
      const began = Date.now();
      let retryAfter = 0;
      this.#onConnection("connecting");
      try {
        yield* this.#states(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refusal && !error.mayMend) throw error;
        retryAfter = error.retryAfter ?? 0;
      }
      if (signal.aborted) return;
      this.#onConnection("lost");
      if (Date.now() - began > STEADY_AFTER) failures = 0;
      const longest = Math.max(PAUSES[Math.min(failures, PAUSES.length - 1)], retryAfter * 1000);
      failures += 1;
      // Jitter, because many clients may have lost the same pod.
      await pause(longest * (0.5 + Math.random() / 2), signal);
    }
  }

  // The states of one connection.
  async *#states(signal) {
    const connection = new AbortController();
    const end = () => connection.abort();
    signal.addEventListener("abort", end);
    try {
      const resumes = this.cursor !== null;
      const asked = { ...this.#filters, cursor: this.cursor };
      const response = await this.#open(asked, connection.signal);
      for await (const { event, data, id } of eventsOf(response.body, end)) {
        if (id) this.cursor = id;
        if (event === "bye") return;
        if (event === "subscribed" || event === "reset") {
          // Unless the stream resumes, earlier states may have gaps.
          const { complete } = JSON.parse(data);
          this.#onConnection("live", { fresh: event === "reset" || !resumes, complete });
        } else if (event === "withdrawn") {
          this.#onWithdrawn(JSON.parse(data).file_id);
        } else if (event === "message" && data !== null) {
          yield JSON.parse(data);
        }
      }
    } finally {
      signal.removeEventListener("abort", end);
      end();
    }
  }
}

// Yields Server-Sent Events. Ends a connection that is silent for too long.
async function* eventsOf(body, end) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let silence;
  try {
    for (;;) {
      silence = setTimeout(end, SILENCE);
      const { value, done } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      yield* blocks.map(eventOf);
    }
  } finally {
    clearTimeout(silence);
  }
}

function eventOf(block) {
  const fields = { event: "message", data: null, id: null };
  for (const line of block.split("\n")) {
    const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (name in fields) fields[name] = value;
  }
  return fields;
}

// Omits missing values; repeats the key for each element of a list.
function queryOf(params) {
  const given = Object.entries(params).filter(([, value]) => ![undefined, null, ""].includes(value));
  return new URLSearchParams(
    given.flatMap(([key, value]) => [value].flat().map((each) => [key, each])),
  );
}

const fileOf = (id) => `/api/files/${encodeURIComponent(id)}`;

const randomKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()));
  });
