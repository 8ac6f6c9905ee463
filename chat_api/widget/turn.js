/** One question and its answer on the screen. */

import { MAX_TIMER_MS } from "./connection.js";
import { h, iconButton, link, quiet, safeUrl, textButton } from "./dom.js";
import { blockNode, splitBlocks } from "./markdown.js";

const NUMBERS = /\[(\d{1,3})\]/g;

export class TurnView {
  #blocks = [];
  #cited = [];

  /** `lang`: the page's language, for words that are not the widget's own. `act`: `ask(question)`, `retry(turn)`, `rate(turn, value)`. */
  constructor(turn, text, lang, act) {
    Object.assign(this, { turn, text, lang, act });
    // Remembered turns come all at once, after the panel was opened: none of them is news to a screen reader.
    const live = turn.status === "pending" ? null : "off";
    this.node = h("article", { "aria-live": live }, h("div", { class: "question" }, quiet(`${text.you}: `), h("span", { lang }, turn.question)));
    if (turn.status === "pending") this.stream();
    else this.settle();
  }

  /** Draws what has arrived, outside of the live region's hearing: a screen reader isn't told every word. */
  stream() {
    if (!this.answer) this.#replaceAnswer({ "aria-live": "off", "aria-busy": "true" });
    if (this.turn.answer) this.#drawBody();
    else this.#drawThinking();
    this.#drawSources();
  }

  /**
   * Puts the finished answer in the streamed one's place: one new node in the log, so it is announced once, whole.
   * Only where a visitor has selected some of it are its nodes kept.
   */
  settle() {
    if (this.#selected()) for (const name of ["aria-live", "aria-busy"]) this.answer.removeAttribute(name);
    else this.#replaceAnswer({});
    this.answer.prepend(quiet(`${this.text.answer}: `));
    this.#drawBody();
    this.#drawSources();
    this.answer.append(...this.#ending());
  }

  #selected() {
    if (!this.answer) return false;
    const [range] = getSelection().getComposedRanges?.({ shadowRoots: [this.node.getRootNode()] }) ?? [];
    return Boolean(range) && !range.collapsed && this.answer.contains(range.startContainer);
  }

  #replaceAnswer(attributes) {
    this.answer?.remove();
    this.answer = h("div", { class: "answer", ...attributes });
    this.body = h("div", { class: "body", lang: this.lang });
    this.#blocks = [];
    this.#cited = [];
    this.answer.append(this.body);
    this.node.append(this.answer);
  }

  #drawThinking() {
    this.#blocks = [];
    this.body.replaceChildren(h("p", { class: "thinking" }, this.text.thinking));
  }

  /** Only blocks that changed get new nodes: text that a visitor has selected stays selected while more streams in. */
  #drawBody() {
    if (!this.#blocks.length) this.body.replaceChildren();
    const blocks = splitBlocks(this.turn.answer);
    const keys = blocks.map((block) => JSON.stringify(block));
    blocks.forEach((block, i) => {
      if (this.#blocks[i] === keys[i]) return;
      const node = blockNode(block, (n) => this.#citation(n));
      if (this.body.children[i]) this.body.children[i].replaceWith(node);
      else this.body.append(node);
    });
    while (this.body.children.length > blocks.length) this.body.lastChild.remove();
    this.#blocks = keys;
  }

  #citation(n) {
    const source = this.turn.sources.find((offered) => offered.n === n);
    if (!source) return null;
    const id = this.#sourceId(n);
    const click = (event) => {
      event.preventDefault();
      this.node.querySelector(`[id="${id}"]`)?.focus();
    };
    return h("a", { class: "cite", href: `#${id}`, "aria-label": `${this.text.source} ${n}: ${source.title ?? ""}`, click }, `${n}`);
  }

  #sourceId(n) {
    return `source-${this.turn.id}-${n}`;
  }

  /** The body stays where it is, and so do the sources until others are cited: what moves loses focus and selection. */
  #drawSources() {
    const { answer, citations, sources } = this.turn;
    const numbers = new Set(citations ?? Array.from(answer.matchAll(NUMBERS), (match) => Number(match[1])));
    const cited = sources.filter(({ n }) => numbers.has(n));
    if (cited.length === this.#cited.length && cited.every((source, i) => source === this.#cited[i])) return;
    this.#cited = cited;
    this.answer.querySelector(".sources")?.remove();
    if (cited.length) this.answer.append(this.#sourceSection(cited));
  }

  #sourceSection(cited) {
    const list = h("ol", {}, ...cited.map((source) => this.#sourceItem(source)));
    return h("section", { class: "sources", "aria-label": this.text.sources }, h("h3", {}, this.text.sources), list);
  }

  #sourceItem({ n, title, url, page, heading }) {
    const address = safeUrl(url);
    const name = title || address?.host || this.text.source;
    const where = [page && `${this.text.page} ${page}`, heading !== name && heading, address?.host].filter(Boolean);
    const words = h("span", { lang: this.lang }, name);
    const label = address ? link(address, words, quiet(` (${this.text.newTab})`)) : words;
    const item = { id: this.#sourceId(n), tabindex: "-1" };
    return h("li", item, h("span", { class: "n" }, `${n}`), h("div", {}, label, h("small", {}, where.join(" · "))));
  }

  #ending() {
    const { status, finish, messageId, suggestions = [] } = this.turn;
    if (status === "failed") return this.#failure();
    const nodes = [];
    if (this.text.endings[finish]) nodes.push(h("p", { class: "note" }, this.text.endings[finish]));
    if (suggestions.length) nodes.push(chips(suggestions, this.lang, this.act.ask));
    if (messageId) nodes.push(this.#feedback());
    return nodes;
  }

  #failure() {
    const { error, retryAt } = this.turn;
    const wait = retryAt - Date.now();
    const retry = textButton(this.text.retry, "chip", () => this.act.retry(this.turn));
    retry.disabled = wait > 0;
    if (retry.disabled) setTimeout(() => (retry.disabled = false), Math.min(wait, MAX_TIMER_MS));
    return [h("p", { class: "note bad" }, error), h("fieldset", { class: "chips" }, retry)];
  }

  #feedback() {
    const thanks = h("span", { class: "note", role: "status" });
    const buttons = ["up", "down"].map((value) => iconButton(value, this.text[value], "tool", (event) => {
      for (const button of buttons) button.setAttribute("aria-pressed", `${button === event.currentTarget}`);
      thanks.textContent = this.text.thanks;
      this.act.rate(this.turn, value);
    }, { "aria-pressed": `${this.turn.feedback === value}` }));
    return h("div", { class: "actions" }, ...buttons, thanks);
  }
}

/** Questions as buttons. A field set can be disabled as a whole. */
export function chips(questions, lang, ask) {
  return h("fieldset", { class: "chips", lang }, ...questions.map((question) => textButton(question, "chip", () => ask(question))));
}
