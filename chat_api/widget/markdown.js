/** A little Markdown (paragraphs, lists, tables, quotes, code, bold, italics, links, citations), as nodes. */

import { h, link, safeUrl } from "./dom.js";

const LINE_KINDS = {
  code: /^\s*```/,
  blank: /^\s*$/,
  ul: /^\s*[-*+•]\s+/,
  ol: /^\s*\d{1,9}[.)]\s+/,
  quote: /^\s*>\s?/,
  table: /^\s*\|(?=.*\|\s*$)/,
  heading: /^#{1,6}\s+/,
  text: /^/,
};

/** A wider table is no table for a chat; laying it out would hold the page up. */
const MAX_COLUMNS = 20;

const INLINE = new RegExp(
  [
    /`(?<code>[^`\n]+)`/,
    /\[(?<cite>\d{1,3})\](?!\()/,
    /\*\*(?<bold>[^*\n]+)\*\*/,
    /\*(?<italic>[^*\s][^*\n]*)\*/,
    /\[(?<label>[^[\]\n]{1,300})\]\((?<href>(?:[^()\s]|\([^()\s]*\)){1,2000})\)/,
    /(?<bare>https?:\/\/[^\s<>()"'\]*`]+)/,
  ].map((pattern) => pattern.source).join("|"),
  "g",
);

/** Text to blocks `{kind, lines}`. */
export function splitBlocks(text) {
  const blocks = [];
  let open = null;
  for (const line of text.split(/\r\n?|\n/)) {
    const kind = Object.keys(LINE_KINDS).find((name) => LINE_KINDS[name].test(line));
    if (open?.kind === "code") {
      if (kind === "code") open = null;
      else open.lines.push(line);
    } else if (kind === "blank") {
      open = null;
    } else if (continues(open, kind)) {
      open.lines.push(line);
    } else {
      open = { kind, lines: kind === "code" ? [] : [line] };
      blocks.push(open);
    }
  }
  return blocks;
}

function continues(open, kind) {
  if (!open || kind === "code" || open.kind === "heading") return false;
  return open.kind === kind || (kind === "text" && open.kind !== "table");
}

/** One block's element. `cite(n)` gives the link of an offered source, or null: then `[n]` stays text. */
export function blockNode({ kind, lines }, cite) {
  const strip = (line) => line.replace(LINE_KINDS[kind], "");
  if (kind === "code") return h("pre", { tabindex: "0" }, h("code", {}, lines.join("\n")));
  if (kind === "ul" || kind === "ol") return listNode(kind, lines, strip, cite);
  if (kind === "table") return tableNode(lines, strip, cite);
  if (kind === "quote") return h("blockquote", {}, ...splitBlocks(lines.map(strip).join("\n")).map((block) => quotedNode(block, cite)));
  const content = lines.flatMap((line, i) => [...(i ? [h("br")] : []), ...inlineNodes(strip(line), cite)]);
  return h("p", {}, ...(kind === "heading" ? [h("strong", {}, ...content)] : content));
}

/** A quote in a quote is text: depth costs stack, and strangers write this. */
function quotedNode(block, cite) {
  return blockNode(block.kind === "quote" ? { ...block, kind: "text" } : block, cite);
}

function tableNode(lines, strip, cite) {
  if (lines.some((line) => line.split("|").length > MAX_COLUMNS)) return blockNode({ kind: "text", lines }, cite);
  const ruled = /^[\s|:-]+$/.test(lines[1] ?? "");
  const rows = lines.filter((_, i) => !(ruled && i === 1)).map((line, i) => {
    const cells = strip(line).trim().replace(/\|$/, "").split("|");
    return h("tr", {}, ...cells.map((cell) => h(ruled && !i ? "th" : "td", {}, ...inlineNodes(cell.trim(), cite))));
  });
  return h("div", { class: "table", tabindex: "0" }, h("table", {}, ...rows));
}

function listNode(kind, lines, strip, cite) {
  const list = h(kind, kind === "ol" ? { start: parseInt(lines[0], 10) } : {});
  for (const line of lines) {
    const item = strip(line);
    if (item === line) list.lastChild.append(" ", ...inlineNodes(line.trim(), cite));
    else list.append(h("li", {}, ...inlineNodes(item, cite)));
  }
  return list;
}

function inlineNodes(text, cite) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(end, match.index), ...inlineMatch(match, cite));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

function inlineMatch({ 0: raw, groups }, cite) {
  const { code, cite: n, bold, italic, label, href, bare } = groups;
  if (code) return [h("code", {}, code)];
  if (n) return [cite(Number(n)) ?? raw];
  if (bold) return [h("strong", {}, ...inlineNodes(bold, cite))];
  if (italic) return [h("em", {}, ...inlineNodes(italic, cite))];
  const address = href ?? bare.replace(/[.,;:!?]+$/, "");
  const url = safeUrl(address);
  if (!url) return [raw];
  return href ? [link(url, label)] : [link(url, address), raw.slice(address.length)];
}
