// The table of cases: sorted, filtered, gone through by key.
import { bar, byId, element } from "./elements.js";
import { count, decided, probability, shortDecision, thresholdOf } from "./words.js";

const STEPS = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
const NATURAL = new Intl.Collator("en", { numeric: true, sensitivity: "base" }); // made once: it is dear
const NONE = "\u0000none"; // in the filter: cases without a label
const ERRORS = "\u0000errors";
const OPEN = "\u0000open";

// Roles in words: on a phone the rows are laid out as no table is, and some browsers then forget them.
const cell = (properties, ...children) => element("td", { role: "gridcell", ...properties }, ...children);

export class Table {
  chosen = null;
  #model = null;
  #cases = [];
  #rows = new Map(); // case → its row
  #order = []; // the cases that are shown
  #sort = { by: "number", direction: 1 };
  #later = 0;
  #cost = 0; // ms of the last arranging: it may take a tenth of the time
  #stop = null; // the row that Tab reaches
  #choose;
  #arranged;
  #enter;
  #picked;

  /**
   * `choose(case)` follows the selection, `arranged()` the order; `enter()` goes to the picture,
   * `picked()` comes after a click.
   */
  constructor({ choose, arranged, enter, picked }) {
    [this.#choose, this.#arranged, this.#enter, this.#picked] = [choose, arranged, enter, picked];
    for (const heading of byId("table").tHead.rows[0].cells) {
      heading.querySelector("button").addEventListener("click", () => this.#sortBy(heading));
    }
    byId("filter-name").addEventListener("input", () => this.arrange());
    byId("filter-result").addEventListener("change", () => this.arrange());
    byId("column").addEventListener("change", () => {
      for (const item of this.#cases) this.#fill(item);
      this.arrange();
    });
    byId("rows").addEventListener("click", ({ target }) => {
      const row = target.closest("tr");
      if (!row) return;
      this.select(row.item, true);
      this.#picked();
    });
    byId("rows").addEventListener("keydown", (event) => this.#key(event));
    this.#mark();
  }

  set model(model) {
    this.#model = model;
    const option = (value, text) => element("option", { value }, text);
    const { labels, task } = model;
    byId("filter-result").replaceChildren(
      option("", "All results"),
      ...labels.map((label) => option(label, label)),
      ...(task === "multilabel" ? [option(NONE, "no label")] : []),
      option(ERRORS, "errors"),
      option(OPEN, "not answered yet"),
    );
    byId("column").replaceChildren(
      option("", task === "multilabel" ? "highest probability" : "of what was decided"),
      ...labels.map((label) => option(label, label)),
    );
    byId("column-label").hidden = task === "binary";
    byId("probability-of").textContent = task === "binary" ? `of ${labels[1]}` : "";
    for (const item of this.#cases) this.#fill(item);
  }

  add(cases) {
    this.#cases = this.#cases.concat(cases);
    for (const item of cases) {
      const row = Object.assign(element("tr", { role: "row", tabIndex: -1, "aria-selected": "false" }), { item });
      this.#rows.set(item, row);
      this.#fill(item);
    }
    this.arrange();
  }

  /** Shows what has changed of some cases; the order follows a little later, not with every answer. */
  update(cases) {
    for (const item of cases) this.#fill(item);
    if (cases.length && !this.#later) this.#later = setTimeout(() => this.arrange(), Math.max(250, 10 * this.#cost));
  }

  clear() {
    [this.#cases, this.chosen] = [[], null];
    this.#rows.clear();
    byId("filter-name").value = byId("filter-result").value = "";
    this.arrange();
  }

  /** The cases that are shown, in their order. */
  get order() {
    return this.#order;
  }

  select(item, focus = false) {
    this.#rows.get(this.chosen)?.setAttribute("aria-selected", "false");
    this.chosen = item;
    const row = this.#rows.get(item);
    row?.setAttribute("aria-selected", "true");
    this.#tabStop();
    if (focus) row?.focus({ preventScroll: true });
    this.#reveal(row);
    if (focus) row?.scrollIntoView({ block: "nearest", behavior: "instant" }); // on a small screen the list itself may be out of sight
    this.#choose(item);
  }

  step(by, focus = false) {
    const order = this.#order;
    if (!order.length) return;
    const at = order.indexOf(this.chosen);
    const to = Math.min(order.length - 1, Math.max(0, at < 0 ? 0 : at + by));
    if (order[to] !== this.chosen) this.select(order[to], focus);
  }

  focus() {
    (this.#rows.get(this.chosen) ?? byId("rows").rows[0])?.focus();
  }

  /** Sorts and filters anew; the selection and the focus stay. */
  arrange() {
    clearTimeout(this.#later);
    this.#later = 0;
    const began = performance.now();
    const shown = this.#cases.filter((item) => this.#fits(item)).sort((a, b) => this.#compare(a, b));
    // Only if something moved: a row that is taken out and put back loses the focus.
    if (shown.length !== this.#order.length || shown.some((item, k) => this.#order[k] !== item)) {
      const place = byId("rows");
      const focused = place.contains(document.activeElement) ? document.activeElement : null;
      const rows = document.createDocumentFragment();
      for (const item of shown) rows.append(this.#rows.get(item));
      place.replaceChildren(rows);
      this.#order = shown;
      if (focused?.isConnected) focused.focus({ preventScroll: true });
    }
    this.#cost = performance.now() - began;
    this.#tabStop();
    byId("nothing").hidden = shown.length > 0 || !this.#cases.length;
    const [some, all] = [shown.length, this.#cases.length].map((n) => n.toLocaleString("en"));
    byId("shown").textContent = some === all ? all : `${some} of ${all}`;
    byId("shown").title = count(shown.length, "case");
    this.#arranged();
  }

  /** The probability that the column shows: [label, value]. */
  #probability({ probabilities, decision }) {
    const { task, labels } = this.#model;
    const asked = byId("column").value;
    const label =
      task === "binary"
        ? labels[1]
        : asked || (task === "multiclass" ? decision : Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a)));
    return [label, probabilities[label]];
  }

  #fill(item) {
    const row = this.#rows.get(item);
    const cells = [
      cell({ className: "n soft" }, String(item.number)),
      element("th", { scope: "row", role: "rowheader", title: item.name }, item.name),
    ];
    if (item.state === "done") {
      const [label, p] = this.#probability(item);
      const threshold = thresholdOf(this.#model, label);
      cells.push(
        cell({ title: shortDecision(item.decision) }, element("span", { className: "clamp" }, shortDecision(item.decision))),
        cell({ className: "n" }, element("span", { className: "value", title: label }, probability(p)), bar(p ?? 0, threshold)),
      );
    } else if (item.state === "error") {
      const { detail } = item.error;
      cells.push(cell({ colSpan: 2, className: "error", title: detail }, element("span", { className: "clamp" }, element("strong", {}, "✕ Error: "), detail)));
    } else {
      cells.push(cell({ colSpan: 2, className: "soft open" }, item.state === "sending" ? "at the server…" : "waiting…"));
    }
    row.replaceChildren(...cells);
  }

  #fits(item) {
    const [name, result] = [byId("filter-name").value.trim().toLowerCase(), byId("filter-result").value];
    if (name && !item.name.toLowerCase().includes(name)) return false;
    if (!result) return true;
    if (result === ERRORS) return item.state === "error";
    if (result === OPEN) return item.state === "waiting" || item.state === "sending";
    if (item.state !== "done") return false;
    return result === NONE ? !item.decision.length : decided(item.decision).includes(result);
  }

  /** Cases without an answer come last, whichever way it is sorted. */
  #compare(a, b) {
    const { by, direction } = this.#sort;
    const tie = a.number - b.number;
    if (by === "number") return direction * tie;
    if (by === "name") return direction * NATURAL.compare(a.name, b.name) || tie;
    const last = Number(a.state !== "done") - Number(b.state !== "done");
    if (last || a.state !== "done") return last || tie;
    if (by === "decision") return direction * NATURAL.compare(shortDecision(a.decision), shortDecision(b.decision)) || tie;
    return direction * ((this.#probability(a)[1] ?? -1) - (this.#probability(b)[1] ?? -1)) || tie;
  }

  #sortBy(heading) {
    const by = heading.dataset.sort;
    // Probabilities begin with the largest: that is what one looks for.
    const first = by === "probability" ? -1 : 1;
    this.#sort = { by, direction: this.#sort.by === by ? -this.#sort.direction : first };
    this.#mark();
    this.arrange();
    this.#reveal(this.#rows.get(this.chosen));
  }

  #mark() {
    for (const heading of byId("table").tHead.rows[0].cells) {
      if (heading.dataset.sort !== this.#sort.by) heading.removeAttribute("aria-sort");
      else heading.setAttribute("aria-sort", this.#sort.direction > 0 ? "ascending" : "descending");
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) this.step(STEPS[event.key], true);
    else if (event.key === "Enter" || event.key === " ") this.#enter();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** One row can be reached by Tab: the chosen one, or the first. */
  #tabStop() {
    const chosen = this.#rows.get(this.chosen);
    if (this.#stop) this.#stop.tabIndex = -1;
    this.#stop = chosen?.isConnected ? chosen : (byId("rows").rows[0] ?? null);
    if (this.#stop) this.#stop.tabIndex = 0;
  }

  /** Scrolls the list, not the page; again when it is seen how high the rows are that it came to. */
  #reveal(row, again = true) {
    const list = byId("list");
    if (!row?.isConnected || list.scrollHeight <= list.clientHeight) return;
    const [box, frame] = [row.getBoundingClientRect(), list.getBoundingClientRect()];
    const top = frame.top + byId("table").tHead.offsetHeight;
    if (box.top < top) list.scrollTop -= top - box.top;
    else if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom;
    else return;
    if (again) requestAnimationFrame(() => requestAnimationFrame(() => this.#reveal(row, false)));
  }
}
