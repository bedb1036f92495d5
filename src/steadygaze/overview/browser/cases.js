// The table of cases: sorted by its headers, filtered, a page at a time, so that ten thousand rows stay quick.

import { copied } from "../../report/browser/clipboard.js";
import { count, number } from "../../report/browser/words.js";

const NONE = "no answer";
const KINDS = { "class-changed": "another class", "attention-changed": "another reason" };
const SIGNS = { robust: "✓", violated: "✗", unknown: "?" };
// What stands above a column, what it sorts by, and how it is written; `few`: only where it has several values;
// `ofMaps`: only where some case asks about attention.
const COLUMNS = [
  { name: "image", title: "image" },
  { name: "model", title: "model", few: true },
  { name: "perturbation", title: "perturbations", few: true },
  { name: "saliency", title: "map", few: true },
  { name: "threshold", title: "δ", few: true, number: true },
  { name: "verdict", title: "verdict" },
  { name: "label", title: "class", number: true },
  { name: "class_holds", title: "class to s", number: true },
  { name: "attention_holds", title: "attention to s", number: true, ofMaps: true },
  { name: "fails", title: "fails from s", number: true },
  { name: "failure_kind", title: "first failure" },
  { name: "seconds", title: "seconds", number: true },
  { name: "status", title: "ended", few: true },
];
const CHOICES = ["verdict", "model", "perturbation", "saliency", "threshold", "failure_kind", "status"];
const TITLES = { failure_kind: "failure", status: "ended", perturbation: "perturbations", saliency: "map", threshold: "δ" };

export class CaseTable {
  constructor(root, { n, names, columns }) {
    this.root = root;
    this.n = n;
    this.columns = columns;
    this.names = names;
    this.kept = Array.from({ length: n }, (_, row) => row);
    this.sorted = { name: null, down: false };
    this.page = 0;
    this.texts = this.kept.map((row) => this.searched(row));
    const alone = columns.threshold.every((threshold) => threshold === null);
    this.shown = COLUMNS.filter(({ name, few, ofMaps }) => (!few || new Set(columns[name]).size > 1) && !(ofMaps && alone));
    this.makeHead();
    this.makeChoices();
    this.connect();
    root.hidden = false;
    this.refresh();
  }

  value(name, row) {
    const held = this.columns[name][row];
    return held !== null && this.names[name] ? this.names[name][held] : held;
  }

  searched(row) {
    const parts = ["image", "model", "perturbation", "verdict", "status", "sentence"].map((name) => this.value(name, row));
    return parts.filter((part) => part !== null).join("\u0000").toLowerCase();
  }

  command(row) {
    const reference = this.columns.reference[row];
    const plain = /^[\w@%+=:,./-]+$/.test(reference) ? reference : `'${reference.replaceAll("'", `'"'"'`)}'`;
    return this.value("command", row).split("\u0000").join(plain);
  }

  makeHead() {
    const head = this.root.querySelector("thead tr");
    for (const { name, title, number: numeric } of this.shown) {
      const cell = element("th", { scope: "col", className: numeric ? "number" : "" });
      const button = element("button", { type: "button", textContent: title });
      button.dataset.column = name;
      button.addEventListener("click", () => this.sort(name));
      cell.append(button);
      head.append(cell);
    }
    head.append(element("th", { scope: "col", textContent: "look closer" }));
  }

  makeChoices() {
    const place = this.root.querySelector("[data-part=choices]");
    for (const name of CHOICES) {
      const values = [...new Set(this.kept.map((row) => this.value(name, row) ?? ""))];
      if (values.length < 2) continue;
      const select = element("select", { name });
      select.append(element("option", { value: "all", textContent: "all" }));
      values.sort(compared).forEach((value) => {
        const words = value === "" ? missing(name) : (KINDS[value] ?? String(value));
        select.append(element("option", { value: `=${value}`, textContent: words }));
      });
      const label = element("label", { textContent: `${TITLES[name] ?? name} ` });
      label.append(select);
      place.append(label, " ");
    }
  }

