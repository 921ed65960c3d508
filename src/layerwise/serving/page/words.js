// Numbers and decisions in words.

/** A probability in three digits; never rounded up to certainty. */
export function probability(p) {
  if (typeof p !== "number" || Number.isNaN(p)) return "—";
  if (p > 0 && p < 0.0005) return "<0.001";
  if (p < 1 && p >= 0.9995) return ">0.999";
  return p.toFixed(3);
}

export const count = (n, one, several = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : several}`;

/** A number of bytes, two digits of it. */
export function megabytes(n) {
  return `${n >= 1e7 ? Math.round(n / 1e6) : +(n / 1e6).toPrecision(2)} MB`;
}

/** The threshold of a label: null for several classes, of which the likeliest is taken. */
export function thresholdOf(model, label) {
  if (model.task === "multiclass") return null;
  if (model.task === "binary") return label === model.labels[1] ? (model.threshold ?? 0.5) : null;
  const at = model.labels.indexOf(label);
  return model.threshold?.[at] ?? 0.5;
}

/** The labels decided for, as a list, whatever the task. */
export const decided = (decision) => (Array.isArray(decision) ? decision : [decision]);

export const shortDecision = (decision) => decided(decision).join(", ") || "none";

/** [headline, reason] of one prediction. */
export function verdict(model, { probabilities, decision }) {
  if (model.task === "multiclass") {
    return [decision, `The most probable of ${model.labels.length} classes, at ${probability(probabilities[decision])}.`];
  }
  if (model.task === "binary") {
    const positive = model.labels[1];
    const reaches = decision === positive ? "at or above" : "below";
    const limit = probability(thresholdOf(model, positive));
    return [decision, `The probability of ${positive} is ${probability(probabilities[positive])}, ${reaches} the threshold of ${limit}.`];
  }
  const all = model.labels.length;
  if (!decision.length) return ["No label", `None of the ${all} labels reaches its threshold.`];
  return [decision.join(", "), `${decision.length} of ${count(all, "label")} ${decision.length === 1 ? "reaches its" : "reach their"} threshold.`];
}
