/** The conversation: what was asked and answered, remembered in the tab and kept in step with the server. No DOM. */

import { Connection } from "./connection.js";

const MAX_TURNS_KEPT = 20;
const MAX_SENDS = 5;
const STOP_WITHIN_MS = 5_000;

/** randomUUID exists in secure contexts only, getRandomValues everywhere. */
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const random = (digit) => digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)));
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) => random(digit).toString(16));
}

/** Half a character (one surrogate of a pair) would be no frame to the server, which could not tell whose it was. */
const wellFormed = (text) => new TextDecoder().decode(new TextEncoder().encode(text));
const citable = ({ n, title, url, page, heading }) => ({ n, title, url, page, heading });
const blankAnswer = () => ({ seq: 0, answer: "", sources: [], citations: null });
const newTurn = (question) => ({ id: newId(), question, status: "pending", sends: 0, ...blankAnswer() });

/**
 * A turn is `{id, question, status: pending|done|failed, seq, answer, sources, citations, finish, messageId, suggestions,
 * feedback, error, retryAt, stopping}`. Works without session storage, too: then it forgets with the page.
 */
export class Session {
  state = { turns: [], conversationId: null, identity: null, bot: null, open: null };
  /** What the tab remembers of a conversation, until a token says whether it is this visitor's. */
  #recalled = null;

  /**
   * `view`: `changed()` when turns came or went, `drew(turn)` when one grew, `settled(turn)`, `status(name)`,
   * `refused(name)` when only the visitor can have it tried again, `notice(text)`.
   */
  constructor({ api, tokenUrl, text, view }) {
    Object.assign(this, { text, view, key: `chat-widget ${api} ${tokenUrl}` });
    this.connection = new Connection(tokenUrl, `${api.replace(/^http/, "ws")}/api/chat/ws`, {
      frame: (frame) => this.#receive(frame),
      status: (name) => view.status(name),
      refused: (name) => this.#refused(name),
      identity: (identity) => this.#recognise(identity),
      tooBig: () => this.pending && this.#fail(this.pending, text.errors.too_long),
    });
    try {
      const { bot, open, ...conversation } = JSON.parse(sessionStorage.getItem(this.key));
      Object.assign(this.state, { bot, open });
      this.#recalled = conversation;
    } catch {
      // Blocked or damaged storage: start empty.
    }
  }

  get pending() {
    return this.state.turns.find((turn) => turn.status === "pending");
  }

  /** Whether there is a conversation, be it one that may turn out to be another visitor's. */
  get begun() {
    return Boolean(this.state.turns.length || this.#recalled?.turns?.length);
  }

  remember(changes = {}) {
    Object.assign(this.state, changes);
    this.state.turns = this.state.turns.slice(-MAX_TURNS_KEPT);
    try {
      sessionStorage.setItem(this.key, JSON.stringify({ ...this.state, ...this.#recalled }));
    } catch {
      // Blocked or full storage: the page goes on without memory.
    }
  }

  /** True when the question was taken; one answer at a time. */
  ask(question) {
    if (!question.trim() || this.pending) return false;
    this.#begin([...this.state.turns, newTurn(question.trim())]);
    return true;
  }

  /** Another try is another question to the server: the failed one's id may already stand for its failure. */
  retry(turn) {
    if (!this.pending) this.#begin([...this.state.turns.filter((other) => other !== turn), newTurn(turn.question)]);
  }

  stop() {
    if (this.pending) this.#halt(this.pending);
  }

  rate(turn, value) {
    const sent = this.connection.send({ type: "feedback", message_id: turn.messageId, value });
    Object.assign(turn, { feedback: value, feedbackDue: !sent });
    this.remember();
  }

  restart() {
    if (this.pending) this.connection.send({ type: "stop", id: this.pending.id });
    this.#forget();
    this.connection.close();
    this.connection.open();
  }

  #begin(turns) {
    this.remember({ turns });
    this.view.changed();
    this.connection.open();
    this.#deliver();
  }

  /**
   * Tells the server to end the answer, which waits a while for its end to come. One that has ended here alone goes on
   * being paid for: `stopping` has the next socket's server told, too.
   */
  #halt(turn) {
    const sent = this.connection.send({ type: "stop", id: turn.id });
    turn.stopping = turn.status === "pending" || !sent;
    this.remember();
    if (sent) setTimeout(() => this.#endStopped(turn), STOP_WITHIN_MS);
    else this.#endStopped(turn);
  }

  #endStopped(turn) {
    if (turn.status === "pending") this.#settle(turn, { status: "done", finish: "stopped" });
  }

  /**
   * Sends the open question, once per socket. After a reconnect it asks for the frames after those it has; where there is
   * nothing to resume the question goes out again under the same id, which the server answers without paying twice.
   */
  #deliver() {
    const turn = this.pending;
    const { socket, ready } = this.connection;
    if (!turn || !ready || (this.sentId === turn.id && this.sentOn === socket)) return;
    if (turn.sends >= MAX_SENDS) {
      this.#fail(turn, this.text.errors.internal);
      return;
    }
    Object.assign(this, { sentId: turn.id, sentOn: socket });
    turn.sends += 1;
    if (turn.sends > 1) this.#resume(turn);
    else this.#send(turn);
  }

  #resume({ id, seq }) {
    this.remember();
    this.connection.send({ type: "resume", conversation_id: this.state.conversationId, id, after: seq });
  }

