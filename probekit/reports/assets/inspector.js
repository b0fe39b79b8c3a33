// The token inspector: colours by readout, layer and offset; the first choices at one token.

const inspector = { readout: 0, layer: 0, offset: 0, byRank: false, position: 0 };
const part = (name) => document.getElementById("inspector-" + name);
const tokenMarks = passages ? Array.from(document.querySelectorAll(".passage > bdi")) : [];

function chosen() {
  const { readout, layer, offset } = inspector;
  const at = passages.layered[readout] ? passages.layers[layer] : null;
  return { readout, layer: at, offset: passages.offsets[offset] };
}

function named({ readout, layer, offset }) {
  const where = layer === null ? "" : ", layer " + layer + " of " + passages.blocks;
  return passages.titles[readout] + where + ", t+" + offset;
}

function wordOf(target) {
  return percent(Math.exp(-target.nats)) + ", " + rankText(target);
}

function paint() {
  const now = chosen();
  const found = reading(now.readout, now.layer, now.offset);
  let first = 0, all = 0;
  tokenMarks.forEach((mark, n) => {
    const target = atTarget(found, n);
    mark.className = target ? "m" + stepOf(target, inspector.byRank) : "";
    mark.title = "t+" + now.offset + ": " + (target ? wordOf(target) : "no target here");
    all += target ? 1 : 0;
    first += target && target.rank === 1 ? 1 : 0;
  });
  part("state").textContent = named(now) + (found
    ? ": the target comes first at " + first + " of " + all + " positions."
    : ": this readout has no reading here.");
  label(now);
  mark();
}

function label(now) {
  const layered = passages.layered[now.readout];
  const layer = layered ? now.layer + " of " + passages.blocks : "reads no single one";
  part("layer").disabled = !layered;
  part("layer").setAttribute("aria-valuetext", layered ? "layer " + layer : layer);
  part("layer-is").textContent = layer;
  part("offset").setAttribute("aria-valuetext", "t+" + now.offset);
  part("offset-is").textContent = "t+" + now.offset;
  const [low, high] = document.querySelectorAll("#inspector-steps .ends");
  low.textContent = inspector.byRank ? "over 1,000" : "≤ 0.1 %";
  high.textContent = inspector.byRank ? "first" : "100 %";
  document.querySelector("#inspector-steps .of").textContent =
    (inspector.byRank ? "rank" : "probability") + " of the target";
}

// Ring the token at t and, where targets are those of the text, the one at t+k.
function mark() {
  const { offset } = chosen();
  const at = inspector.position;
  const same = passages.passageOf[at + offset] === passages.passageOf[at];
  tokenMarks.forEach((token, n) => {
    token.classList.toggle("at", n === at);
    token.classList.toggle("ahead", passages.text && same && n === at + offset);
    token.setAttribute("aria-pressed", n === at);
  });
  describe();
}

function describe() {
  const now = chosen();
  const word = passages.target(now.offset)[inspector.position];
  const ahead = passages.text ? "the token at t+" + now.offset + " (dashed ring) is "
    : "what the model itself says at t+" + now.offset + " is ";
  const said = element("span", "", "Position t (ring): ", spelled(passages.tokens[inspector.position]),
    word < 0 ? "; this passage holds no target at t+" + now.offset + "." : "; " + ahead);
  if (word >= 0) said.append(spelled(word), ". ");
  said.append(element("span", "meta", placeOf(inspector.position)));
  part("picked").replaceChildren(said);
  part("tops").replaceChildren(...tables(now, word));
}

function placeOf(position) {
  const n = passages.passageOf[position];
  return passages.places[n] + ", token " + (passages.starts[n] + position - passages.firsts[n]);
}

function tables(now, word) {
  const layered = passages.names.map((_, n) => n).filter((n) => passages.layered[n]);
  const whole = passages.names.map((_, n) => n).filter((n) => !passages.layered[n]);
  const found = layered.map((n) => table(passages.titles[n], "Layer", word,
    passages.layers.map((layer) => [String(layer), reading(n, layer, now.offset), n === now.readout && layer === now.layer])));
  const others = whole.map((n) => [passages.titles[n], reading(n, null, now.offset), n === now.readout]);
  if (others.some((row) => row[1])) found.push(table("No single layer", "Readout", word, others));
  return found;
}

function table(caption, head, word, rows) {
  const heads = [head, "Target", ...Array.from({ length: passages.depth }, (_, n) => n + 1 + ".")];
  const top = element("tr", "", ...heads.map((text) => element("th", "", text)));
  top.childNodes.forEach((cell) => { cell.scope = "col"; });
  const body = rows.filter((row) => row[1]).map((row) => choices(row, word));
  const made = element("table", "plain", element("caption", "", caption), element("thead", "", top), element("tbody", "", ...body));
  const scroll = element("div", "scroll", made);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", caption + ": first choices");
  return scroll;
}

