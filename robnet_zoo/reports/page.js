// The buttons in a table's head sort its rows. Cells without a value stay last.
document.documentElement.classList.add("js");
const announcement = document.getElementById("announcement");
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const numeric = head.dataset.kind === "number";
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      const sign = down ? -1 : 1;
      const value = (row) => row.cells[head.cellIndex].dataset.value;
      const order = (a, b) => {
        const first = value(a), second = value(b);
        if (first === undefined || second === undefined) {
          return (first === undefined) - (second === undefined);
        }
        return sign * (numeric ? first - second : first.localeCompare(second, "en", { numeric: true }));
      };
      body.append(...[...body.rows].sort(order));
      for (const other of table.tHead.querySelectorAll("th")) {
        other.removeAttribute("aria-sort");
      }
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      announcement.textContent = `Sorted by ${button.textContent.trim()}, ${down ? "descending" : "ascending"}.`;
    });
  }
}
