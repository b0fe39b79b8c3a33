// The page reads without this: it adds exact numbers under the map, arrow keys, a copy button.
"use strict";

const line = document.getElementById("exact");
const hint = "Or tab to the map and move with the arrow keys.";
if (line) line.textContent = hint;

function say(cell) {
  const table = cell.closest("table");
  const row = cell.parentElement;
  const head = table.tHead.rows[0].cells[cell.cellIndex].textContent.trim();
  const name = row.cells[0].textContent.trim();
  const where = /^\d+$/.test(name) ? "layer " + name : name;
  line.textContent = head + ", " + where + ": " + cell.title;
}

function move(cell, key) {
  const rows = Array.from(cell.closest("table").rows);
  const down = { ArrowDown: 1, ArrowUp: -1 }[key] || 0;
  const right = { ArrowRight: 1, ArrowLeft: -1 }[key] || 0;
  const row = rows[rows.indexOf(cell.parentElement) + down];
  const next = row && row.cells[cell.cellIndex + right];
  if (!next || next.tagName !== "TD") return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

document.querySelectorAll("table.map").forEach((table) => {
  const first = table.querySelector("td");
  if (first) first.tabIndex = 0; // one stop for the tab key; arrows do the rest
  table.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("td");
    if (cell) say(cell);
  });
  table.addEventListener("focusin", (event) => {
    if (event.target.tagName === "TD") say(event.target);
  });
  table.addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow") || event.target.tagName !== "TD") return;
    event.preventDefault();
    move(event.target, event.key);
  });
});

document.querySelectorAll("#map input").forEach((input) => {
  input.addEventListener("change", () => { line.textContent = hint; });
});

const command = document.getElementById("command");
if (command && navigator.clipboard) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(command.textContent).then(() => { button.textContent = "Copied"; });
  });
  command.closest(".command").append(button);
}

function unfold() {
  const part = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = part && (part.closest("details") || part.querySelector("details"));
  if (folded && !folded.open) {
    folded.open = true;
    part.scrollIntoView();
  }
}
addEventListener("hashchange", unfold);
unfold();

let closed = [];
addEventListener("beforeprint", () => {
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  closed.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => { closed.forEach((part) => { part.open = false; }); });
