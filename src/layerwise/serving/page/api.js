// The calls to the server, and what it refuses. Addresses are relative, so a prefix does no harm.
import { askForKey, currentKey } from "./key.js";

/** What went wrong, as problem+json (RFC 9457) says it; status 0: the server was not reached. */
export class Problem extends Error {
  constructor(status, title, detail, { retryAfter = null, predictions = null } = {}) {
    super(detail || title);
    Object.assign(this, { status, title, detail, retryAfter, predictions });
  }
}

async function problemOf(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // not the server's own words; perhaps a proxy's
  }
  const seconds = parseFloat(response.headers.get("Retry-After"));
  return new Problem(
    response.status,
    said.title ?? `Error ${response.status}`,
    typeof said.detail === "string" ? said.detail : `The server answered ${response.status} ${response.statusText}.`,
    { retryAfter: Number.isFinite(seconds) ? Math.max(0, seconds) : null, predictions: said.predictions },
  );
}

async function call(path, options = {}) {
  for (;;) {
    const key = currentKey();
    const headers = { Accept: "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store" });
      if (response.ok) return await response.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "Not reached", "The server can not be reached. Check that it is running and that this computer is connected to it.");
    }
    const problem = await problemOf(response);
    if (problem.status !== 401) throw problem;
    // Another request may have been given a key since this one was sent.
    if (key === currentKey() && !(await askForKey(Boolean(key)))) throw problem;
  }
}

function form(cases) {
  const body = new FormData();
  for (const { file, name } of cases) body.append("files", file, name);
  return body;
}

export const getModel = () => call("v1/model");

/** The answer for several cases, in their order. */
export const predict = (cases, signal) => call("v1/predict", { method: "POST", body: form(cases), signal });

/** The one prediction of a case with its picture and, where the model can be explained, heat. */
export async function explain(item, { label, size }, signal) {
  const query = new URLSearchParams({ size, ...(label && { label }) });
  const answer = await call(`v1/explain?${query}`, { method: "POST", body: form([item]), signal });
  const [prediction] = answer.predictions;
  if (prediction.error) {
    const { status, title, detail } = prediction.error;
    throw new Problem(status, title, detail);
  }
  return prediction;
}
