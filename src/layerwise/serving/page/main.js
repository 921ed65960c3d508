// The page: files come in, go to the server, and are shown.
import { showModel } from "./about.js";
import { getModel } from "./api.js";
import { asCsv, save } from "./csv.js";
import { byId } from "./elements.js";
import { startIntake } from "./intake.js";
import { Progress, say } from "./progress.js";
import { Queue } from "./queue.js";
import { Table } from "./table.js";
import { startTheme } from "./theme.js";
import { showVerdict } from "./verdict.js";
import { Viewer } from "./viewer.js";
import { count } from "./words.js";

let model = null;
let cases = []; // {number, name, file, state, probabilities, decision, model, error}
let early = []; // what came before the model was known

let shown = null; // the state in which the chosen case is shown

const viewer = new Viewer({ step: (by) => table.step(by), back: () => table.focus(), following });
const table = new Table({ choose: show, arranged: place, enter: () => viewer.focus(), picked: () => viewer.reveal() });
const queue = new Queue(answered);
const progress = new Progress({ cancel: () => queue.stop("Cancelled."), resume: () => queue.resume() });

function show(item) {
  shown = item?.state;
  viewer.show(item);
  showVerdict(byId("verdict-body"), model, item);
  place();
}

/** Which of how many the chosen case is. */
function place() {
  const order = table.order;
  const at = order.indexOf(table.chosen);
  byId("case-place").textContent = at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
  byId("previous").disabled = at <= 0;
  byId("next").disabled = at < 0 || at === order.length - 1;
}

/** The case that is likely to be looked at next, when the server has nothing else to do. */
function following() {
  const order = table.order;
  const next = order[order.indexOf(table.chosen) + 1];
  return next?.state === "done" && !queue.busy ? next : null;
}

/** While a dropped folder is gone through. */
function seen(n) {
  byId("looking").textContent = `Looking through the folder: ${count(n, "file")} so far…`;
}

function add(found) {
  byId("looking").textContent = found.length ? "" : "There is no file in it.";
  if (!found.length) return;
  if (!model) {
    early = early.concat(found);
    return;
  }
  const added = found.map(({ name, file, error = null }, k) => ({ number: cases.length + k + 1, name, file, error, state: error ? "error" : "waiting", seen: "waiting" }));
  cases = cases.concat(added);
  byId("workbench").hidden = false;
  document.body.classList.add("working");
  table.add(added);
  if (!table.chosen) table.select(added[0]);
  queue.add(added);
}

/** Called by the queue after every change. */
function answered(settled, answer = null) {
  progress.show(cases, queue);
  const sent = cases.filter((item) => item.state === "sending" || item.state === "waiting");
  table.update([...settled, ...sent.filter((item) => item.state !== item.seen)]);
  for (const item of sent) item.seen = item.state;
  const ready = cases.filter((item) => item.state === "done").length;
  byId("download").disabled = !ready;
  byId("download").textContent = ready > 1 ? `Download CSV (${ready.toLocaleString("en")})` : "Download CSV";
  if (table.chosen && (settled.includes(table.chosen) || table.chosen.state !== shown)) show(table.chosen);
  if (answer?.model && answer.model.id !== model.id) modelChanged();
}

/** Another model answers than the page was opened with: say so, and offer to ask it everything. */
async function modelChanged() {
  const before = model.id;
  if (!(await readModel()) || model.id === before) return;
  const old = cases.filter((item) => item.state === "done" && item.model !== model.id);
  if (!old.length) return;
  notice(`The server now has another model, ${model.name} (${model.id}). ${count(old.length, "case")} here ${old.length === 1 ? "was" : "were"} answered by the one before.`, "Ask the new model", () => queue.add(old));
}

function notice(text, action, act) {
  byId("notice-text").textContent = text;
  byId("notice-button").textContent = action;
  byId("notice-button").onclick = () => {
    byId("notice").hidden = true;
    act();
  };
  byId("notice").hidden = false;
}

async function readModel() {
  try {
    model = await getModel();
  } catch (error) {
    byId("title").textContent = error.title;
    notice(error.message, "Try again", start);
    return false;
  }
  queue.limits = model.limits;
  showModel(model);
  viewer.model = model;
  table.model = model;
  return true;
}

async function start() {
  if (!(await readModel())) return;
  if (early.length) add(early);
  early = [];
}

function download() {
  const ready = cases.filter((item) => item.state === "done" && item.model === model.id);
  save(asCsv(model.labels, ready), "predictions.csv");
  const left = cases.length - ready.length;
  say(`Saved ${count(ready.length, "case")}${left ? `; ${left} without an answer left out` : ""}.`);
}

function clear() {
  cases = [];
  queue.clear();
  table.clear();
  viewer.clear();
  byId("workbench").hidden = true;
  document.body.classList.remove("working");
  byId("choose-files").focus();
  say("All cases cleared.");
}

byId("host").textContent = location.host;
byId("download").addEventListener("click", download);
byId("clear").addEventListener("click", clear);
startTheme();
startIntake(add, seen);
start();
