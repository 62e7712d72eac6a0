// Sorting, filtering and searching of the leaderboard, and the tables of the predictor. Data comes as scripts (rows-N.js,
// predict/DEVICE.js), so that a site opened from a disk works as one from a host. Texts are only ever set as text.
"use strict";

const MISSING = "-", SHOWN = 100;

// As harness/rigbench/units.py prints them; a test compares every cell.
function digits(value, n) {
  if (value === 0) return "0";
  const text = value.toPrecision(n);
  if (Math.abs(value) >= 1) return String(Number(text));
  return String(Number(text));
}
function seconds(value) {
  if (Math.abs(value) < 1e-3) return digits(value * 1e6, 3) + " us";
  if (Math.abs(value) < 1) return digits(value * 1e3, 3) + " ms";
  if (Math.abs(value) < 60) return digits(value, 3) + " s";
  const all = Math.round(value), minutes = Math.floor(all / 60), hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min ${all % 60} s`;
}
function numberText(value, unit) {
  if (value === null || value === undefined) return MISSING;
  if (unit === "tokens/s") return digits(value, Math.abs(value) >= 1000 ? 4 : 3);
  if (unit === "s") return seconds(value);
  if (unit === "J") return digits(value, 3) + " J";
  return unit === "ratio" ? value.toFixed(2) : String(value);
}

function load(source) {
  const script = document.createElement("script");
  script.src = source;
  script.onerror = () => { document.getElementById("status").textContent = `${source} cannot be loaded.`; };
  document.head.append(script);
}

function cell(text, number, path) {
  const td = document.createElement("td"), bdi = document.createElement("bdi");
  if (number) td.className = "number";
  bdi.textContent = text;
  if (path) {
    const link = document.createElement("a");
    link.href = path;
    link.append(bdi);
    td.append(link);
  } else td.append(bdi);
  return td;
}

const board = { rows: [], columns: [], chunks: 0, sort: null, down: false, shown: SHOWN };

// A chunk: {columns, filters, words: {name: [text]}, rows: [[value or index into words, ...]]}.
window.rigbenchRows = (chunk) => {
  board.columns = chunk.columns;
  for (const values of chunk.rows) {
    const row = {};
    chunk.names.forEach((name, i) => { row[name] = name in chunk.words ? chunk.words[name][values[i]] : values[i]; });
    row.text = chunk.searched.map((name) => row[name]).join(" ").toLowerCase();
    board.rows.push(row);
  }
  board.chunks += 1;
  const form = document.getElementById("filters"), all = Number(form.dataset.chunks);
  if (board.chunks < all) load(`rows-${board.chunks}.js`);
  if (board.chunks === 1) start(form);
  options(form);
  show();
};

function options(form) {
  for (const select of form.querySelectorAll("select")) {
    const wanted = select.dataset.wanted ?? select.value;
    const values = [...new Set(board.rows.map((row) => String(row[select.name])))];
    const numeric = select.name === "users";
    values.sort((a, b) => (numeric ? a - b : a < b ? -1 : 1));
    select.replaceChildren(select.options[0], ...values.map((value) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = value;
      return option;
    }));
    select.value = values.includes(wanted) ? wanted : "";
    if (select.value) delete select.dataset.wanted;
  }
}

function start(form) {
  form.hidden = false;
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const field of form.elements) {
    if (!field.name || !asked.has(field.name)) continue;
    if (field.type === "search") field.value = asked.get(field.name);
    else field.dataset.wanted = asked.get(field.name);
  }
  if (asked.has("sort")) { board.sort = asked.get("sort"); board.down = asked.has("down"); }
  for (const th of document.querySelectorAll("#rows th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    button.addEventListener("click", () => {
      const column = board.columns.find((each) => each.name === th.dataset.name);
      board.down = board.sort === column.name ? !board.down : column.number && column.better !== "lower";
      board.sort = column.name;
      changed();
    });
    th.replaceChildren(button);
  }
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { board.sort = null; changed(); }));
  document.getElementById("more").addEventListener("click", () => { board.shown += SHOWN; show(); });
}

function changed() {
  board.shown = SHOWN;
  const kept = new URLSearchParams();
  for (const field of document.getElementById("filters").elements) {
    if (field.name && field.value) kept.set(field.name, field.value);
  }
  if (board.sort) kept.set("sort", board.sort);
  if (board.sort && board.down) kept.set("down", "1");
  history.replaceState(null, "", `#${kept}`);
  show();
}

