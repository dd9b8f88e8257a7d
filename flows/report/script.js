"use strict";

// The page is whole without this: it adds tips to points, a theme, and sorting and filtering to the table of trials.

const root = document.documentElement;
const tip = document.getElementById("tip");

function prepareTheme() {
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  show();
  button.hidden = false;
}

function showTip(target) {
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(at.left + at.width / 2 - own.width / 2, 4), innerWidth - own.width - 4);
  const above = at.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 0 ? above : at.bottom + 8}px`;
}

function prepareTips() {
  for (const target of document.querySelectorAll("[data-tip]")) {
    // The browser's own tip would come a second later and say the same.
    target.querySelector("title")?.remove();
    for (const event of ["pointerenter", "focus"]) target.addEventListener(event, () => showTip(target));
    for (const event of ["pointerleave", "blur"]) target.addEventListener(event, () => { tip.hidden = true; });
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
}

function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function sortBy(table, column, head) {
  const rising = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row.cells[column]) }));
  // What is empty stays at the end, whichever way.
  rows.sort((one, other) => {
    if (one.value === null || other.value === null) return (one.value === null) - (other.value === null);
    return (rising ? 1 : -1) * compare(one.value, other.value);
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

function prepareTable() {
  const table = document.getElementById("trial-table");
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(table, column, head));
    head.replaceChildren(button);
  });
  const words = document.getElementById("filter");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  const names = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const texts = new Map();
  for (const row of table.tBodies[0].rows) {
    // "stage_0.width 16" finds a choice with its option, though they stand in different rows of the table.
    texts.set(row, [...row.cells].map((cell, column) => `${names[column]} ${cell.textContent}`).join("\n").toLowerCase());
  }
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/[,\s]+/).filter(Boolean);
    const phrase = words.value.trim().toLowerCase();
    let count = 0;
    for (const [row, text] of texts) {
      const fits = text.includes(phrase) || wanted.every((word) => text.includes(word));
      row.hidden = !(fits && (!status.value || row.dataset.status === status.value));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${texts.size}`;
  };
  words.addEventListener("input", filter);
  status.addEventListener("change", filter);
  document.getElementById("decisions").addEventListener("change", (event) => {
    table.classList.toggle("no-choices", !event.target.checked);
  });
  addEventListener("hashchange", () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row?.hidden) {
      words.value = status.value = "";
      filter();
      row.scrollIntoView();
    }
  });
  filter();
  document.getElementById("trial-tools").hidden = false;
}

// A drawing that is wider than the screen begins in its middle, where its input is.
function prepareDrawing() {
  const frame = document.querySelector(".network").closest(".scroll");
  frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
}

// Paper cannot be unfolded.
function preparePrinting() {
  const opened = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened.splice(0)) details.open = false;
  });
}

prepareDrawing();
preparePrinting();
prepareTheme();
prepareTips();
prepareTable();
document.body.dataset.state = "ready";
