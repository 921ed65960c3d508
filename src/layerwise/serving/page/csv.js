// The table as CSV (RFC 4180), with the columns of `layerwise predict`.

/** One field. A text that a spreadsheet would take for a formula is made a text by an apostrophe. */
export function field(value) {
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Columns: id, a probability a label, decision (several labels joined by "|"). */
export function asCsv(labels, cases) {
  const rows = cases.map(({ name, probabilities, decision }) => [
    field(name),
    ...labels.map((label) => probabilities[label].toFixed(6)),
    field([decision].flat().join("|")),
  ]);
  return [["id", ...labels, "decision"].map(field), ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

export function save(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000); // the browser reads it meanwhile
}
