"use strict";
(() => {
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const number = (cell) => { const found = parseFloat(cell.textContent.trim().replace("<", "")); return Number.isNaN(found) ? null : found; };

// Sorting: headers become buttons; numbers by value with dashes last, words by their order.
const order = (table, place, rising) => {
  const body = table.tBodies[0];
  const words = Array.from(body.rows).some((row) => row.cells[place].matches("th, .t"));
  const key = (row) => words ? row.cells[place].textContent.trim() : number(row.cells[place]);
  const sign = rising ? 1 : -1;
  const rows = Array.from(body.rows).map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (words ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  });
  body.append(...rows.map(([, row]) => row));
};
for (const table of all("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, place) => {
    if ("plain" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const low = place === 0 || "low" in head.dataset || head.classList.contains("t");
      const rising = before === "none" ? low : before === "descending";
      heads.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      order(table, place, rising);
    });
  });
}

// What stands once in the page: why a number is marked, and what a model is called.
const marks = { "†": "pre-trained on this task's collection", "*": "not the number asked for, see its cell", "≈": "the training images in another order give another number", "§": "images or patients may be among the training images" };
for (const mark of all("abbr")) if (marks[mark.textContent]) mark.title = marks[mark.textContent];
const called = new Map(all("[data-model]").map((part) => [part, `${part.dataset.model} ${(part.querySelector("th, title, summary") || part).textContent}`.toLowerCase()]));

// Filters: a setting shows its own sections, a name its own rows, curves and cells; the count is told aloud.
const update = (chapter) => {
  const form = chapter.querySelector(".tools");
  const setting = form.elements.setting.value;
  const wanted = form.elements.model.value.trim().toLowerCase();
  const unmarked = form.elements.unmarked.checked;
  for (const part of all("[data-setting]", chapter)) part.classList.toggle("off", setting !== "" && part.dataset.setting !== setting);
  for (const part of all("[data-model]", chapter)) {
    const off = !called.get(part).includes(wanted) || (unmarked && "marked" in part.dataset);
    part.classList.toggle("off", off);
  }
  const rows = all(".board tbody:not(.controls) tr", chapter).filter((row) => !row.closest(".off:not(tr)"));
  const models = (list) => new Set(list.map((row) => row.dataset.model)).size;
  form.querySelector("[role=status]").textContent = `${models(rows.filter((row) => !row.classList.contains("off")))} of ${models(rows)} models shown`;
};
for (const chapter of all("[data-chapter]")) {
  const form = chapter.querySelector(".tools");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => update(chapter));
  update(chapter);
}

// Folding: narrow screens begin with the leaderboard alone, paper has everything.
const folds = all("details.fold");
if (matchMedia("(max-width: 40rem)").matches) for (const part of folds) part.open = "first" in part.dataset;
addEventListener("beforeprint", () => folds.forEach((part) => { part.open = true; }));

// A link into something closed or filtered away shows it.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  const chapter = target.closest("[data-chapter]");
  if (chapter && target.closest(".off")) { chapter.querySelector(".tools").reset(); update(chapter); }
  for (let part = target.closest("details") || target.querySelector(":scope > .fold"); part; part = part.parentElement.closest("details")) part.open = true;
  if (target.classList.contains("inside")) {
    target.parentElement.querySelector("summary").focus({ preventScroll: true });
    target.parentElement.scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest && event.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) reveal();
});
reveal();

// Confusion: the counts of a row become a field each when their cell is opened, shaded by fifths of the row.
const fields = (last) => {
  const counts = last.textContent.trim().split(" ");
  const total = counts.reduce((sum, count) => sum + Number(count), 0);
  last.replaceWith(...counts.map((count) => {
    const field = document.createElement(last.tagName);
    field.textContent = count;
    if (last.scope) field.scope = last.scope;
    else if (count / total >= 0.1) field.className = `q${Math.min(5, 1 + Math.floor(5 * count / total))}`;
    return field;
  }));
};
document.addEventListener("toggle", (event) => {
  const table = event.target.matches(".cell[open]") && event.target.querySelector("table.confusion:not([data-split])");
  if (!table) return;
  table.dataset.split = "";
  for (const row of Array.from(table.rows)) fields(row.lastElementChild);
}, true);