  #send(turn) {
    Object.assign(turn, blankAnswer());
    this.remember();
    this.connection.send(this.#askFrame(turn));
  }

  #askFrame({ id, question }) {
    const frame = { type: "ask", id, text: wellFormed(question), page_url: location.origin + location.pathname };
    if (this.state.conversationId) frame.conversation_id = this.state.conversationId;
    return frame;
  }

  #receive(frame) {
    const turn = this.pending;
    if (frame.type === "ready") this.#welcome(frame);
    else if (turn && frame.id === turn.id) this.#advance(turn, frame);
    else if (frame.type === "error") this.view.notice(this.#sentence(frame));
  }

  #welcome({ bot, conversation_id }) {
    const { state } = this;
    this.remember({ bot: bot ?? state.bot, conversationId: state.conversationId ?? conversation_id });
    this.view.changed();
    this.#deliver();
    state.turns.filter((turn) => turn.stopping).forEach((turn) => this.#halt(turn));
    state.turns.filter((turn) => turn.feedbackDue).forEach((turn) => this.rate(turn, turn.feedback));
  }

  #advance(turn, frame) {
    if (frame.seq <= turn.seq) return;
    turn.seq = frame.seq ?? turn.seq;
    if (frame.code === "cannot_resume") return void (turn.stopping ? this.#endStopped(turn) : this.#send(turn));
    if (frame.type === "error") return void this.#fail(turn, this.#sentence(frame), frame.retry_after);
    if (frame.type === "done") return void this.#finish(turn, frame);
    if (frame.type === "sources") Object.assign(turn, { answer: "", sources: frame.sources.map(citable) });
    if (frame.type === "delta") turn.answer += frame.text;
    this.view.drew(turn);
  }

  #finish(turn, { text, citations, finish_reason, message_id, sample_questions }) {
    const changes = { status: "done", citations, finish: finish_reason, messageId: message_id, suggestions: sample_questions };
    this.#settle(turn, { ...changes, answer: text ?? turn.answer, stopping: false });
  }

  #fail(turn, error, retryAfter = 0) {
    this.#settle(turn, { status: "failed", error, retryAt: Date.now() + retryAfter * 1000, stopping: false });
  }

  /** What was asked would wait for ever. */
  #refused(name) {
    this.view.refused(name);
    while (this.pending) this.#fail(this.pending, this.text.statuses[name]);
  }

  #settle(turn, changes) {
    Object.assign(turn, changes);
    this.remember();
    this.view.settled(turn);
    this.#deliver();
  }

  #sentence({ code, message }) {
    const { errors } = this.text;
    return Object.hasOwn(errors, code) ? errors[code] : message || errors.internal;
  }

  /** Another visitor or another bot than the remembered one: their conversation is neither shown nor continued. */
  #recognise(identity) {
    const known = this.state.identity;
    if (known && known !== identity) this.#forget();
    const recalled = this.#recalled;
    this.#recalled = null;
    this.remember({ identity });
    if (recalled?.identity !== identity) return;
    this.remember({ conversationId: recalled.conversationId, turns: [...recalled.turns, ...this.state.turns] });
    this.view.changed();
  }

  #forget() {
    this.#recalled = null;
    this.remember({ turns: [], conversationId: null });
    this.view.changed();
  }
}
