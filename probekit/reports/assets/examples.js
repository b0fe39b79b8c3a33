// A cell of the map: where its readout reads the passages best, and where it is most surprised.

const mostExamples = 5;
const examples = document.getElementById("examples");

function cellOf(td) {
  const view = td.closest(".map-view").dataset;
  const table = td.closest("table");
  const name = td.parentElement.cells[0].textContent.trim();
  const single = /^\d+$/.test(name); // floors and readouts of no single layer are named instead
  const offset = Number(table.tHead.rows[0].cells[td.cellIndex].textContent.trim().slice(2));
  const readout = single ? passages.maps[view.readout] : name === "model" ? "ceiling" : name;
  return { readout, name: single ? readout : name, layer: single ? Number(name) : null, offset, domain: Number(view.domain) };
}

// The readout of the inspector that is nearest to a cell, or undefined.
function nearest({ readout, layer, offset }) {
  const n = passages.names.indexOf(readout);
  const near = layer === null ? null : passages.layers.reduce((best, other) =>
    Math.abs(other - layer) < Math.abs(best - layer) ? other : best, passages.layers[0]);
  return reading(n, near, offset) && { readout: n, layer: near, offset };
}

function positionsOf(found, cell) {
  const all = passages.all && cell.domain === 0;
  return passages.tokens
    .map((_, n) => ({ position: n, target: atTarget(found, n) }))
    .filter(({ position, target }) => target && (all || passages.domains[passages.passageOf[position]] === cell.domain))
    .sort((one, other) => one.target.nats - other.target.nats);
}

function example({ position, target }, at) {
  const words = passages.target(at.offset);
  const from = Math.max(passages.firsts[passages.passageOf[position]], position - 8);
  const context = element("span", "context");
  for (let n = from; n <= position; n++) {
    const token = running(passages.tokens[n]);
    token.className = n === position ? "at" : "";
    context.append(token);
  }
  const top = (firstChoices(reading(at.readout, at.layer, at.offset), position) || [])[0];
  const made = element("li", "", context, element("span", "gap", at.offset > 1 ? " … " : " "),
    element("span", "wanted", spelled(words[position])), " ",
    element("span", "meta", "target " + wordOf(target) + ", " + target.nats.toFixed(2) + " nats"));
  if (top) made.append(element("span", "meta own", "; first choice ", spelled(top[0]), " " + percent(top[1])));
  made.append(" ", link(placeOf(position), at, position));
  return made;
}

function link(text, at, position) {
  const made = element("a", "", text);
  made.href = "#inspector";
  made.addEventListener("click", () => {
    const layer = at.layer === null ? inspector.layer : passages.layers.indexOf(at.layer);
    choose({ readout: at.readout, layer, offset: passages.offsets.indexOf(at.offset) });
    if (position !== undefined) pick(position);
  });
  return made;
}

function list(title, found, at) {
  const body = element("ol", "", ...found.map((one) => example(one, at)));
  return element("div", "", element("h3", "", title), body);
}

function showExamples(td) {
  const cell = cellOf(td);
  const at = nearest(cell);
  document.querySelectorAll("#map td.open").forEach((other) => other.classList.remove("open"));
  td.classList.add("open");
  examples.hidden = false;
  if (!at) {
    const where = cell.layer === null ? "" : ", layer " + cell.layer;
    examples.replaceChildren(element("p", "fine", "The passages hold no reading of " + cell.name + where + " at t+" + cell.offset + "."));
    return;
  }
  const found = positionsOf(reading(at.readout, at.layer, at.offset), cell);
  const half = Math.min(mostExamples, Math.ceil(found.length / 2));
  const near = at.layer === cell.layer ? ""
    : " The passages hold " + passages.layers.length + " layers; layer " + at.layer + " is the nearest to " + cell.layer + ".";
  examples.replaceChildren(
    element("p", "", element("strong", "", named(at)), ": examples from the passages." + near + " ",
      link("Colour the passages by it", at)),
    ...(found.length
      ? [list("Read best", found.slice(0, half), at), list("Most surprised", found.slice(half).slice(-mostExamples).reverse(), at)]
      : [element("p", "fine", "No passage is of this domain.")]),
  );
}

if (passages && examples) {
  document.getElementById("map").classList.add("opens");
  line.textContent = hint + " Enter or a click shows a cell's examples.";
  document.querySelectorAll("table.map").forEach((table) => {
    table.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) showExamples(cell);
    });
    table.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.tagName === "TD") showExamples(event.target);
    });
  });
  document.querySelectorAll("#map input").forEach((input) => {
    input.addEventListener("change", () => { examples.hidden = true; });
  });
}
