/** What all parts of the page share: finding and making elements, calling the dashboard's server, saying things. */

export const $ = (id) => document.getElementById(id);

/** An element; a function among the attributes is a listener, a string among the children is text. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** The JSON answer, or an Error whose message is a sentence for the owner. */
export async function call(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(`/dashboard/api${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The dashboard's server does not answer. Is the stack up?");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(sentence(answer, response.status));
  return answer;
}

/** The sentence in an error answer; a list is the server's word that a field is not valid. */
export function sentence({ detail }, status) {
  if (Array.isArray(detail)) return detail.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join(". ");
  return detail || `The dashboard's server answered ${status}.`;
}

/** Says a sentence at the top of the page, or takes it away. */
export function say(text, bad = false) {
  const notice = $("notice");
  notice.textContent = text;
  notice.hidden = !text;
  notice.classList.toggle("bad", bad);
}

/** Runs an action that may fail, and says why it did. */
export async function attempt(action) {
  say("");
  try {
    return await action();
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}
