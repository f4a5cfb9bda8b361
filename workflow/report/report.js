"use strict";

const board = document.getElementById("board-table");
const narrowing = document.getElementById("narrowing");
const wanted = document.getElementById("wanted");
const status = document.getElementById("narrowed");
const boxes = [...narrowing.querySelectorAll("input[type=checkbox]")];
const texts = [...document.querySelectorAll("pre[data-language]")];

// A row is shown if its name or kind has every word that was typed, and the box of each of its facets is checked.
function isShown(row) {
  const name = row.dataset.words.toLowerCase();
  const words = wanted.value.toLowerCase().split(/\s+/);
  const unchecked = boxes.some((box) => !box.checked && row.dataset[box.dataset.facet] === box.value);
  return !unchecked && words.every((word) => name.includes(word));
}

// The texts to be copied have the rows of the table, in its order.
function follow() {
  for (const text of texts) {
    const lines = new Map([...text.querySelectorAll("[data-row]")].map((line) => [line.dataset.row, line]));
    const end = text.querySelector("[data-below]");
    for (const row of board.tBodies[0].rows) {
      const line = lines.get(row.dataset.row);
      if (!line) continue;
      line.hidden = row.hidden;
      end.before(line);
    }
  }
}

function narrow() {
  const rows = [...board.tBodies[0].rows];
  for (const row of rows) row.hidden = !isShown(row);
  status.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  follow();
}

async function copy(language) {
  const text = texts.find((each) => each.dataset.language === language);
  const parts = [...text.childNodes].filter((part) => !part.hidden);
  const lines = parts.filter((part) => part.dataset?.row !== undefined).length;
  try {
    await navigator.clipboard.writeText(parts.map((part) => part.textContent).join(""));
    status.textContent = `${lines} rows copied as ${language}`;
  } catch {
    // Where the browser gives no access to the clipboard, the text is selected.
    text.closest("details").open = true;
    getSelection().selectAllChildren(text);
    text.focus();
    status.textContent = `The ${language} is selected: copy it with the keyboard`;
  }
}

board.addEventListener("sorted", follow);
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy(button.dataset.copies));
}
wanted.addEventListener("input", narrow);
for (const box of boxes) box.addEventListener("change", narrow);
document.getElementById("everything").addEventListener("click", () => {
  wanted.value = "";
  for (const box of boxes) box.checked = true;
  narrow();
});
narrowing.hidden = false;
narrow();