function choices([name, found, current], word) {
  const target = atTarget(found, inspector.position);
  const head = element("th", "", name);
  head.scope = "row";
  if (current) head.setAttribute("aria-current", "true");
  const cells = firstChoices(found, inspector.position);
  const row = element("tr", current ? "current" : "", head, targetCell(target));
  if (cells && target) row.append(...cells.map(([choice, probability]) => choiceCell(choice, probability, choice === word)));
  else {
    const none = element("td", "none", target ? "first choices not kept here" : "no target");
    none.colSpan = passages.depth;
    row.append(none);
  }
  return row;
}

function targetCell(target) {
  if (!target) return element("td", "none", "–");
  const shade = element("td", "share m" + stepOf(target, inspector.byRank), percent(Math.exp(-target.nats)));
  shade.title = target.nats.toFixed(2) + " nats, " + rankText(target);
  return shade;
}

function choiceCell(choice, probability, hit) {
  const cell = element("td", hit ? "hit" : "", spelled(choice), " ", element("small", "", percent(probability)));
  if (hit) cell.prepend(element("b", "", "✓"), element("span", "aside", " target "));
  return cell;
}

function choose(wanted) {
  Object.assign(inspector, wanted);
  part("layer").value = inspector.layer;
  part("offset").value = inspector.offset;
  part("readout-" + inspector.readout).checked = true;
  paint();
}

function pick(position) {
  tokenMarks[inspector.position].tabIndex = -1;
  tokenMarks[position].tabIndex = 0;
  inspector.position = position;
  mark();
}

// The token nearest to the same place in the next or the last line.
function inLine(from, down) {
  const middle = (token) => { const box = token.getClientRects()[0]; return [box.left + box.width / 2, box.top + box.height / 2]; };
  const [x, y] = middle(tokenMarks[from]);
  let best = from, least = Infinity;
  tokenMarks.forEach((token, n) => {
    const [left, top] = middle(token);
    if (down * (top - y) < 6) return;
    const far = Math.abs(left - x) + 20 * Math.abs(top - y);
    if (far < least) [best, least] = [n, far];
  });
  return best;
}

function walk(event) {
  const from = tokenMarks.indexOf(event.target);
  const ahead = event.target.parentElement.dir === "rtl" ? -1 : 1;
  const moves = {
    ArrowRight: () => from + ahead, ArrowLeft: () => from - ahead,
    ArrowDown: () => inLine(from, 1), ArrowUp: () => inLine(from, -1),
    Home: () => 0, End: () => tokenMarks.length - 1,
  };
  if (event.key === "Enter" || event.key === " ") pick(from);
  else if (!moves[event.key]) return;
  event.preventDefault();
  const to = moves[event.key] ? moves[event.key]() : from;
  if (!tokenMarks[to]) return;
  event.target.tabIndex = -1;
  tokenMarks[to].tabIndex = 0;
  tokenMarks[to].focus();
}

function startInspector() {
  tokenMarks.forEach((token, n) => {
    token.setAttribute("role", "button");
    token.tabIndex = -1;
    token.addEventListener("click", () => pick(n));
    token.addEventListener("keydown", walk);
  });
  part("controls").hidden = part("panel").hidden = false;
  part("layer").max = passages.layers.length - 1;
  part("offset").max = passages.offsets.length - 1;
  for (const name of ["layer", "offset"]) {
    part(name).addEventListener("input", (event) => choose({ [name]: Number(event.target.value) }));
  }
  passages.names.forEach((_, n) => part("readout-" + n).addEventListener("change", () => choose({ readout: n })));
  for (const name of ["probability", "rank"]) {
    part("shade-" + name).addEventListener("change", () => choose({ byRank: name === "rank" }));
  }
  const [readout, layer, offset] = passages.first;
  choose({ readout, layer: Math.max(0, passages.layers.indexOf(layer)), offset: passages.offsets.indexOf(offset) });
  pick(beginning(reading(readout, layer, offset)));
}

// A position worth looking at: the best read of the first passage, before a word in sight if there is one.
function beginning(found) {
  const offset = passages.first[2], target = passages.target(offset);
  const isWord = (word) => word >= 0 && /\p{L}{3}/u.test([passages.words[word]].flat().join(""));
  const cost = passages.passages[0].tokens.map((_, n, all) =>
    (atTarget(found, n) || { nats: 1000 }).nats + (isWord(target[n]) && n + offset < all.length ? 0 : 100));
  return cost.indexOf(Math.min(...cost));
}

if (passages) startInspector();
