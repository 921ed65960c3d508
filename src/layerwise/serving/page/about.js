// What the model is, what it is not for, how well it did: from GET /v1/model.
import { byId, element } from "./elements.js";
import { count, megabytes, probability } from "./words.js";

const METRICS = {
  auroc: ["AUROC", "chance that a positive picture scores above a negative one"],
  auprc: ["AUPRC", "average precision over all recalls"],
  accuracy: ["Accuracy", "share of right decisions"],
  balanced_accuracy: ["Balanced accuracy", "mean of recall and specificity"],
  recall: ["Sensitivity (recall)", "share of positive pictures that are found"],
  specificity: ["Specificity", "share of negative pictures that are left alone"],
  precision: ["Precision", "share of positive decisions that are right"],
  f1: ["F1", "harmonic mean of precision and recall"],
  brier: ["Brier score", "mean squared error of the probabilities; lower is better"],
};
const COLUMNS = ["auroc", "recall", "specificity", "precision"];
const USE = "Research: how a network that has learnt from some pictures answers others."; // of a server that says nothing
const LIMITS = [
  "It is not a medical device and is cleared by no authority. Do not diagnose, triage or treat by it, nor instead of a reading by a physician.",
  "It answers every picture, also one of another kind, age group or device than it has learnt, and then its probabilities mean nothing.",
  "Its scores hold for pictures like those it was measured on. Measure it on your own before you believe it.",
];

const heading = ({ task, labels }) =>
  task === "binary"
    ? `${labels[1]} or ${labels[0]}`
    : `${count(labels.length, task === "multilabel" ? "label" : "class", task === "multilabel" ? "labels" : "classes")}${task === "multilabel" ? ", any of them at once" : ""}`;

/** "0.41", or a list for several labels; null for several classes. */
function thresholds({ task, threshold, labels }) {
  if (task === "multiclass") return "none: the most probable class is taken";
  if (task === "binary") return `${probability(threshold ?? 0.5)} for ${labels[1]}`;
  return labels.map((label, k) => `${label} ${probability(threshold?.[k] ?? 0.5)}`).join(", ");
}

const limits = ({ low, high }) => (typeof low === "number" && typeof high === "number" ? `${low.toFixed(3)} to ${high.toFixed(3)}` : "");

function tile(name, score) {
  const [label, meaning] = METRICS[name];
  const [span, mark] = [element("i"), element("b")];
  const percent = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
  span.style.left = percent(score.low);
  span.style.width = percent(score.high - score.low);
  mark.style.left = percent(score.value);
  return element(
    "li",
    { className: `tile${name === "auroc" ? " main" : ""}` },
    element("span", { className: "label" }, label),
    element("span", { className: "value" }, score.value.toFixed(3)),
    element("span", { className: "limits" }, limits(score)),
    element("span", { className: "bar interval", "aria-hidden": "true" }, span, mark),
    element("span", { className: "meaning" }, meaning),
  );
}

const measured = (score) => typeof score?.value === "number";

function scoresOf({ scores }) {
  const tiles = Object.keys(METRICS).filter((name) => measured(scores?.[name])).map((name) => tile(name, scores[name]));
  if (!tiles.length) return [element("p", { className: "wrong" }, "No scores came with this model. Nobody knows how good it is: measure it before you look at what it says.")];
  const parts = [
    element("h3", {}, "Measured on pictures it had not seen"),
    element("p", { className: "soft" }, "Each with the interval in which it lies with 95% confidence."),
    element("ul", { className: "tiles" }, tiles),
  ];
  const labels = Object.entries(scores.per_label ?? {}).filter(([, each]) => COLUMNS.some((name) => measured(each[name])));
  if (labels.length > 1) parts.push(perLabel(labels));
  return parts;
}

function perLabel(labels) {
  const cell = (score) =>
    measured(score)
      ? element("td", { className: "n" }, score.value.toFixed(3), " ", element("span", { className: "limits" }, limits(score)))
      : element("td", { className: "n" }, "—");
  const head = element("tr", {}, element("th", { scope: "col" }, "Label"), COLUMNS.map((name) => element("th", { scope: "col", className: "n" }, METRICS[name][0])));
  const rows = labels.map(([label, each]) => element("tr", {}, element("th", { scope: "row" }, label), COLUMNS.map((name) => cell(each[name]))));
  return element(
    "details",
    {},
    element("summary", {}, "Label by label"),
    element(
      "div",
      { className: "scroll", tabIndex: 0, role: "group", "aria-label": "Scores label by label" },
      element("table", { className: "plain" }, element("thead", {}, head), element("tbody", {}, rows)),
    ),
  );
}

/** Where it comes from; what is not known is left out. */
function facts(model) {
  const { provenance: from = {}, preprocessing: how, explanation, limits: most = {} } = model;
  const [height, width] = how.size;
  const short = (digest) => (typeof digest === "string" ? digest.slice(0, 12) : null);
  const transfer = from.transfer ?? {};
  const rows = {
    Id: model.id,
    Version: model.layerwise ? `Layerwise ${model.layerwise}` : null,
    Decides: heading(model),
    Threshold: thresholds(model),
    Data: [from.data, from.data_fingerprint && `fingerprint ${short(from.data_fingerprint)}`].filter(Boolean).join(", "),
    Network: [from.model, transfer.keep && transfer.keep !== "all" && `kept up to ${transfer.keep}`].filter(Boolean).join(", "),
    "Started from": [transfer.source, from.licence && `licence ${from.licence}`].filter(Boolean).join(", "),
    Run: from.run,
    "It sees": `${width} × ${height} pixels, ${how.channels === 1 ? "grey" : "colour"}${how.letterbox ? ", with its sides' ratio kept" : ", stretched to fit"}`,
    Heat: explanation?.cut ? `Grad-CAM at ${explanation.cut}` : `none${explanation?.why ? `: ${explanation.why}` : ""}`,
    "The server takes": most.bytes ? `${count(most.files, "file")} and ${megabytes(most.bytes)} a request, ${Math.round(most.pixels / 1e6)} million pixels a picture` : null,
  };
  const known = Object.entries(rows).filter(([, value]) => value);
  return element("dl", { className: "facts" }, known.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
}

/** A sentence of the model card: `code` in its marks. */
const sentence = (text) => text.split("`").map((part, k) => (k % 2 ? element("code", {}, part) : part));

const points = (texts) => element("ul", {}, texts.map((text) => element("li", {}, sentence(text))));

const listOf = (...texts) => texts.flat().filter(Boolean);

export function showModel(model) {
  document.title = `${model.name} · Layerwise`;
  byId("title").textContent = model.name;
  byId("subtitle").replaceChildren(
    `${heading(model)}${model.task === "binary" ? ` · threshold ${probability(model.threshold ?? 0.5)}` : ""} · `,
    element("code", {}, model.id),
  );
  byId("about-body").replaceChildren(
    element(
      "div",
      { className: "answer" },
      element("h3", {}, "What it is for"),
      points(listOf(model.intended_use ?? USE)),
      element("h3", {}, "What it is not for, and what to bear in mind"),
      points(model.not_for ? listOf(model.not_for, model.limitations) : LIMITS),
    ),
    ...scoresOf(model),
    element("h3", {}, "Where it comes from"),
    facts(model),
  );
}
