/** One authenticated socket, kept open: token renewal, back-off, heartbeat, close codes. */

const HEARTBEAT_MS = 25_000;
const STABLE_MS = 10_000;
const MAX_DELAY_MS = 30_000;
const TOKEN_TIMEOUT_MS = 15_000;
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The token address works and has no token for this visitor: asking it again by itself would be no help. */
class NoToken extends Error {}

/** The token's claims, read for its lifetime and whose it is, trusted for nothing else. */
const claimsOf = (token) => JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));

/** The token in a body that is `{"token": "…"}` or the bare token; null when it is neither. */
function tokenIn(body) {
  try {
    const token = body.startsWith("{") ? JSON.parse(body).token : body;
    return claimsOf(token) && token;
  } catch {
    return null;
  }
}

async function fetchToken(url) {
  const options = { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(TOKEN_TIMEOUT_MS) };
  const response = await fetch(url, options).catch(({ message }) => {
    throw new Error(`the token address can't be reached: ${message}`);
  });
  const { ok, status } = response;
  const Reason = status < 500 && status !== 408 && status !== 429 ? NoToken : Error;
  if (!ok) throw new Reason(`the token address answered ${status}`);
  const token = tokenIn((await response.text()).trim());
  if (!token) throw new NoToken("the token address answered something that is no token");
  return token;
}

export class Connection {
  /** The socket that is open or opening; `ready` once the server has let us in on it. */
  socket = null;
  ready = false;
  #wanted = false;
  #connecting = false;
  #attempt = 0;
  #readyAt = Infinity;
  #triedFreshToken = false;
  #heard = true;
  #retryTimer;
  #renewTimer;
  #heartbeat;
  #reported = new Set();

  /**
   * `on`: `frame(frame)`, `status(name)`, `refused(name)` when it will not try again by itself, `identity(text)` of a
   * token before it is used, `tooBig()`.
   */
  constructor(tokenUrl, socketUrl, on) {
    Object.assign(this, { tokenUrl, socketUrl, on });
  }

  open() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempt = 0;
    this.#triedFreshToken = false;
    this.#connect();
  }

  close() {
    this.#wanted = false;
    this.#drop();
  }

  /** The network came back: don't wait for the next attempt. */
  wake() {
    if (this.ready) this.on.status("ready");
    else if (this.#wanted && !this.socket) this.#connect();
  }

  /** True when the frame left; nothing is sent before the server said `ready`. */
  send(frame) {
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  async #connect() {
    clearTimeout(this.#retryTimer);
    if (this.#connecting) return;
    this.#connecting = true;
    if (navigator.onLine && !this.#attempt) this.on.status("connecting");
    try {
      const token = await fetchToken(this.tokenUrl);
      if (this.#wanted && !this.socket) this.#dial(token);
    } catch (error) {
      this.#report(error);
      if (!this.#wanted) return;
      if (error instanceof NoToken) this.#giveUp("unavailable");
      else this.#retry();
    } finally {
      this.#connecting = false;
    }
  }

  /** Tells who built the page, once: what is wrong there stays wrong. */
  #report({ message }) {
    if (!this.#reported.has(message)) console.error(`chat widget: ${message}`);
    this.#reported.add(message);
  }

  #dial(token) {
    const socket = new WebSocket(this.socketUrl, "chat.v1");
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
    socket.onmessage = (event) => this.socket === socket && this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.socket === socket && this.#closed(event.code);
    this.#heard = true;
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#adopt(token);
  }

  #receive(frame) {
    this.#heard = true;
    if (frame.type === "ready") {
      if (!this.ready) this.#readyAt = Date.now();
      this.ready = true;
      this.on.status("ready");
    }
    this.on.frame(frame);
  }

  #closed(code) {
    const wasReady = this.ready;
    if (Date.now() - this.#readyAt > STABLE_MS) {
      this.#attempt = 0;
      this.#triedFreshToken = false;
    }
    this.#drop();
    if (code === 4403 && !wasReady) return this.#giveUp("forbidden");
    if (code === 4401 && this.#triedFreshToken) return this.#giveUp("rejected");
    if (code === 4401) {
      this.#triedFreshToken = true;
      return this.#connect();
    }
    if (code === 1009) this.on.tooBig();
    if (code === 4429 || code === 1013) this.#attempt = Math.max(this.#attempt, 3);
    return this.#retry();
  }

  #drop() {
    const { socket } = this;
    Object.assign(this, { socket: null, ready: false });
    this.#readyAt = Infinity;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#renewTimer);
    clearInterval(this.#heartbeat);
    socket?.close();
  }

  #giveUp(status) {
    this.#wanted = false;
    this.on.refused(status);
  }

  #retry() {
    const ceiling = Math.min(MAX_DELAY_MS, 1000 * 2 ** this.#attempt++);
    this.#retryTimer = setTimeout(() => this.#connect(), ceiling * (0.5 + Math.random() / 2));
    this.on.status(navigator.onLine ? "retrying" : "offline");
  }

  /** A peer that said nothing since the last ping is gone, whatever the browser thinks of its socket. */
  #beat() {
    if (!this.#heard) return this.#closed(1006);
    this.#heard = false;
    return this.send({ type: "ping" });
  }

  #adopt(token) {
    const { iat, exp, org_id, bot_id, sub } = claimsOf(token);
    this.on.identity([org_id, bot_id, sub].join("/"));
    // Counted from the token's own lifetime, so that a visitor's wrong clock does no harm.
    if (exp > iat) this.#renewIn((exp - iat) * 800);
  }

  #renewIn(ms) {
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#renew(), Math.min(Math.max(ms, 1000), MAX_TIMER_MS));
  }

  async #renew() {
    const { socket } = this;
    try {
      const token = await fetchToken(this.tokenUrl);
      if (socket !== this.socket) return;
      this.send({ type: "auth", token });
      this.#adopt(token);
    } catch (error) {
      this.#report(error);
      if (socket === this.socket) this.#renewIn(15_000);
    }
  }
}
