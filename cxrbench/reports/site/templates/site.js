"use strict";
// Heads of columns become buttons that sort: numbers by value with dashes last, words by their order.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  const sort = (place, rising) => {
    const key = (row) => place === 0 ? row.cells[0].textContent.trim() : parseFloat(row.cells[place].textContent);
    const sign = rising ? 1 : -1;
    const rows = Array.from(table.tBodies[0].rows).map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (place === 0) return sign * a.localeCompare(b, "en", { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const rising = before === "none" ? place === 0 || "low" in head.dataset : before === "descending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sort(place, rising);
    });
  });
}
