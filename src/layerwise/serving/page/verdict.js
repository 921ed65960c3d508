// What the model says of one case: the decision in words, a bar for each label.
import { bar, element } from "./elements.js";
import { decided, probability, thresholdOf, verdict } from "./words.js";

const MANY = 20; // labels; beyond, the likeliest come first

function row(model, label, p, chosen) {
  const threshold = thresholdOf(model, label);
  const said =
    threshold === null ? "" : `${chosen ? "at or above" : "below"} the threshold of ${probability(threshold)}`;
  return element(
    "li",
    { className: chosen ? "chosen" : "" },
    element("span", { className: "label" }, label, chosen ? element("span", { className: "tick", title: "decided for" }, " ✓") : null),
    element("span", { className: "value" }, probability(p)),
    bar(p, threshold),
    said ? element("span", { className: "hidden" }, `, ${said}`) : null,
  );
}

export function showVerdict(place, model, item) {
  if (!item || item.state === "error") {
    place.replaceChildren(
      item
        ? element("p", { className: "headline wrong" }, item.error.title)
        : element("p", { className: "soft" }, "No case chosen."),
      item ? element("p", {}, item.error.detail) : "",
    );
    return;
  }
  if (item.state !== "done") {
    place.replaceChildren(element("p", { className: "soft" }, item.state === "sending" ? "The model is looking at it…" : "Waiting for its turn…"));
    return;
  }
  const [headline, reason] = verdict(model, item);
  const chosen = new Set(decided(item.decision));
  let labels = model.labels.filter((label) => label in item.probabilities);
  if (labels.length > MANY) labels = labels.sort((a, b) => item.probabilities[b] - item.probabilities[a]);
  place.classList.toggle("many", labels.length > 6);
  const marked = model.task === "multiclass" ? "" : " The mark on a bar is the threshold.";
  place.replaceChildren(
    element("p", { className: "headline" }, headline),
    element("p", { className: "soft reason" }, reason + marked),
    element("ul", { className: "bars" }, labels.map((label) => row(model, label, item.probabilities[label], chosen.has(label)))),
  );
}
