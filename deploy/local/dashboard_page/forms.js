/** The form that adds sources, and the uploads. */

import { $, attempt, call, h, say, sentence } from "./page.js";

const form = $("add");
let botId = () => null;
let added = () => {};

/** Wires the form; `currentBot()` gives the bot's id, `onAdded()` is called after each new source. */
export function startForms(currentBot, onAdded) {
  botId = currentBot;
  added = onAdded;
  form.addEventListener("change", showFields);
  form.addEventListener("submit", submit);
  $("more-pairs").addEventListener("click", () => addPair().querySelector("input").focus());
  $("files").addEventListener("change", () => uploadAll($("files")));
  startDrop($("drop"));
  addPair();
  showFields();
}

const chosenType = () => new FormData(form).get("type");

/** Shows the chosen type's fields; the others are switched off, so that they are neither required nor sent. */
function showFields() {
  const type = chosenType();
  for (const part of form.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(type);
  for (const field of form.querySelectorAll("[name]:not([name=type])")) field.disabled = Boolean(field.closest("[hidden]"));
}

function addPair() {
  const pair = h("div", { class: "pair" },
    h("label", {}, "Question ", h("input", { name: "question", maxlength: "2000", required: true })),
    h("label", {}, "Answer ", h("textarea", { name: "answer", rows: "2", maxlength: "20000", required: true })));
  $("pairs").append(pair);
  return pair;
}

function readSource() {
  const data = new FormData(form);
  const answers = data.getAll("answer");
  const source = Object.fromEntries(["type", "url", "title", "text"].filter((name) => data.has(name)).map((name) => [name, data.get(name)]));
  if (data.has("max_pages")) source.max_pages = Number(data.get("max_pages"));
  if (answers.length) source.pairs = data.getAll("question").map((question, i) => ({ question, answer: answers[i] }));
  return source;
}

async function submit(event) {
  event.preventDefault();
  const type = chosenType();
  if (type === "file") return;
  const answer = await attempt(() => call("POST", `/bots/${botId()}/sources`, readSource()));
  added();
  if (!answer) return;
  if (answer.notice) say(answer.notice);
  form.reset();
  form.elements.type.value = type;
  $("pairs").replaceChildren();
  addPair();
  showFields();
}

function startDrop(drop) {
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragenter" || type === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => uploadAll(event.dataTransfer));
}

/** Uploads one file after the other; `list` is the input or what was dropped. */
async function uploadAll(list) {
  const files = [...list.files];
  $("files").value = "";
  for (const file of files) await uploadOne(file);
}

async function uploadOne(file) {
  const bar = h("progress", { max: "100", value: "0", "aria-label": `Uploading ${file.name}` });
  const item = h("li", {}, h("span", {}, file.name), bar);
  $("uploads").append(item);
  try {
    const { notice } = await send(file, (percent) => (bar.value = percent));
    item.remove();
    if (notice) say(notice);
  } catch (error) {
    bar.replaceWith(h("span", { class: "error" }, error.message));
  }
  added();
}

/** XMLHttpRequest, because fetch does not tell how much of a body has left. */
function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/dashboard/api/bots/${botId()}/files?filename=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress((100 * loaded) / total);
    request.onerror = () => reject(new Error("The upload was cut off."));
    request.onload = () => {
      const answer = request.response ?? {};
      if (request.status < 300) resolve(answer);
      else reject(new Error(sentence(answer, request.status)));
    };
    request.send(file);
  });
}
