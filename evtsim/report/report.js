"use strict";
// Sorts and filters the tables of the page. Without it they are whole, and in their first order.
(() => {
  const number = (text) => Number(text.replace(/,/g, ""));
  const compare = {
    "=": (a, b) => a === b,
    "<": (a, b) => a < b,
    ">": (a, b) => a > b,
    "<=": (a, b) => a <= b,
    ">=": (a, b) => a >= b,
  };

  for (const section of document.querySelectorAll(".table")) {
    const body = section.querySelector("tbody");
    const heads = [...section.querySelectorAll("th")];
    const input = section.querySelector("input");
    const status = section.querySelector("[role=status]");
    const text = (row, i) => row.cells[i].textContent;
    const titles = heads.map((head) => head.textContent);
    let rows = [...body.rows];

    const sort = (i) => {
      const words = heads[i].classList.contains("t");
      const was = heads[i].getAttribute("aria-sort");
      // Of numbers the largest matter, of names the first.
      const down = was === null ? !words : was === "ascending";
      const value = (row) => (words ? text(row, i) : number(text(row, i)));
      const missing = (v) => v === "–" || Number.isNaN(v);
      const keyed = rows.map((row) => [value(row), row]);
      keyed.sort(([a], [b]) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        const order = words ? a.localeCompare(b) : a - b;
        return down ? -order : order;
      });
      rows = keyed.map(([, row]) => row);
      body.append(...rows);
      for (const head of heads) head.removeAttribute("aria-sort");
      heads[i].setAttribute("aria-sort", down ? "descending" : "ascending");
    };

    // A word is in some cell; "raised>1000" compares a column, by its name or heading.
    const condition = (word) => {
      const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(word);
      if (parts) {
        const name = parts[1].toLowerCase();
        const i = heads.findIndex(
          (head, i) => head.dataset.name === name || titles[i].split(" (")[0].toLowerCase() === name,
        );
        if (i >= 0) {
          const numeric = !heads[i].classList.contains("t");
          const wanted = numeric ? number(parts[3]) : parts[3].toLowerCase();
          return (row) => {
            const found = text(row, i);
            return compare[parts[2]](numeric ? number(found) : found.toLowerCase(), wanted);
          };
        }
      }
      return (row) => [...row.cells].some((cell) => cell.textContent.toLowerCase().includes(word.toLowerCase()));
    };

    const filter = () => {
      const conditions = input.value.trim().split(/\s+/).filter(Boolean).map(condition);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !conditions.every((holds) => holds(row));
        shown += !row.hidden;
      }
      const all = rows.length.toLocaleString("en");
      status.textContent = conditions.length ? `${shown.toLocaleString("en")} of ${all} rows` : `${all} rows`;
    };

    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "Sort";
      button.addEventListener("click", () => sort(i));
      head.replaceChildren(button);
    });
    input.addEventListener("input", filter);
    if (rows.length > 5) section.querySelector(".tools").hidden = false;
  }
})();
