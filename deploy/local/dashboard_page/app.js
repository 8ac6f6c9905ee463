/** The dashboard's page: picks the bot, edits it, and keeps the sources and the chat on it. */

import { startForms } from "./forms.js";
import { $, attempt, call, h } from "./page.js";
import { showSources, watch } from "./sources.js";

const REMEMBERED = "dashboard bot";
let apiUrl = "";
let bots = [];
let embedded = 0;

const currentBot = () => bots.find((bot) => bot.id === $("bot").value);

async function load(chosen = localStorage.getItem(REMEMBERED)) {
  const state = await attempt(() => call("GET", "/state"));
  if (!state) return void setTimeout(load, 2000);
  ({ api_url: apiUrl, bots } = state);
  $("bot").replaceChildren(...bots.map((bot) => h("option", { value: bot.id }, bot.name)));
  if (bots.some((bot) => bot.id === chosen)) $("bot").value = chosen;
  if (bots.length) show();
  else edit(null);
}

function show() {
  const { id } = currentBot();
  localStorage.setItem(REMEMBERED, id);
  $("demo").href = `/demo?bot_id=${id}`;
  showSources(id);
  embed(id);
}

/**
 * Puts the widget in just as a website would; the former bot's hangs up when its element goes. Each has a slot of its
 * own: a script that only arrives after the next bot was chosen finds its slot gone, and does nothing.
 */
function embed(id) {
  const slot = h("div", { id: `chat-${++embedded}`, class: "slot" });
  const script = h("script", { "data-token-url": `/widget-token?bot_id=${id}`, "data-target": `#${slot.id}` });
  script.src = `${apiUrl}/widget.js`;
  $("chat-panel").replaceChildren(slot, script);
}

const form = $("bot-form");

function edit(bot) {
  form.reset();
  form.dataset.bot = bot?.id ?? "";
  $("bot-heading").textContent = bot ? "Bot settings" : "New bot";
  form.elements.name.value = bot?.name ?? "";
  for (const name of ["welcome_message", "fallback_message", "disclaimer"]) form.elements[name].value = bot?.config[name] ?? "";
  form.elements.sample_questions.value = (bot?.config.sample_questions ?? []).join("\n");
  form.querySelector(".error").hidden = true;
  $("bot-cancel").hidden = !bots.length;
  $("bot-dialog").showModal();
}

async function save(event) {
  event.preventDefault();
  const values = Object.fromEntries(new FormData(form));
  values.sample_questions = values.sample_questions.split("\n").map((line) => line.trim()).filter(Boolean);
  const id = form.dataset.bot;
  try {
    const answer = id ? await call("PUT", `/bots/${id}`, values) : await call("POST", "/bots", values);
    $("bot-dialog").close();
    await load(answer?.id ?? id);
  } catch (error) {
    const place = form.querySelector(".error");
    place.textContent = error.message;
    place.hidden = false;
  }
}

$("bot").addEventListener("change", show);
$("new-bot").addEventListener("click", () => edit(null));
$("edit-bot").addEventListener("click", () => edit(currentBot() ?? null));
$("bot-cancel").addEventListener("click", () => $("bot-dialog").close());
form.addEventListener("submit", save);
startForms(() => currentBot()?.id, watch);
load();
