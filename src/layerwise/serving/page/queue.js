// Cases on their way to the server: small batches, few in flight, patience when it is busy.
import { predict, Problem } from "./api.js";
import { megabytes } from "./words.js";

const FILES = 8; // a request
const BYTES = 8 * 2 ** 20; // a request, unless one file alone has more
const IN_FLIGHT = 2;
const AROUND = 1024; // bytes that a form puts around a file
const TRIES = 4; // in a row, when the server is not reached
const GONE = new Set([0, 502, 504]);
const BUSY = new Set([429, 503]);
const SHUT = new Set([401, 403, 404, 405, 421]); // of the server, not of a file

/** Whether a file can still be read: it may have been moved since it was chosen. */
async function readable({ file }) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

export class Queue {
  stopped = null; // why, in a sentence
  obstacle = ""; // why nothing is sent for a while
  #waiting = [];
  #flying = new Set();
  #until = 0; // before then nothing is sent
  #timer = 0;
  #failures = 0;
  #round = 0; // answers of an earlier one are dropped
  #limits = {};
  #told;

  /** `told(settled, answer)` is called whenever anything changes; settled cases have a result. */
  constructor(told) {
    this.#told = told;
  }

  /** What one request may hold: {files, bytes}, as far as the server says. */
  set limits(limits) {
    this.#limits = limits ?? {};
  }

  get busy() {
    return this.#flying.size > 0 || (this.#waiting.length > 0 && !this.stopped);
  }

  /** Seconds until it is tried again, 0 when nothing is in the way. */
  get pause() {
    return this.#waiting.length ? Math.max(0, Math.ceil((this.#until - Date.now()) / 1000)) : 0;
  }

  add(cases) {
    const most = (this.#limits.bytes ?? Infinity) - AROUND;
    const large = [];
    for (const item of cases) {
      if (item.state === "error") continue; // could not even be read
      item.state = "waiting";
      if (item.file.size <= most) this.#waiting.push(item);
      else {
        this.#refuse(item, 413, "Too large", `The file has ${megabytes(item.file.size)}; this server takes ${megabytes(most)}. Send a smaller picture.`);
        large.push(item);
      }
    }
    this.stopped = null;
    this.#told(large);
    this.#go();
  }

  /** Stops; what was not answered waits until `resume`. */
  stop(reason) {
    this.stopped = reason;
    for (const flight of this.#flying) flight.abort();
    this.#told([]);
  }

  resume() {
    this.stopped = null;
    this.#until = this.#failures = 0;
    this.#go();
  }

  /** Forgets everything. */
  clear() {
    this.#round += 1;
    this.#waiting = [];
    this.stop(null);
  }

  #go() {
    clearTimeout(this.#timer);
    const wait = this.#until - Date.now();
    if (wait > 0 && this.#waiting.length && !this.stopped) {
      this.#timer = setTimeout(() => this.#go(), Math.min(wait, 1000));
    } else {
      while (!this.stopped && this.#waiting.length && this.#flying.size < IN_FLIGHT) this.#ship(this.#batch());
    }
    this.#told([]);
  }

  #batch() {
    const most = Math.min(FILES, this.#limits.files ?? FILES);
    const room = Math.min(BYTES, this.#limits.bytes ?? BYTES) - AROUND;
    const batch = [this.#waiting.shift()];
    let size = batch[0].file.size;
    while (!batch[0].alone && batch.length < most && this.#waiting.length) {
      const next = this.#waiting[0];
      size += next.file.size + AROUND;
      if (next.alone || size > room) break;
      batch.push(this.#waiting.shift());
    }
    return batch;
  }

  async #ship(batch) {
    const [flight, round] = [new AbortController(), this.#round];
    this.#flying.add(flight);
    for (const item of batch) item.state = "sending";
    let [settled, answer] = [[], null];
    try {
      answer = await predict(batch, flight.signal);
      settled = this.#settle(batch, answer.predictions, answer.model?.id);
      this.#failures = 0;
    } catch (error) {
      if (round === this.#round) settled = await this.#failed(batch, error);
    }
    this.#flying.delete(flight);
    if (round !== this.#round) return;
    this.#told(settled, answer);
    this.#go();
  }

  #settle(batch, predictions, model) {
    if (predictions?.length !== batch.length) {
      throw new Problem(500, "Answer not understood", "The server gave another number of answers than it was sent files. Load this page again.");
    }
    batch.forEach((item, k) => {
      const { probabilities, decision, error } = predictions[k];
      if (error) this.#refuse(item, error.status, error.title, error.detail);
      else Object.assign(item, { state: "done", probabilities, decision, model, error: null });
    });
    return batch;
  }

  #refuse(item, status, title, detail) {
    Object.assign(item, { state: "error", error: { status, title, detail: detail || title }, probabilities: null });
  }

  /** What to do about a request that failed; the cases that are settled by that. */
  async #failed(batch, error) {
    if (error.name === "AbortError") return this.#back(batch);
    if (!(error instanceof Problem)) error = new Problem(500, "Answer not understood", "The page does not understand the server's answer. Load this page again.");
    if (BUSY.has(error.status)) {
      this.obstacle = "The server is busy";
      this.#until = Date.now() + 1000 * (error.retryAfter ?? 1);
      return this.#back(batch);
    }
    if (GONE.has(error.status)) {
      const lost = [];
      for (const item of batch) if (!(await readable(item))) lost.push(item);
      for (const item of lost) this.#refuse(item, 0, "Not readable", "The browser can no longer read this file. Was it moved or changed? Add it again.");
      this.#back(batch.filter((item) => !lost.includes(item)));
      if (lost.length) return lost;
      this.obstacle = "The server was not reached";
      this.#failures += 1;
      this.#until = Date.now() + 1000 * 2 ** (this.#failures - 1);
      if (this.#failures >= TRIES) this.stopped = error.message;
      return [];
    }
    if (SHUT.has(error.status)) {
      this.stopped = error.message;
      return this.#back(batch);
    }
    if (error.predictions?.length === batch.length) return this.#settle(batch, error.predictions);
    if (batch.length > 1) {
      for (const item of batch) item.alone = true; // one of them is to blame: each for itself
      return this.#back(batch);
    }
    this.#refuse(batch[0], error.status, error.title, error.detail);
    return batch;
  }

  #back(batch) {
    for (const item of batch) item.state = "waiting";
    this.#waiting.unshift(...batch);
    return [];
  }
}
