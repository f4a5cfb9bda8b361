"use strict";
// What is shown stands in the address behind #: head, and text, caption (a row) or nothing, and an opened image.
const COUNT = 48;
const WAIT = 120;
const byId = (id) => document.getElementById(id);
const [box, heads, found, detail, sheet, status] = ["text", "head", "found", "detail", "sheet", "status"].map(byId);
let about = null;
let listed = null;
let rows = [];
let typing = 0;
const running = {};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  const head = about.heads.some((each) => each.name === given.get("head")) ? given.get("head") : about.heads[0].name;
  return { head, text: given.get("text") ?? "", caption: given.get("caption"), image: given.get("image") };
}

function go(changes, replace = false) {
  const next = { ...state(), ...changes };
  const named = Object.entries(next).filter(([, value]) => value !== null && value !== "");
  const address = `#${new URLSearchParams(named)}`;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  show();
}

// A newer request of the same kind ends the one before, whose answer is never shown.
async function ask(kind, path, parameters) {
  running[kind]?.abort();
  const own = (running[kind] = new AbortController());
  const began = performance.now();
  try {
    const response = await fetch(`/api/${path}?${new URLSearchParams(parameters)}`, { signal: own.signal });
    const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (own !== running[kind]) return null;
    return { ...answer, milliseconds: Math.round(performance.now() - began) };
  } catch (error) {
    if (own.signal.aborted) return null;
    return { error: "the server does not answer: is it still running?" };
  }
}

function say(words, isError = false) {
  status.textContent = words;
  status.classList.toggle("error", isError);
}

const number = (value) => value.toFixed(3).replace("-", "−");
const wording = (caption, row) => caption ?? `text row ${row}`;

// The words beside a small picture say what its alternative text would repeat.
function picture(result, size) {
  const tile = () => element("span", { className: "tile", textContent: `image ${result.image_id}` });
  if (!result.image_file) return tile();
  const image = element("img", { loading: "lazy", decoding: "async", alt: size === "small" ? "" : result.captions[0] ?? `image ${result.image_id}` });
  image.addEventListener("error", () => image.replaceWith(tile()), { once: true });
  image.src = `${about.pictures}${size}/${result.row}.jpg`;
  return image;
}

function card(result, open) {
  const words = element("span", { className: "words" });
  if ("similarity" in result) words.append(element("span", { className: "score", textContent: `${result.rank} · ${number(result.similarity)}` }));
  words.append(element("span", { className: "caption", textContent: result.captions[0] ?? `image ${result.image_id}` }));
  const button = element("button", { type: "button", className: "card" }, picture(result, "small"), words);
  button.addEventListener("click", open);
  return element("li", {}, button);
}

function line(text, own, open) {
  const button = element("button", { type: "button", className: "line" });
  if ("similarity" in text) button.append(element("span", { className: "score", textContent: number(text.similarity) }));
  button.append(element("span", { className: "caption", textContent: wording(text.caption, text.row) }));
  button.addEventListener("click", open);
  return element("li", { className: own ? "own" : "" }, button);
}

function searchCaption(text) {
  box.value = wording(text.caption, text.row);
  go({ text: "", caption: text.row, image: null });
  scrollTo(0, 0);
}

async function list() {
  const { head, text, caption } = state();
  const asked = JSON.stringify([head, text, caption]);
  if (asked === listed) return;
  listed = asked;
  const words = text.trim();
  const late = setTimeout(() => { found.classList.add("waiting"); say("searching …"); }, 250);
  let answer;
  if (caption !== null) answer = await ask("list", "caption", { head, row: caption, count: COUNT });
  else if (words && about.encodes_texts) answer = await ask("list", "text", { head, text: words, count: COUNT });
  else if (words && about.has_captions) answer = await ask("list", "captions", { words, count: COUNT });
  else answer = await ask("list", "images", { count: COUNT });
  clearTimeout(late);
  if (!answer) return;
  found.classList.remove("waiting");
  if (answer.error) {
    listed = null;
    say(answer.error, true);
    return;
  }
  const texts = answer.results.length > 0 && !("captions" in answer.results[0]);
  found.className = texts ? "lines" : "grid";
  rows = texts ? [] : answer.results.map((result) => result.row);
  found.replaceChildren(...answer.results.map((result) =>
    texts ? line(result, false, () => searchCaption(result)) : card(result, () => go({ image: result.row }))));
  if (caption !== null && document.activeElement !== box) box.value = wording(answer.query.caption, caption);
  say(summary(answer, texts, words || caption !== null));
}

function summary(answer, texts, asked) {
  const { images, captions } = about.gallery;
  const count = answer.results.length;
  if (texts || (asked && !answer.find)) return `${count === COUNT ? "the first " : ""}${count} captions of ${captions.toLocaleString("en")} hold these words: choose one to search with it`;
  if (!answer.find) return `${count} of ${images.toLocaleString("en")} pictures, spread over the gallery`;
  const hubs = answer.hubness_correction;
  const corrected = hubs.used ? `hubs corrected by ${hubs.method.replace("_", " ")}` : "hubs as they are";
  status.title = hubs.why;
  return `${count} of ${images.toLocaleString("en")} pictures, nearest first · ${corrected} · ${answer.milliseconds} ms`;
}

