/** Building the DOM node by node: neither this nor what uses it ever parses HTML. */

const ICONS = {
  chat: "M4 5h16v11H9l-5 4z",
  close: "M6 6l12 12M18 6L6 18",
  restart: "M5 12a7 7 0 1 0 2-5M5 4v4h4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  up: "M7 11v9H4v-9zM7 11l4-7c2 0 2.500 1 2.200 3L13 10h6l-1.500 10H7",
  down: "M17 13V4h3v9zM17 13l-4 7c-2 0-2.500-1-2.200-3l.2-3H5L6.500 4H17",
};

/** An element. A function among the attributes is a listener; a string among the children is text, never markup. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== ""));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function iconButton(name, label, className, click, more = {}) {
  const attributes = { type: "button", class: className, "aria-label": label, title: label, click, ...more };
  return h("button", attributes, icon(name));
}

export function textButton(label, className, click) {
  return h("button", { type: "button", class: className, click }, label);
}

/** Text for ears only. */
export const quiet = (text) => h("span", { class: "quiet" }, text);

/** The address when it is safe to link to (absolute, http or https, no user name that poses as a host), else null. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) && !url.username && !url.password ? url : null;
  } catch {
    return null;
  }
}

export function link(url, ...children) {
  return h("a", { href: url.href, target: "_blank", rel: "noopener", title: url.host }, ...children);
}
