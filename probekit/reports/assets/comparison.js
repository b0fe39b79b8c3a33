// The page reads without this: it adds sorting, filtering and copy buttons.
"use strict";

function number(text) {
  const found = text.replace(/\u2212/g, "-").replace(/,/g, "").match(/^t?[+-]?[\d.]+/);
  return found ? parseFloat(found[0].replace("t", "")) : NaN;
}

function words(cell) {
  const first = cell.firstElementChild;
  const small = first && first.tagName === "SMALL";
  return ((small ? cell.firstChild : cell).textContent || "").trim();
}

function value(cell) {
  if (cell.querySelector(".none")) return null; // what is missing comes last either way
  const text = words(cell);
  return cell.classList.contains("n") || cell.querySelector(".chip") ? number(text) : text;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one) < String(other) ? -1 : String(one) > String(other) ? 1 : 0;
}

function sort(table, column, up) {
  const rows = Array.from(table.tBodies[0].rows, (row, place) => ({ row, place, value: value(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
    return (up ? 1 : -1) * compare(a.value, b.value) || a.place - b.place;
  });
  table.tBodies[0].append(...rows.map((entry) => entry.row));
}

function sortable(table) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(table, column, up);
    });
    head.append(button);
  });
}

function labelled(text, control) {
  const label = document.createElement("label");
  control.setAttribute("autocomplete", "off");
  label.append(text, control);
  return label;
}

function choice(table, column) {
  const select = document.createElement("select");
  const found = new Set(Array.from(table.tBodies[0].rows, (row) => words(row.cells[column])));
  select.append(new Option("all", ""));
  found.forEach((text) => { select.append(new Option(text, text)); });
  select.dataset.column = column;
  return select;
}

function filterable(part, table) {
  const heads = Array.from(table.tHead.rows[0].cells, (head) => head.textContent.trim());
  const rows = Array.from(table.tBodies[0].rows, (row) => ({ row, text: null })); // read on first use
  const bar = document.createElement("div");
  const field = document.createElement("input");
  const count = document.createElement("output");
  const selects = part.dataset.filters.split(" ").filter((name) => heads.includes(name))
    .map((name) => [name, choice(table, heads.indexOf(name))]);
  bar.className = "filters";
  field.type = "search";
  bar.append(labelled("Any text", field), ...selects.map(([name, select]) => labelled(name, select)), count);
  part.prepend(bar);
  const update = () => {
    const wanted = field.value.trim().toLowerCase();
    const chosen = selects.map(([, select]) => select).filter((select) => select.value);
    let shown = 0;
    rows.forEach((entry) => {
      if (wanted) entry.text = entry.text || entry.row.textContent.toLowerCase();
      const fits = chosen.every((select) => words(entry.row.cells[select.dataset.column]) === select.value);
      entry.row.hidden = !fits || Boolean(wanted) && !entry.text.includes(wanted);
      shown += !entry.row.hidden;
    });
    count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  };
  bar.addEventListener("input", update);
  update();
}

document.querySelectorAll(".sorted").forEach((part) => {
  const table = part.querySelector("table");
  if (!table || table.querySelector("td[colspan]")) return;
  if (part.dataset.filters) filterable(part, table);
  sortable(table);
});

if (navigator.clipboard) {
  document.querySelectorAll(".command").forEach((part) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(part.querySelector("code").textContent).then(() => { button.textContent = "Copied"; });
    });
    part.append(button);
  });
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  closed.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => { closed.forEach((part) => { part.open = false; }); });
