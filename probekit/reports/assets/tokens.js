// Passages as the page holds them, unpacked when they are asked for, and tokens as they are shown.

const held = document.getElementById("passages");
const passages = held ? unpack(JSON.parse(held.textContent)) : null;

function unpack(data) {
  data.tokens = data.passages.flatMap((passage) => passage.tokens);
  data.target = (offset) => data.passages.flatMap((passage) => passage.targets[offset]);
  data.passageOf = data.passages.flatMap((passage, n) => passage.tokens.map(() => n));
  data.firsts = data.passages.map((_, n) => data.passageOf.indexOf(n));
  let slot = 0; // of a position among those whose first choices are kept
  data.slots = data.tokens.map((_, n) => (n - data.firsts[data.passageOf[n]] < data.kept ? slot++ : -1));
  data.rows = new Map(data.readings.map((row) => [row.slice(0, 3).join(), row]));
  data.read = new Map();
  return data;
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// What a readout says at a layer (null: of none) and an offset, or undefined.
function reading(name, layer, offset) {
  const key = [name, layer, offset].join();
  if (!passages.read.has(key) && passages.rows.has(key)) {
    const [targets, tops, probs] = passages.rows.get(key).slice(3).map(bytesOf);
    passages.read.set(key, { targets: new DataView(targets.buffer), tops, probs });
  }
  return passages.read.get(key);
}

// Cross-entropy in nats and rank of the target at a position; null where there is no target.
function atTarget(found, position) {
  const code = found && found.targets.getUint16(2 * position, true);
  if (code === undefined || code === 65535) return null;
  const rank = found.targets.getUint8(2 * passages.tokens.length + position);
  const about = rank > 127; // codes above are steps of 7 %
  const place = about ? 128 * 2 ** ((rank - 127) / 10.5) : rank + 1;
  return { nats: code / 1000, rank: about ? Number(place.toPrecision(2)) : place, about };
}

// The first choices at a position as [word, probability]; null where they are not kept.
function firstChoices(found, position) {
  const slot = passages.slots[position];
  if (!found || slot < 0) return null;
  return Array.from({ length: passages.depth }, (_, n) => {
    const at = slot * passages.depth + n;
    return [bits(found.tops, at * passages.width, passages.width), (found.probs[at] / 255) ** 2];
  });
}

function bits(bytes, from, count) {
  let value = 0;
  for (let n = from; n < from + count; n++) value = 2 * value + ((bytes[n >> 3] >> (7 - (n & 7))) & 1);
  return value;
}

function percent(probability) {
  const value = 100 * probability;
  return value < 0.05 ? "< 0.1 %" : value.toFixed(value >= 9.95 ? 0 : 1) + " %";
}

function rankText(target) {
  return "rank " + (target.about ? "about " : "") + target.rank.toLocaleString("en");
}

// Twelve steps: four a factor of ten in probability, or these borders of the rank.
const rankBorders = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000];

function stepOf(target, byRank) {
  if (byRank) return 11 - rankBorders.filter((border) => target.rank > border).length;
  return Math.min(11, Math.max(0, Math.floor((3 - target.nats / Math.LN10) * 4)));
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// A token in a table or a sentence: spaces are marked, lines do not end.
function spelled(word) {
  const parts = [passages.words[word]].flat();
  const made = element("bdi", "token");
  parts.forEach((part, n) => {
    if (n % 2) return made.append(element("i", "", part));
    part.split(" ").forEach((text, m) => {
      if (m) made.append(element("i", "", "␣"));
      made.append(text);
    });
  });
  return made;
}

// A token in running text.
function running(word) {
  const parts = [passages.words[word]].flat();
  const nodes = parts.map((part, n) => (n % 2 ? element("i", "", part) : part));
  return element("bdi", "", ...nodes);
}
