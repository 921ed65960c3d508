// How far it is: a bar and a sentence; what a screen reader is told, and not too often.
import { byId } from "./elements.js";
import { count } from "./words.js";

const OFTEN = 5000; // ms between two announcements while it runs
const SURE = 5000; // ms after which the time that is left is said

export class Progress {
  #said = -OFTEN;
  #was = "idle";
  #began = { at: 0, settled: 0 }; // of what is running

  constructor({ cancel, resume }) {
    byId("cancel").addEventListener("click", () => (byId("cancel").dataset.does === "resume" ? resume() : cancel()));
  }

  show(cases, queue) {
    const of = (state) => cases.filter((item) => item.state === state).length;
    const [done, errors] = [of("done"), of("error")];
    const [settled, open] = [done + errors, cases.length - done - errors];
    byId("progress").hidden = !cases.length || (!open && !queue.stopped);
    Object.assign(byId("progress-bar"), { max: Math.max(1, cases.length), value: settled });
    const share = `${settled.toLocaleString("en")} of ${count(cases.length, "picture")}${errors ? `, ${count(errors, "error")}` : ""}`;
    const state = queue.stopped && open ? "stopped" : !open ? "idle" : "running";
    const now = performance.now();
    if (state !== "running" || this.#was !== "running") this.#began = { at: now, settled };
    const texts = {
      stopped: `${queue.stopped} ${count(open, "picture")} not answered.`,
      idle: `Done: ${share}.`,
      running: queue.pause ? `${share}. ${queue.obstacle}; on again in ${queue.pause} s.` : `${share}…${this.#left(now, settled, open)}`,
    };
    byId("progress-text").textContent = texts[state];
    byId("cancel").textContent = state === "stopped" ? "Go on" : "Cancel";
    byId("cancel").dataset.does = state === "stopped" ? "resume" : "cancel";
    if (cases.length && (state !== this.#was || (state === "running" && now - this.#said > OFTEN))) {
      this.#said = now;
      say(texts[state]);
    }
    this.#was = state;
  }

  /** " About 3 min left.", once there is something to judge it by. */
  #left(now, settled, open) {
    const [took, answered] = [now - this.#began.at, settled - this.#began.settled];
    if (took < SURE || !answered) return "";
    const seconds = (open * took) / answered / 1000;
    return seconds < 90 ? ` About ${Math.max(5, 5 * Math.round(seconds / 5))} s left.` : ` About ${Math.round(seconds / 60)} min left.`;
  }
}

/** Tells a screen reader. */
export function say(text) {
  byId("said").textContent = text;
}