function chosen() {
  const form = document.getElementById("filters");
  const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const filters = [...form.querySelectorAll("select")].filter((each) => each.value).map((each) => [each.name, each.value]);
  const rows = board.rows.filter((row) =>
    filters.every(([name, value]) => String(row[name]) === value) && words.every((word) => row.text.includes(word)));
  if (!board.sort) return rows;
  const name = board.sort, sign = board.down ? -1 : 1;
  return rows.sort((one, other) => {
    const a = one[name], b = other[name];
    if (a === b) return 0;
    if (a === null || a === "") return 1;  // what is unknown stays at the end, whichever way
    if (b === null || b === "") return -1;
    return a < b ? -sign : sign;
  });
}

function show() {
  const rows = chosen(), shown = rows.slice(0, board.shown);
  document.querySelector("#rows tbody").replaceChildren(...shown.map((row) => {
    const tr = document.createElement("tr");
    for (const each of board.columns) {
      const value = row[each.name];
      const text = each.unit ? numberText(value, each.unit) : String(value ?? MISSING);
      tr.append(cell(text, each.number, each.link && row[each.link]));
    }
    return tr;
  }));
  for (const th of document.querySelectorAll("#rows th")) {
    if (th.dataset.name === board.sort) th.setAttribute("aria-sort", board.down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
  document.getElementById("more").hidden = shown.length === rows.length;
  document.getElementById("status").textContent =
    `${rows.length} of ${board.rows.length} rows${shown.length < rows.length ? `, the first ${shown.length} are shown` : ""}.`;
}

// {device, rows: [[model, quant, users, fit, user t/s, low, high, all t/s, ceiling, reason]]}
let predictions = null;
window.rigbenchPredict = (data) => { predictions = data; showPredictions(); };

function showPredictions() {
  const form = document.getElementById("predict"), { quant, users, model, device } = form.elements;
  if (!predictions || predictions.id !== device.value) return;
  const wanted = model.value.toLowerCase();
  const rows = predictions.rows.filter((row) =>
    row[1] === quant.value && row[2] === Number(users.value) && row[0].toLowerCase().includes(wanted));
  rows.sort((a, b) => (b[4] ?? -1) - (a[4] ?? -1));
  const rate = (value) => numberText(value, "tokens/s");
  document.querySelector("#predictions tbody").replaceChildren(...rows.map((row) => {
    const tr = document.createElement("tr"), range = row[5] === null ? MISSING : `${rate(row[5])} to ${rate(row[6])}`;
    tr.append(cell(row[0]), cell(row[3]), cell(rate(row[4]), true), cell(range, true), cell(rate(row[7]), true),
      cell(rate(row[8]), true));
    return tr;
  }));
  document.getElementById("predictions").hidden = false;
  document.getElementById("status").textContent = `${predictions.name}, ${predictions.about}: ${rows.length} models.`;
}

const board0 = document.getElementById("filters"), predict0 = document.getElementById("predict");
if (board0 && Number(board0.dataset.chunks)) load("rows-0.js");
if (predict0) {
  predict0.addEventListener("submit", (event) => event.preventDefault());
  predict0.addEventListener("input", (event) => {
    if (event.target.name === "device" && event.target.value) load(`predict/${event.target.value}.js`);
    else showPredictions();
  });
  if (predict0.elements.device.value) load(`predict/${predict0.elements.device.value}.js`);
}
if (location.protocol === "http:" && ["127.0.0.1", "localhost"].includes(location.hostname)) load("/live.js");  // rigbench serve
