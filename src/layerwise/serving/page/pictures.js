// Pictures and heat from the server, the last few kept in memory.
import { explain } from "./api.js";
import { decode, heatLayer, pictureInside } from "./pixels.js";

const KEPT = 12; // pictures
const ROOM = 24e6; // pixels of all that are kept, four bytes each
export const SIZE = 1024; // the longest side that is asked for at first
export const SHARP = 2560; // and when it is zoomed into
const TRIES = 20; // while the server is busy

const pause = (seconds, signal) =>
  new Promise((done, failed) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      failed(signal.reason);
    });
  });

async function patiently(item, wanted, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await explain(item, wanted, signal);
    } catch (error) {
      if (![429, 503].includes(error.status) || tries === TRIES) throw error;
      await pause(error.retryAfter ?? 1, signal);
    }
  }
}

const nameOf = (item, { label, model }) => `${model.id} ${item.number} ${label}`;

export class Pictures {
  #kept = new Map(); // newest last
  #coming = new Map(); // what is fetched before it is asked for

  /** {pixels, heat: {canvas, highest, inside} | null, label, cut} of a case. */
  async get(item, wanted, signal) {
    const name = nameOf(item, wanted);
    const known = this.#kept.get(name);
    if (known && known.size >= (wanted.size ?? SIZE)) {
      this.#keep(name, known);
      return known;
    }
    return this.#coming.get(name) ?? this.#fetch(item, wanted, signal);
  }

  /** Fetches what is likely to be looked at next; one at a time. */
  async prefetch(item, wanted) {
    const name = nameOf(item, wanted);
    if (this.#kept.has(name) || this.#coming.size) return;
    try {
      const coming = this.#fetch(item, wanted, new AbortController().signal);
      this.#coming.set(name, coming);
      await coming;
    } catch {
      // it is asked for again when it is shown
    } finally {
      this.#coming.delete(name);
    }
  }

  async #fetch(item, { label, size = SIZE, model }, signal) {
    const answer = await patiently(item, { label, size }, signal);
    const pixels = await decode(answer.picture);
    const found = { size, pixels, heat: null, label: answer.label, cut: answer.cut };
    if (answer.heat) {
      const { canvas, highest } = heatLayer(await decode(answer.heat));
      const how = model.preprocessing;
      found.heat = { canvas, highest, inside: pictureInside([canvas.height, canvas.width], pixels, how.letterbox) };
    }
    this.#keep(nameOf(item, { label, model }), found);
    return found;
  }

  clear() {
    this.#kept.clear();
  }

  #keep(name, found) {
    this.#kept.delete(name);
    this.#kept.set(name, found);
    let room = [...this.#kept.values()].reduce((sum, { pixels }) => sum + pixels.width * pixels.height, 0);
    for (const [oldest, { pixels }] of this.#kept) {
      if (oldest === name || (this.#kept.size <= KEPT && room <= ROOM)) break;
      room -= pixels.width * pixels.height;
      this.#kept.delete(oldest);
    }
  }
}
