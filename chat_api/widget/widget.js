/**
 * The embeddable chat widget: one script, no dependency, no build step.
 *
 *   <script async src="https://api.example.com/widget.js" data-token-url="/chat-token"></script>
 *
 * data-token-url  address on the host's own server that answers {"token": "…"} or the bare token (required)
 * data-title      the panel's heading; the bot's name unless given
 * data-position   "right" (default) or "left"
 * data-color      any CSS colour
 * data-open       opens the panel at first sight (never on a phone)
 * data-lang       language of the widget's own words: en, de; the page's language unless given
 * data-target     CSS selector: sits inside that element instead of floating over the page
 *
 * It is a custom element, so a page may also make and remove <chat-widget> by itself (with data-api, the API's origin).
 */

import { h, icon, iconButton, textButton } from "./dom.js";
import { blockNode, splitBlocks } from "./markdown.js";
import { Session } from "./session.js";
import { CSS_TEXT, keepReadable } from "./style.js";
import { TEXTS } from "./texts.js";
import { chips, TurnView } from "./turn.js";

const MAX_QUESTION = 4000;
const NEAR_END_PX = 160;
const NOTICE_MS = 8000;

class ChatWidget extends HTMLElement {
  #views = new Map();
  #lastStatus = [];
  #wake = () => {
    this.#say(...this.#lastStatus);
    this.session.connection.wake();
  };
  #sleep = () => this.#say(this.text.statuses.offline);

  connectedCallback() {
    const { api, tokenUrl, lang, target } = this.dataset;
    const language = (lang || document.documentElement.lang || "en").slice(0, 2).toLowerCase();
    this.ownLang = language in TEXTS ? language : "en";
    this.text = TEXTS[this.ownLang];
    // What the bot says is taken to be in the page's language; where that says none, in an unknown one.
    this.botLang = this.closest("[lang]")?.lang ?? "";
    this.inline = Boolean(target);
    this.session = new Session({ api, tokenUrl: new URL(tokenUrl, document.baseURI).href, text: this.text, view: this.#view() });
    this.#build();
    window.addEventListener("online", this.#wake);
    window.addEventListener("offline", this.#sleep);
    if (this.inline) this.session.connection.open();
    else if (this.#opensByItself()) this.toggle(true, false);
  }

  disconnectedCallback() {
    window.removeEventListener("online", this.#wake);
    window.removeEventListener("offline", this.#sleep);
    this.session.connection.close();
  }

  #view() {
    return {
      changed: () => this.#drawAll(),
      drew: (turn) => this.#drawSoon(turn),
      settled: (turn) => this.#drawSettled(turn),
      status: (name) => this.showStatus(name),
      refused: (name) => this.showStatus(name, textButton(this.text.retry, "", () => this.reconnect())),
      notice: (text) => this.#notice(text),
    };
  }

  #opensByItself() {
    const { open } = this.dataset;
    const wished = this.session.state.open ?? (open !== undefined && open !== "false");
    return wished && !matchMedia("(max-width: 480px)").matches;
  }

  // --- building ------------------------------------------------------------------------------------------------------

  #build() {
    const { text, inline } = this;
    this.#views.clear();
    this.log = h("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": text.log, tabindex: "0" });
    this.status = h("p", { class: "status", role: "status" });
    this.disclaimer = h("p", { class: "disclaimer", lang: this.botLang });
    this.launcher = iconButton("chat", text.open, "launcher", () => this.toggle(this.panel.hidden), { hidden: inline, "aria-expanded": "false" });
    this.panel = h("section", { class: "panel", role: inline ? "region" : "dialog", hidden: !inline },
      this.#header(), this.log, this.status, this.#form(), this.disclaimer);
    for (const type of ["keydown", "keyup", "keypress"]) this.panel.addEventListener(type, (event) => this.#onKey(event));
    this.#drawAll();
    const place = inline ? "inline" : `floating ${this.dataset.position === "left" ? "left" : "right"}`;
    this.#attach(h("div", { class: place, lang: this.ownLang }, this.panel, this.launcher));
  }

  #header() {
    const { text } = this;
    this.heading = h("h2", { lang: this.botLang });
    const restart = iconButton("restart", text.restart, "tool", () => this.restart());
    const close = iconButton("close", text.close, "tool", () => this.toggle(false), { hidden: this.inline });
    return h("header", {}, this.heading, restart, close);
  }

  #form() {
    const { text } = this;
    const field = { rows: "1", maxlength: MAX_QUESTION, placeholder: text.ask, "aria-label": text.ask, enterkeyhint: "send" };
    this.input = h("textarea", { ...field, input: () => this.#drawControls() });
    this.sendButton = iconButton("send", text.send, "send", () => this.submit());
    this.stopButton = iconButton("stop", text.stop, "send", () => this.stop());
    return h("div", { class: "composer" }, this.input, this.sendButton, this.stopButton);
  }

  #attach(root) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS_TEXT);
    const shadow = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [sheet];
    shadow.replaceChildren(root);
    if (CSS.supports("color", this.dataset.color ?? "")) this.#colour(sheet.cssRules[0].style);
  }

  #colour(style) {
    style.setProperty("--accent", this.dataset.color);
    keepReadable(style, getComputedStyle(this.sendButton).backgroundColor);
  }

  // --- what the visitor does -----------------------------------------------------------------------------------------

  toggle(open, focus = true) {
    this.panel.hidden = !open;
    this.launcher.setAttribute("aria-expanded", `${open}`);
    for (const name of ["aria-label", "title"]) this.launcher.setAttribute(name, open ? this.text.close : this.text.open);
    this.launcher.replaceChildren(icon(open ? "close" : "chat"));
    this.session.remember({ open });
    if (open) this.session.connection.open();
    if (open) this.#scroll(true);
    if (focus) (open ? this.input : this.launcher).focus();
  }

  submit() {
    if (this.ask(this.input.value)) this.input.value = "";
    this.#drawControls();
  }

  ask(question) {
    const taken = this.session.ask(question);
    this.input.focus();
    return taken;
  }

  stop() {
    this.session.stop();
    this.input.focus();
  }

  /** The button goes with what it stands for: without a new place the focus would leave the panel. */
  retry(turn) {
    this.session.retry(turn);
    this.input.focus();
  }

  reconnect() {
    this.session.connection.open();
    this.input.focus();
  }

  restart() {
    this.session.restart();
    this.input.focus();
  }

  #onKey(event) {
    // The host page's own shortcuts must not fire while a visitor types here.
    event.stopPropagation();
    if (event.type !== "keydown" || event.isComposing) return;
    if (event.key === "Escape" && !this.inline) this.toggle(false);
    if (event.key !== "Enter" || event.shiftKey || event.target !== this.input) return;
    event.preventDefault();
    this.submit();
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  #drawAll() {
    const { bot, turns } = this.session.state;
    this.heading.textContent = this.dataset.title || bot?.name || this.text.title;
    this.panel.setAttribute("aria-label", this.heading.textContent);
    this.disclaimer.textContent = bot?.disclaimer ?? "";
    this.#drawIntro(bot?.welcome_message ?? "", this.session.begun ? [] : bot?.sample_questions ?? []);
    this.#drawTurns(turns);
    this.#drawControls();
  }

  /** New ones are scrolled to. They may come before others: what was asked before it was known whose the older ones are. */
  #drawTurns(turns) {
    for (const [turn, view] of this.#views) {
      if (turns.includes(turn)) continue;
      view.node.remove();
      this.#views.delete(turn);
    }
    const act = { ask: (text) => this.ask(text), retry: (turn) => this.retry(turn), rate: (turn, value) => this.session.rate(turn, value) };
    const added = turns.filter((turn) => !this.#views.has(turn));
    for (const turn of added.reverse()) {
      const view = new TurnView(turn, this.text, this.botLang, act);
      const next = this.#views.get(turns[turns.indexOf(turn) + 1]);
      this.log.insertBefore(view.node, next?.node ?? null);
      this.#views.set(turn, view);
    }
    if (added.length) this.#scroll(true);
  }

  #drawIntro(welcome, samples) {
    const key = JSON.stringify([welcome, samples]);
    if (this.intro?.key === key && this.log.contains(this.intro.node)) return;
    const body = h("div", { class: "body", lang: this.botLang }, ...splitBlocks(welcome).map((block) => blockNode(block, () => null)));
    const node = h("div", {}, body, chips(samples, this.botLang, (text) => this.ask(text)));
    this.intro?.node.remove();
    this.log.prepend(node);
    this.intro = { key, node };
  }

  /** At most once per painted frame; a hidden tab catches up with the finished answer. */
  #drawSoon(turn) {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      if (turn.status === "pending") this.#redraw(() => this.#views.get(turn)?.stream());
    });
  }

  #drawSettled(turn) {
    this.#redraw(() => this.#views.get(turn)?.settle());
  }

  /** The Stop button goes, and links are new ones: without a new place the focus would leave the panel. */
  #redraw(draw) {
    const focused = this.shadowRoot.activeElement;
    draw();
    this.#drawControls();
    this.#scroll();
    if (!focused || focused.getClientRects().length) return;
    const same = [...this.log.querySelectorAll("a, [tabindex]")].findLast((node) => node.isEqualNode(focused));
    (same ?? this.input).focus({ preventScroll: true });
  }

  #drawControls() {
    const pending = Boolean(this.session.pending);
    this.sendButton.hidden = pending;
    this.stopButton.hidden = !pending;
    this.sendButton.disabled = !this.input.value.trim();
    for (const chips of this.log.querySelectorAll(".chips")) chips.disabled = pending;
  }

  /** Follows the answer unless the visitor has scrolled up to read. */
  #scroll(force = false) {
    const { log } = this;
    if (force || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX) log.scrollTop = log.scrollHeight;
  }

  showStatus(name, ...more) {
    const { statuses } = this.text;
    // A connection that is offline tries again as soon as it is not.
    this.#lastStatus = [statuses[name === "offline" ? "retrying" : name] ?? "", ...more];
    this.#say(statuses[name] ?? "", ...more);
  }

  #notice(text) {
    this.#say(text);
    this.noticeTimer = setTimeout(() => this.#say(...this.#lastStatus), NOTICE_MS);
  }

  #say(...words) {
    clearTimeout(this.noticeTimer);
    this.status.replaceChildren(...words);
  }
}

if (!customElements.get("chat-widget")) customElements.define("chat-widget", ChatWidget);

const script = document.currentScript;

function mount() {
  const { target, tokenUrl } = script.dataset;
  const parent = target ? document.querySelector(target) : document.body;
  if (!tokenUrl || !parent) {
    console.error(`chat widget: ${tokenUrl ? `nothing on the page matches ${target}` : "data-token-url is missing"}`);
    return;
  }
  const widget = document.createElement("chat-widget");
  Object.assign(widget.dataset, script.dataset, { api: new URL(script.src).origin });
  parent.append(widget);
}

if (script && document.readyState === "loading") document.addEventListener("DOMContentLoaded", mount);
else if (script) mount();
