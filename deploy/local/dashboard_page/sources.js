/** The list of a bot's sources: status, progress, errors, retrain, delete. */

import { $, attempt, call, h } from "./page.js";

const MOVING = new Set(["pending", "queued", "processing"]);
const WORDS = { pending: "Waiting", queued: "Queued", processing: "Training", trained: "Trained", failed: "Failed", cancelled: "Cancelled" };
const KINDS = { url: "Page", site: "Site", sitemap: "Sitemap", file: "File", text: "Text", qa: "Q&A" };
const STAGES = { fetch: "Reading", extract: "Extracting text", chunk: "Splitting", embed: "Embedding", store: "Storing" };
const FAST_MS = 1000;
const SLOW_MS = 15_000;
const WATCH_MS = 10_000;

class SourceView {
  constructor(row) {
    this.kind = h("span", { class: "kind" }, KINDS[row.type] ?? row.type);
    this.title = h("div", { class: "title" });
    this.pill = h("span", { class: "pill" });
    this.progress = h("progress", { max: "100" });
    this.stage = h("small", { class: "muted" });
    this.error = h("p", { class: "error" });
    this.receipt = h("dl", { class: "receipt", hidden: true });
    this.node = h("li", { class: "source" }, this.kind, this.title, this.pill, this.#buttons(), this.progress, this.stage, this.error, this.receipt);
    this.update(row);
  }

  update(row) {
    const changed = JSON.stringify(row) !== JSON.stringify(this.row);
    this.row = row;
    if (!changed) return;
    const moving = MOVING.has(row.status);
    this.#drawTitle(row);
    this.pill.textContent = WORDS[row.status] ?? row.status;
    this.pill.className = `pill ${row.status}`;
    this.progress.hidden = row.status !== "processing";
    if (row.progress) this.progress.value = row.progress;
    else this.progress.removeAttribute("value");
    this.error.textContent = row.error_code ? row.error_message || row.error_code : "";
    this.details.hidden = moving || !row.job_id;
    if (moving) this.receipt.hidden = true;
    if (!moving) this.stage.textContent = row.trained_at ? `Trained ${new Date(row.trained_at).toLocaleString()}` : "";
    if (row.status === "processing") this.#drawStage();
    else if (moving) this.stage.textContent = "";
  }

  #drawTitle({ title, url, type }) {
    const address = /^https?:/.test(url ?? "") ? h("a", { href: url, target: "_blank", rel: "noopener" }, url) : url ?? "";
    this.title.replaceChildren(...(title && title !== url ? [h("strong", {}, title), h("small", {}, address)] : [address || KINDS[type]]));
  }

  #buttons() {
    const button = (label, click) => h("button", { type: "button", class: "plain", click }, label);
    this.details = button("Details", () => this.#toggleReceipt());
    const retrain = button("Retrain", () => attempt(() => call("POST", `/sources/${this.row.id}/train`)).then(watch));
    return h("div", { class: "actions" }, this.details, retrain, button("Delete", () => this.#delete()));
  }

  async #delete() {
    const name = this.row.title || this.row.url || "this source";
    if (!confirm(`Delete ${name}? The bot no longer answers from it.`)) return;
    await attempt(() => call("DELETE", `/sources/${this.row.id}`));
    watch();
  }

  async #drawStage() {
    const { row } = this;
    const job = await call("GET", `/jobs/${row.job_id}`).catch(() => null);
    if (!job || this.row.status !== "processing") return;
    const { done, total, unit } = job.progress ?? {};
    const count = total ? ` · ${done} of ${total} ${unit ?? ""}` : "";
    this.stage.textContent = (STAGES[job.stage] ?? "Starting") + count;
  }

  async #toggleReceipt() {
    this.receipt.hidden = !this.receipt.hidden;
    if (this.receipt.hidden) return;
    const job = await attempt(() => call("GET", `/jobs/${this.row.job_id}`));
    if (!job) return;
    const facts = Object.entries(flat({ attempt: job.attempt, ...job.receipt })).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, `${value}`)));
    this.receipt.replaceChildren(...facts);
  }
}

/** `{a: {b: 1}}` to `{"a b": 1}`: a receipt is shown as it comes, whatever it counts. */
function flat(value, prefix = "") {
  return Object.fromEntries(Object.entries(value).flatMap(([key, inner]) => {
    const name = `${prefix} ${key}`.trim().replaceAll("_", " ");
    if (inner === null || (Array.isArray(inner) && !inner.length)) return [];
    if (typeof inner === "object") return Object.entries(flat(inner, name));
    return [[name, typeof inner === "number" ? Number(inner.toPrecision(4)) : inner]];
  }));
}

const views = new Map();
let botId = null;
let timer;
let watchUntil = 0;

/** Shows another bot's sources. */
export function showSources(id) {
  botId = id;
  views.clear();
  $("sources").replaceChildren();
  watch();
}

/** Looks often for a while: something has just been asked for. */
export function watch() {
  watchUntil = Date.now() + WATCH_MS;
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  const asked = botId;
  if (!asked) return;
  const rows = await call("GET", `/bots/${asked}/sources`).catch(() => null);
  if (asked !== botId) return;
  if (rows) draw(rows);
  const busy = Date.now() < watchUntil || !rows || rows.some((row) => MOVING.has(row.status));
  clearTimeout(timer);
  timer = setTimeout(refresh, busy ? FAST_MS : SLOW_MS);
}

function draw(rows) {
  const kept = new Set(rows.map((row) => row.id));
  for (const [id, view] of views) {
    if (kept.has(id)) continue;
    view.node.remove();
    views.delete(id);
  }
  rows.forEach((row, i) => {
    if (views.has(row.id)) views.get(row.id).update(row);
    else views.set(row.id, new SourceView(row));
    const { node } = views.get(row.id);
    if ($("sources").children[i] !== node) $("sources").insertBefore(node, $("sources").children[i] ?? null);
  });
  $("empty").hidden = rows.length > 0;
  $("count").textContent = rows.length || "";
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
