"use strict";
// Sortable tables: each heading with data-sort becomes a button. What has no number sorts last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    const raw = cell.dataset.key ?? cell.textContent.trim();
    return numeric ? (raw === "" ? NaN : parseFloat(raw.replace("\u2212", "-"))) : raw;
  };
  const sort = (column, numeric, direction) => {
    const rows = [...body.rows].map((row) => [key(row, column, numeric), row]);
    rows.sort(([a], [b]) => {
      if (!numeric) return direction * a.localeCompare(b, "en", { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return direction * (a - b);
    });
    body.append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => {
    if (!heading.dataset.sort) return;
    const numeric = heading.dataset.sort === "number";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers begin with the largest: that is what one looks for.
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      sort(column, numeric, order === "ascending" ? 1 : -1);
      const said = document.getElementById("sorted");
      if (said) said.textContent = `Sorted by ${button.textContent}, ${order}`;
    });
  });
}
