"use strict";
// Sorts the table of workloads by a column, searches it, and opens all of it to be printed.
(() => {
  const table = document.getElementById("workloads");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column, number) => {
    const cell = row.cells[column];
    const text = (cell.querySelector("summary") || cell).textContent.trim();
    if (!number) return text.toLowerCase();
    const parsed = Number.parseFloat(text);
    return Number.isNaN(parsed) ? -1 : parsed;
  };
  heads.forEach((head, column) => {
    const number = head.dataset.number === "true";
    head.querySelector("button").addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const order = was === "descending" || (was === null && !number) ? "ascending" : "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => [value(row, column, number), row]);
      rows.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
      body.append(...rows.map(([, row]) => row));
    });
  });
  heads[0].setAttribute("aria-sort", "descending");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      if (!row.hidden) count += 1;
    }
    shown.textContent = words.length ? `${count} of ${body.rows.length} workloads` : "";
  });
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));
})();
