// How far it is: a bar and a sentence; what a screen reader is told, and not too often.
import { byId } from "./elements.js";
import { count } from "./words.js";

const OFTEN = 5000; // ms between two announcements while it runs

export class Progress {
  #said = -OFTEN;
  #was = "idle";

  constructor({ cancel, resume }) {
    byId("cancel").addEventListener("click", () => (byId("cancel").dataset.does === "resume" ? resume() : cancel()));
  }

  show(cases, queue) {
    const of = (state) => cases.filter((item) => item.state === state).length;
    const [done, errors] = [of("done"), of("error")];
    const open = cases.length - done - errors;
    byId("progress").hidden = !cases.length || (!open && !queue.stopped);
    Object.assign(byId("progress-bar"), { max: Math.max(1, cases.length), value: done + errors });
    const share = `${done + errors} of ${count(cases.length, "picture")}${errors ? `, ${count(errors, "error")}` : ""}`;
    const state = queue.stopped && open ? "stopped" : !open ? "idle" : "running";
    const texts = {
      stopped: `${queue.stopped} ${count(open, "picture")} not answered.`,
      idle: `Done: ${share}.`,
      running: queue.pause ? `${share}. ${queue.obstacle}; on again in ${queue.pause} s.` : `${share}…`,
    };
    byId("progress-text").textContent = texts[state];
    byId("cancel").textContent = state === "stopped" ? "Go on" : "Cancel";
    byId("cancel").dataset.does = state === "stopped" ? "resume" : "cancel";
    const now = performance.now();
    if (cases.length && (state !== this.#was || (state === "running" && now - this.#said > OFTEN))) {
      this.#said = now;
      say(texts[state]);
    }
    this.#was = state;
  }
}

/** Tells a screen reader. */
export function say(text) {
  byId("said").textContent = text;
}