  connect() {
    const form = this.root.querySelector("form");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => this.filter());
    form.addEventListener("reset", () => setTimeout(() => this.filter())); // once it is
    const turn = (name, to) => this.root.querySelector(`button[name=${name}]`).addEventListener("click", () => this.turn(to()));
    turn("first", () => 0);
    turn("previous", () => this.page - 1);
    turn("next", () => this.page + 1);
    turn("last", () => this.pages - 1);
    this.root.querySelector("select[name=rows]").addEventListener("change", () => this.turn(0));
    this.root.querySelector("tbody").addEventListener("click", (event) => {
      const button = event.target.closest("button[data-row]");
      if (button) this.tell(button);
    });
  }

  get size() {
    return Number(this.root.querySelector("select[name=rows]").value);
  }

  get pages() {
    return Math.max(1, Math.ceil(this.kept.length / this.size));
  }

  turn(page) {
    this.page = Math.min(this.pages - 1, Math.max(0, page));
    this.refresh();
  }

  filter() {
    const form = this.root.querySelector("form");
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = CHOICES.filter((name) => form.elements[name] && form.elements[name].value !== "all").map((name) => [
      name,
      form.elements[name].value.slice(1),
    ]);
    this.kept = [];
    for (let row = 0; row < this.n; row++) {
      if (!words.every((word) => this.texts[row].includes(word))) continue;
      if (wanted.every(([name, value]) => String(this.value(name, row) ?? "") === value)) this.kept.push(row);
    }
    this.arrange();
    this.page = 0;
    this.refresh();
  }

  sort(name) {
    this.sorted = { name, down: this.sorted.name === name && !this.sorted.down };
    this.arrange();
    this.page = 0;
    this.refresh();
  }

  // What is not known comes last, whichever way one sorts; ties stay in the plan's order.
  arrange() {
    const { name, down } = this.sorted;
    const values = name && this.columns[name].map((_, row) => this.value(name, row));
    this.kept.sort((a, b) => {
      if (!name) return a - b;
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return (down ? -1 : 1) * compared(values[a], values[b]) || a - b;
    });
  }

  refresh() {
    for (const button of this.root.querySelectorAll("thead button")) {
      const own = button.dataset.column === this.sorted.name;
      button.closest("th").setAttribute("aria-sort", own ? (this.sorted.down ? "descending" : "ascending") : "none");
    }
    const from = this.page * this.size;
    const rows = this.kept.slice(from, from + this.size);
    this.root.querySelector("tbody").replaceChildren(...rows.map((row) => this.row(row)));
    const part = (name) => this.root.querySelector(`[data-part=${name}]`);
    part("count").textContent = `${count(this.kept.length)} of ${count(this.n)} cases`;
    part("page").textContent = `page ${this.page + 1} of ${this.pages}`;
    for (const name of ["first", "previous"]) this.root.querySelector(`button[name=${name}]`).disabled = this.page === 0;
    for (const name of ["next", "last"]) {
      this.root.querySelector(`button[name=${name}]`).disabled = this.page === this.pages - 1;
    }
  }

  row(row) {
    const line = element("tr", {});
    for (const { name, number: numeric } of this.shown) {
      const cell = element(name === "image" ? "th" : "td", { className: numeric ? "number" : "" });
      if (name === "image") cell.scope = "row";
      cell.append(this.words(name, row));
      line.append(cell);
    }
    const last = element("td", { className: "closer" });
    if (this.columns.link[row]) {
      last.append(element("a", { href: this.columns.link[row], textContent: "report" }), " ");
    }
    const button = element("button", { type: "button", textContent: "command" });
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `the command that asks ${this.value("image", row)} again`);
    button.dataset.row = String(row);
    last.append(button);
    line.append(last);
    return line;
  }

  words(name, row) {
    const value = this.value(name, row);
    if (name === "verdict") {
      const word = element("span", { className: `word ${value ?? "none"}`, textContent: value ? `${SIGNS[value]} ${value}` : NONE });
      const why = this.columns.sentence[row];
      if (why) word.title = why;
      return word;
    }
    if (name === "label") {
      const predicted = this.columns.predicted[row];
      if (value === null) return predicted === null ? "–" : `→ ${predicted}`;
      return predicted === null || predicted === value ? String(value) : `${value} → ${predicted}`;
    }
    if (value === null) return name === "status" ? missing(name) : "–";
    if (name === "failure_kind") return KINDS[value] ?? value;
    return typeof value === "number" ? number(value, 3) : value;
  }

  // The command in a line of its own beneath the row, and on the clipboard where that is allowed.
  async tell(button) {
    const line = button.closest("tr");
    if (button.getAttribute("aria-expanded") === "true") {
      line.nextElementSibling.remove();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const row = Number(button.dataset.row);
    const cell = element("td", { colSpan: this.shown.length + 1 });
    const code = element("code", { textContent: this.command(row) });
    const said = element("span", { className: "small" });
    said.setAttribute("role", "status");
    cell.append(code, said);
    const why = this.columns.sentence[row];
    if (why) cell.prepend(element("p", { textContent: why }));
    const below = element("tr", { className: "told" });
    below.append(cell);
    line.after(below);
    button.setAttribute("aria-expanded", "true");
    said.textContent = (await copied(code.textContent)) ? " copied; run it where the campaign was run" : " run it where the campaign was run";
  }
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

function compared(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : COLLATOR.compare(String(a), String(b));
}

function missing(name) {
  return { verdict: NONE, failure_kind: "none known", status: "not finished" }[name] ?? "not told";
}

function element(tag, settings) {
  return Object.assign(document.createElement(tag), settings);
}