function section(title, className, ...content) {
  return element("section", { className }, element("h3", { textContent: title }), ...content);
}

async function openImage() {
  const { head, image } = state();
  if (image === null) {
    running.detail?.abort();
    if (detail.open) detail.close();
    return;
  }
  const answer = await ask("detail", "image", { head, row: image });
  if (!answer) return;
  if (answer.error) {
    say(answer.error, true);
    go({ image: null }, true);
    return;
  }
  const own = new Set(answer.texts.map((text) => text.row));
  byId("detail-title").textContent = `Image ${answer.image.image_id}`;
  const lines = (texts) => element("ol", { className: "lines" }, ...texts.map((text) =>
    line(text, "similarity" in text && own.has(text.row), () => searchCaption(text))));
  sheet.replaceChildren(
    element("figure", {}, picture(answer.image, "large")),
    element("div", {},
      section("Its captions", "", lines(answer.texts)),
      section(`Captions that the head finds nearest${answer.captions.hubness_correction.used ? ", hubs corrected" : ""}`, "", lines(answer.captions.results))),
    section("Nearest pictures", "wide", element("ol", { className: "grid" }, ...answer.neighbours.results.map((result) =>
      card(result, () => go({ image: result.row }))))));
  const place = rows.indexOf(Number(image));
  byId("before").disabled = place <= 0;
  byId("after").disabled = place < 0 || place >= rows.length - 1;
  if (!detail.open) detail.showModal();
  else if (!detail.contains(document.activeElement)) byId("close").focus();
  detail.scrollTo(0, 0);
}

function turn(step) {
  const place = rows.indexOf(Number(state().image));
  const row = place < 0 ? undefined : rows[place + step];
  if (row !== undefined) go({ image: row }, true);
}

function show() {
  heads.value = state().head;
  if (document.activeElement !== box && state().caption === null) box.value = state().text;
  list();
  openImage();
}

function moveFocus(event) {
  const cards = [...found.querySelectorAll("button")];
  const place = cards.indexOf(document.activeElement);
  if (place < 0) return;
  const top = cards[0].getBoundingClientRect().top;
  const across = cards.findIndex((each) => each.getBoundingClientRect().top > top + 1);
  const columns = across < 0 ? cards.length : across;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const next = place + steps[event.key];
  if (event.key === "ArrowUp" && next < 0) box.focus();
  else cards[next]?.focus();
  event.preventDefault();
}

box.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ text: box.value, caption: null, image: null }, true), WAIT);
});
box.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  found.querySelector("button")?.focus();
  event.preventDefault();
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  if (!about) return;
  if (about.encodes_texts || about.has_captions) go({ text: box.value, caption: null, image: null });
  else if (/^\d+$/.test(box.value.trim())) go({ image: box.value.trim() });
});
heads.addEventListener("change", () => go({ head: heads.value }));
found.addEventListener("keydown", (event) => {
  if (event.key.startsWith("Arrow")) moveFocus(event);
});
document.addEventListener("keydown", (event) => {
  if (detail.open && event.key === "ArrowLeft") turn(-1);
  else if (detail.open && event.key === "ArrowRight") turn(1);
  else if (!detail.open && event.key === "/" && document.activeElement !== box) {
    box.focus();
    box.select();
    event.preventDefault();
  }
});
byId("before").addEventListener("click", () => turn(-1));
byId("after").addEventListener("click", () => turn(1));
byId("close").addEventListener("click", () => go({ image: null }));
detail.addEventListener("cancel", (event) => {
  event.preventDefault();
  go({ image: null });
});
detail.addEventListener("click", (event) => {
  if (event.target === detail) go({ image: null });
});
addEventListener("popstate", show);

async function start() {
  const answer = await ask("about", "about", {});
  if (answer.error) {
    say(answer.error, true);
    return;
  }
  about = answer;
  byId("title").textContent = about.gallery.name;
  document.title = `Search: ${about.gallery.name}`;
  byId("missing").replaceChildren(...about.missing.map((sentence) => element("li", { textContent: sentence })));
  box.placeholder = about.encodes_texts ? "Type a caption" : about.has_captions ? "Type words of a caption" : `A row from 0 to ${about.gallery.images - 1}, then Enter`;
  heads.replaceChildren(...about.heads.map(({ name, validation }) => element("option", {
    value: name, textContent: validation === null ? name : `${name} (validation RSUM ${validation.toFixed(1)})` })));
  // What was typed while the page loaded is not lost.
  if (box.value && !location.hash) go({ text: box.value }, true);
  else show();
}
start();
