// The page without this script has all findings and facts; it adds long tables, unfolding and the theme.
"use strict";

const element = document.getElementById("data");
const data = element ? JSON.parse(element.textContent) : { tables: {}, graphs: {} };

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

// Theme: auto, light, dark

const THEMES = ["auto", "light", "dark"];
const themeButton = document.getElementById("theme");

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  themeButton.textContent = `Theme: ${theme}`;
  try { localStorage.setItem("refdbg-theme", theme); } catch { /* a file: page may have no storage */ }
}

function theme() { return document.documentElement.dataset.theme || "auto"; }

if (themeButton) {
  let kept = null;
  try { kept = localStorage.getItem("refdbg-theme"); } catch { /* see above */ }
  if (THEMES.includes(kept)) setTheme(kept);
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
}

// Long tables

const HIDDEN_ADDRESS = "\x7f"; // see page_tables.py

class Column {
  constructor(raw) {
    this.name = raw.name;
    this.kind = raw.kind;
    this.distinct = raw.distinct;
    this.cells = raw.indexes || raw.values;
    if (raw.kind === "address") {
      let sum = 0n;
      this.cells = raw.steps === "" ? [] : raw.steps.split(",").map((step) => {
        sum += step[0] === "-" ? -BigInt(`0x${step.slice(1)}`) : BigInt(`0x${step}`);
        return sum;
      });
    }
  }
  value(row) { return this.distinct ? this.distinct[this.cells[row]] : this.cells[row]; }
  text(row) {
    const value = this.value(row);
    if (value === null) return "?";
    if (this.kind === "address") return `0x${value.toString(16)}`;
    return this.kind === "number" ? value.toLocaleString("en") : value;
  }
  order() {
    if (this.kind === "number" || this.kind === "address") {
      return (a, b) => { const x = this.cells[a] ?? -1, y = this.cells[b] ?? -1; return x < y ? -1 : x > y ? 1 : 0; };
    }
    return (a, b) => { const x = this.value(a), y = this.value(b); return x < y ? -1 : x > y ? 1 : 0; };
  }
}

class Grid {
  constructor(place) {
    this.place = place;
    this.columns = data.tables[place.dataset.table].map((raw) => new Column(raw));
    this.address = this.columns.find((column) => column.kind === "address");
    this.size = this.columns[0].cells.length;
    this.all = Array.from({ length: this.size }, (_, row) => row);
    this.rows = this.all;
    this.page = 0;
    this.length = Number(place.dataset.rows);
    this.sorted = null;
    this.words = null;
    this.build();
    this.show();
  }

  cell(column, row) {
    const text = column.text(row);
    return column.kind === "repr" && this.address ? text.replaceAll(HIDDEN_ADDRESS, this.address.text(row)) : text;
  }