// CSV: a table as it stands, what is small in a field in a column of its own; a spreadsheet takes no word for a formula.
const plain = (text) => text.replace(/\s+/g, " ").trim();
const parted = (cell) => {
  const copy = cell.cloneNode(true);
  const aside = all("small, abbr, code", copy).filter((part) => !part.parentElement.closest("small")).map((part) => { part.remove(); return plain(part.textContent); });
  const text = plain(copy.textContent);
  return [text === "–" ? "" : text, aside.filter(Boolean).join("; ")];
};
const quoted = (text) => {
  const safe = /^[=+@-]/.test(text) && !/^[+-]?[\d.]+$/.test(text) ? `'${text}` : text;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const csv = (table) => {
  const heads = Array.from(table.tHead.rows[0].cells);
  const bodies = [...table.tBodies, ...(table.tFoot ? [table.tFoot] : [])];
  const group = (body) => { const head = body.querySelector("th[scope=rowgroup]"); return head ? parted(head.firstElementChild)[0] : ""; };
  const rows = bodies.flatMap((body) => Array.from(body.rows, (row) => [group(body), Array.from(row.cells, parted)]));
  const lines = rows.filter(([, cells]) => cells.length === heads.length);
  const kept = heads.map((head, place) => [head, place]).filter(([head]) => !("plain" in head.dataset));
  const aside = kept.map(([, place]) => lines.some(([, cells]) => cells[place][1]));
  const wide = (cells) => kept.flatMap(([, place], n) => aside[n] ? cells[place] : [cells[place][0]]);
  const titles = wide(heads.map((head) => { const [text, small] = parted(head); return [text, `${text} (small print${small && `: ${small}`})`]; }));
  const groups = lines.some(([own]) => own), made = table.closest(".made-chapter");
  const line = (own, cells, note) => [...(groups ? [own] : []), ...cells, ...(made ? [note] : [])].map(quoted).join(",");
  return [line("Section", titles, "Note"), ...lines.map(([own, cells]) => line(own, wide(cells), "Made, no result."))].join("\r\n") + "\r\n";
};
const watch = new ResizeObserver((seen) => { for (const { target } of seen) { const box = target.closest(".box"); box.classList.toggle("wide", box.scrollWidth > box.clientWidth); } });
for (const box of all(".box")) {
  const under = document.createElement("div"), button = document.createElement("button"), more = document.createElement("span");
  const label = box.getAttribute("aria-label");
  under.className = "under";
  button.type = "button";
  button.className = "csv";
  button.textContent = "CSV";
  button.setAttribute("aria-label", `CSV of ${label}`);
  more.className = "more";
  more.textContent = "wider than the screen: scroll it sideways";
  under.append(button, more);
  box.after(under);
  watch.observe(box);
  watch.observe(box.firstElementChild);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest && event.target.closest(".csv");
  if (!button) return;
  const box = button.parentElement.previousElementSibling, link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(box.querySelector("table"))], { type: "text/csv" }));
  link.download = `${box.closest(".made-chapter") ? "made-" : ""}${box.getAttribute("aria-label").toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

// Copying: by the clipboard where the browser gives it to files, else by selection.
const taken = async (code) => {
  try { await navigator.clipboard.writeText(code.textContent); return true; } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
};
for (const code of all(".again code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  code.after(button);
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest && event.target.closest(".copy");
  if (!button) return;
  button.textContent = (await taken(button.parentElement.querySelector("code"))) ? "Copied" : "Selected: copy with the keyboard";
});

// Colours: as the system, light, dark.
const theme = document.getElementById("theme");
const themes = [["", "as the system"], ["light", "light"], ["dark", "dark"]];
let chosen = 0;
theme.hidden = false;
theme.addEventListener("click", () => {
  chosen = (chosen + 1) % themes.length;
  if (chosen) document.documentElement.dataset.theme = themes[chosen][0]; else delete document.documentElement.dataset.theme;
  theme.textContent = `Colours: ${themes[chosen][1]}`;
});
})();