  build() {
    const caption = this.place.dataset.caption;
    this.search = make("input", { type: "search", placeholder: "Search", "aria-label": `Search in ${caption}`, autocomplete: "off" });
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.filter(), 60);
    });
    const headers = this.columns.map((column) => {
      const header = make("th", { scope: "col", class: this.isNumber(column) ? "n" : null, "aria-sort": "none" });
      header.append(make("button", { type: "button", title: `Sort by ${column.name}`, onclick: () => this.sort(column, header) }, column.name));
      return header;
    });
    this.headers = headers;
    this.body = make("tbody");
    this.before = make("button", { type: "button", onclick: () => this.turn(-1) }, "Previous");
    this.after = make("button", { type: "button", onclick: () => this.turn(1) }, "Next");
    this.status = make("span", { role: "status" });
    const cut = data.tables[this.place.dataset.table].some((column) => column.shortened);
    this.pages = make("div", { class: "foot" }, this.before, this.after, this.status,
      cut ? "Texts are shortened here; --json has them whole." : "");
    this.place.append(
      make("div", { class: "head" }, make("strong", {}, caption), this.search),
      make("div", { class: "scroll" }, make("table", { "aria-label": caption }, make("thead", {}, make("tr", {}, ...headers)), this.body)),
      this.pages,
    );
  }

  isNumber(column) { return column.kind === "number"; }

  show() {
    const first = this.page * this.length;
    const rows = this.rows.slice(first, first + this.length).map((row) => make("tr", {}, ...this.columns.map((column) => {
      const text = this.cell(column, row);
      if (this.isNumber(column)) return make("td", { class: "n" }, text);
      return make("td", { class: text.length > 40 ? "wide" : null }, column.kind === "text" ? text : make("code", {}, text));
    })));
    this.body.replaceChildren(...rows);
    const last = Math.min(first + this.length, this.rows.length);
    const of = this.rows.length === this.size ? "" : `, of ${this.size.toLocaleString("en")}`;
    this.status.textContent = this.rows.length
      ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${plural(this.rows.length, "row")}${this.rows.length === this.size ? "" : ` found${of}`}`
      : `Nothing found in ${plural(this.size, "row")}`;
    this.before.disabled = first === 0;
    this.after.disabled = last >= this.rows.length;
    this.before.hidden = this.after.hidden = this.rows.length <= this.length;
  }

  turn(by) {
    this.page += by;
    this.show();
  }

  filter() {
    const wanted = this.search.value.trim().toLowerCase();
    if (!this.words) {
      // A text for each row, made when first searched.
      this.words = this.all.map((row) => this.columns.map((column) => this.isNumber(column) ? column.value(row) : this.cell(column, row)).join("\n").toLowerCase());
    }
    this.rows = wanted ? this.all.filter((row) => this.words[row].includes(wanted)) : this.all;
    this.page = 0;
    this.arrange();
  }

  sort(column, header) {
    const numeric = column.kind === "number";
    const was = header.getAttribute("aria-sort");
    const next = was === "none" ? (numeric ? "descending" : "ascending") : was === "ascending" ? "descending" : "ascending";
    for (const each of this.headers) each.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", next);
    this.sorted = { order: column.order(), sign: next === "ascending" ? 1 : -1 };
    this.page = 0;
    this.arrange();
  }

  arrange() {
    if (this.sorted) {
      const { order, sign } = this.sorted;
      this.rows = [...this.rows].sort((a, b) => sign * order(a, b) || a - b);
    }
    this.show();
  }
}

for (const place of document.querySelectorAll("[data-table]")) {
  if (data.tables[place.dataset.table]) new Grid(place);
}

// Drawings

// A scale that keeps what lies in the spans and squeezes the gaps between them to at most `gap`.
function squeezed(spans, gap) {
  const joined = [];
  for (const [low, high] of [...spans].sort((a, b) => a[0] - b[0])) {
    const last = joined[joined.length - 1];
    if (last && low <= last[1]) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  const steps = []; // from, to, where it begins now, by how much it is squeezed
  let at = 0;
  joined.forEach(([low, high], number) => {
    if (number) {
      const before = joined[number - 1][1], width = Math.min(low - before, gap);
      steps.push([before, low, at, width / (low - before)]);
      at += width;
    }
    steps.push([low, high, at, 1]);
    at += high - low;
  });
  return (value) => {
    const [from, , begins, factor] = steps.find((step) => value <= step[1]) || steps[steps.length - 1];
    return begins + (value - from) * (value < from ? 1 : factor);
  };
}

const SVG = "http://www.w3.org/2000/svg";
const FEW = 12; // nodes that are shown without being asked for
const LINKS = { true: "visited", false: "NOT visited by tp_traverse", null: "" };

class Drawing {
  constructor(figure) {
    this.figure = figure;
    this.graph = data.graphs[figure.dataset.graph];
    this.sheet = figure.querySelector(".sheet");
    this.svg = this.sheet.querySelector("svg");
    this.panel = figure.querySelector(".chosen");
    this.nodes = this.graph.nodes.map((_, number) => this.svg.querySelector(`[data-node="${number}"]`));
    this.edges = [...this.svg.querySelectorAll(".edge")];
    this.all = this.graph.nodes.map((_, number) => number);
    this.first = new Set(this.all.filter((number) => this.graph.nodes[number].role !== "behind"));
    for (const [from, to, , , visited] of this.graph.edges) {
      if (visited === false && (this.first.has(from) || this.first.has(to))) this.first.add(from).add(to);
    }
    for (let more = this.first; more.size <= FEW; ) {
      this.first = more;
      more = new Set([...this.first].flatMap((number) => [number, ...this.near(number)]));
      if (more.size === this.first.size) break;
    }
    this.visible = new Set(this.first);
    this.current = null;
    this.prepare();
    this.boxes = this.nodes.map((node) => node.getBBox());
    this.parts = this.edges.map((edge) => [...edge.querySelectorAll("path, polygon, text")].map((part) => ({
      part, box: part.getBBox(), given: part.getAttribute("d"),
    })));
    this.show();
    this.choose(this.all.find((number) => this.graph.nodes[number].role === "subject") ?? 0);
  }

  name(number) {
    const node = this.graph.nodes[number];
    if (node.type !== undefined) return `${node.type} ${node.repr}`;
    return node.label && node.label !== node.kind ? `${node.kind}: ${node.label}` : node.kind;
  }

  near(number) {
    return this.graph.edges.filter(([from, to]) => from === number || to === number)
      .map(([from, to]) => (from === number ? to : from)).filter((other) => other !== number);
  }

  away(number) { return new Set(this.near(number).filter((other) => !this.visible.has(other))); }

  prepare() {
    this.nodes.forEach((node, number) => {
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      const title = document.createElementNS(SVG, "title");
      title.textContent = this.name(number);
      node.prepend(title);
      node.addEventListener("click", () => this.open(number));
      node.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          this.open(number);
        }
      });
      for (const come of ["mouseenter", "focus"]) node.addEventListener(come, () => this.light(number));
      for (const go of ["mouseleave", "blur"]) node.addEventListener(go, () => this.light(null));
    });
    const kinds = new Set(this.edges.map((edge) => edge.classList[1]));
    for (const line of this.figure.querySelectorAll("[data-kind]")) line.hidden = !kinds.has(line.dataset.kind);
    const caption = this.figure.querySelector("figcaption");
    this.said = caption.querySelector(".more");
    if (this.first.size < this.all.length) {
      this.everything = make("button", { type: "button", onclick: () => this.reveal(this.all) }, "Show all");
      this.less = make("button", { type: "button", onclick: () => { this.visible = new Set(this.first); this.show(); } }, "Fold");
      caption.append(this.everything, this.less);
    }
  }

  open(number) {
    this.reveal(this.near(number));
    this.choose(number);
  }

  reveal(numbers) {
    for (const number of numbers) this.visible.add(number);
    this.show();
  }

  light(number) {
    const near = number === null ? null : new Set([number, ...this.near(number)]);
    this.nodes.forEach((node, other) => node.classList.toggle("aside", near !== null && !near.has(other)));
    for (const edge of this.edges) {
      edge.classList.toggle("aside", number !== null && Number(edge.dataset.from) !== number && Number(edge.dataset.to) !== number);
    }
  }

  show() {
    this.nodes.forEach((node, number) => node.classList.toggle("away", !this.visible.has(number)));
    for (const edge of this.edges) {
      edge.classList.toggle("away", !(this.visible.has(Number(edge.dataset.from)) && this.visible.has(Number(edge.dataset.to))));
    }
    this.badges();
    this.fit();
    const left = this.all.length - this.visible.size;
    const more = this.graph.more ? `${plural(this.graph.more, "object")} of the finding not drawn` : "";
    this.said.textContent = [left ? `${left} of ${this.all.length} folded: click a box with a number` : "", more].filter(Boolean).join("; ");
    if (this.everything) {
      this.everything.disabled = left === 0;
      this.less.disabled = this.visible.size === this.first.size;
    }
  }

  badges() {
    this.nodes.forEach((node, number) => {
      node.querySelector(".badge")?.remove();
      const away = this.visible.has(number) ? this.away(number).size : 0;
      node.setAttribute("aria-label", this.name(number) + (away ? `; unfold ${away} more` : ""));
      if (!away) return;
      const box = this.boxes[number];
      const badge = document.createElementNS(SVG, "g");
      badge.setAttribute("class", "badge");
      const back = document.createElementNS(SVG, "rect");
      const text = document.createElementNS(SVG, "text");
      const width = away > 9 ? 24 : 18;
      for (const [name, value] of Object.entries({ x: box.x + box.width - width / 2, y: box.y - 6, width, height: 13, rx: 6.5 })) back.setAttribute(name, value);
      text.setAttribute("x", box.x + box.width);
      text.setAttribute("y", box.y + 3.5);
      text.textContent = `+${away}`;
      badge.append(back, text);
      node.append(badge);
    });
  }

  // Graphviz has placed all of it: what is shown moves together where others are folded away.
  place() {
    const seen = (each) => !each.classList.contains("away");
    const spans = { x: [], y: [] };
    const take = (box, margin) => {
      spans.x.push([box.x - margin, box.x + box.width + margin]);
      spans.y.push([box.y - margin, box.y + box.height + margin]);
    };
    this.nodes.forEach((node, number) => { if (seen(node)) take(this.boxes[number], 10); });
    this.edges.forEach((edge, number) => {
      if (seen(edge)) for (const { part, box } of this.parts[number]) if (part.tagName === "text") take(box, 2);
    });
    const x = squeezed(spans.x, 30), y = squeezed(spans.y, 8);
    const moved = (box) => {
      const [middleX, middleY] = [box.x + box.width / 2, box.y + box.height / 2];
      return `translate(${x(middleX) - middleX} ${y(middleY) - middleY})`;
    };
    this.nodes.forEach((node, number) => node.setAttribute("transform", moved(this.boxes[number])));
    this.edges.forEach((edge, number) => {
      if (!seen(edge)) return;
      for (const { part, box, given } of this.parts[number]) {
        if (part.tagName !== "path") part.setAttribute("transform", moved(box));
        else part.setAttribute("d", given.replace(/(-?[\d.]+),(-?[\d.]+)/g, (_, a, b) => `${x(Number(a)).toFixed(1)},${y(Number(b)).toFixed(1)}`));
      }
    });
    return { left: x(Math.min(...spans.x.map((span) => span[0]))), right: x(Math.max(...spans.x.map((span) => span[1]))),
      top: y(Math.min(...spans.y.map((span) => span[0]))), bottom: y(Math.max(...spans.y.map((span) => span[1]))) };
  }

  // Only as large as what is shown; never too small to read: then it scrolls.
  fit() {
    if (!this.sheet.clientWidth) return; // folded away: fitted when it is opened
    const { left, right, top, bottom } = this.place();
    const width = right - left + 10, height = bottom - top + 10;
    const scale = Math.min(Math.max((this.sheet.clientWidth - 24) / width, 0.8), 1.25);
    const shift = this.svg.querySelector("g").transform.baseVal.consolidate().matrix;
    this.svg.setAttribute("viewBox", `${left + shift.e - 5} ${top + shift.f - 5} ${width} ${height}`);
    this.svg.setAttribute("width", width * scale);
    this.svg.setAttribute("height", height * scale);
  }

  choose(number) {
    this.nodes.forEach((node, other) => node.classList.toggle("current", other === number));
    const node = this.graph.nodes[number];
    const facts = node.type === undefined
      ? [make("h4", {}, node.label || node.kind), node.kind]
      : [make("h4", {}, node.type), make("code", {}, node.repr), make("div", { class: "minor" }, `${node.address}, ${plural(node.references, "reference")}`)];
    const list = (title, edges, other) => edges.length === 0 ? [] : [
      make("h5", {}, `${title} (${edges.length})`),
      make("ul", {}, ...edges.map((edge) => {
        const [, , label, owned, visited] = edge;
        const remark = owned ? LINKS[visited] : "visited, but not owned";
        const row = make("button", { type: "button", onclick: () => { this.reveal([other(edge)]); this.go(other(edge)); } });
        if (label) row.append(make("code", {}, label), " ");
        row.append(this.name(other(edge)));
        if (visited === false || !owned) row.append(" ", make("span", { class: "unvisited" }, remark));
        return make("li", {}, row);
      })),
    ];
    const edges = this.graph.edges;
    this.panel.replaceChildren(
      ...facts,
      ...list("Held by", edges.filter((edge) => edge[1] === number), (edge) => edge[0]),
      ...list("Refers to", edges.filter((edge) => edge[0] === number), (edge) => edge[1]),
    );
    this.current = number;
  }

  go(number) {
    this.choose(number);
    this.nodes[number].focus({ preventScroll: true });
    this.nodes[number].scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

const drawings = new Map();

function draw(figure) {
  const known = drawings.get(figure);
  if (known) known.fit();
  else if (figure.offsetParent) drawings.set(figure, new Drawing(figure));
}

for (const figure of document.querySelectorAll("[data-graph]")) {
  draw(figure);
  figure.closest("details").addEventListener("toggle", () => draw(figure));
}
addEventListener("resize", () => { for (const drawing of drawings.values()) drawing.fit(); });

// Findings: search, open, close

const find = document.getElementById("find");
const suspects = [...document.querySelectorAll(".suspect")];
if (find) {
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    for (const suspect of suspects) {
      const hit = suspect.textContent.toLowerCase().includes(wanted);
      suspect.classList.toggle("away", !hit);
      shown += hit;
    }
    document.getElementById("found").textContent = wanted ? `${shown} of ${plural(suspects.length, "finding")}` : "";
  });
  document.getElementById("open-all").addEventListener("click", () => suspects.forEach((each) => { each.open = true; }));
  document.getElementById("close-all").addEventListener("click", () => suspects.forEach((each) => { each.open = false; }));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      find.focus();
    }
  });
}
addEventListener("hashchange", () => { const target = document.getElementById(location.hash.slice(1)); if (target?.matches("details")) target.open = true; });

// Copy

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch { // not allowed here: select it
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// Balance tree

const calls = [...document.querySelectorAll("#calls li")];
for (const [number, row] of calls.entries()) {
  row.querySelector(".fold")?.addEventListener("click", (event) => {
    const open = event.target.getAttribute("aria-expanded") !== "true";
    event.target.setAttribute("aria-expanded", open);
    const depth = Number(row.dataset.depth);
    let folded = null; // inside of a fold that stays closed
    for (const each of calls.slice(number + 1)) {
      const own = Number(each.dataset.depth);
      if (own <= depth) break;
      if (folded !== null && own > folded) continue;
      folded = null;
      each.classList.toggle("away", !open);
      if (open && each.querySelector(".fold")?.getAttribute("aria-expanded") === "false") folded = own;
    }
  });
}
