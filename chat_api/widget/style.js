/** The style sheet, used as a constructed one: it passes a host page's strict style-src, where <style> would not. */

/** Luminances: of text that stands out 4.5 : 1 from the light grounds below, and of a ground from which white does. */
const MAX_ON_LIGHT = 0.155;
const MAX_UNDER_WHITE = 0.179;

export const CSS_TEXT = `
  :host { --accent: #2355d3; --on-accent: #fff; --bg: #fff; --fg: #1b1f24; --muted: #5c6570; --line: #e1e4e8;
    --soft: #f4f5f7; --bad: #a4260f; --link: var(--accent); all: initial; color-scheme: light dark;
    font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--fg); }
  @media (prefers-color-scheme: dark) { :host { --bg: #16191d; --fg: #e7e9ec; --muted: #9aa3ad; --line: #30363d;
    --soft: #22272d; --bad: #ff9b86; --link: color-mix(in srgb, var(--accent) 40%, #fff); } }
  * { box-sizing: border-box; }
  :host([data-target]) { display: block; height: 100%; }
  [hidden], .disclaimer:empty, .chips:empty, small:empty { display: none !important; }
  button, textarea { font: inherit; color: inherit; margin: 0; }
  button { cursor: pointer; background: none; border: 0; padding: 0; }
  :focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
  svg { width: 20px; height: 20px; display: block; fill: none; stroke: currentColor; stroke-width: 1.8;
    stroke-linecap: round; stroke-linejoin: round; }
  .launcher { position: fixed; bottom: 20px; right: 20px; z-index: 2147483000; width: 56px; height: 56px;
    border-radius: 50%; background: var(--accent); color: var(--on-accent); display: grid; place-items: center;
    box-shadow: 0 4px 16px rgb(0 0 0 / .25); }
  .launcher svg { width: 26px; height: 26px; }
  .panel { display: flex; flex-direction: column; background: var(--bg); overflow: hidden; }
  .floating .panel { position: fixed; bottom: 90px; right: 20px; z-index: 2147483000; width: 390px; height: 620px;
    max-height: calc(100vh - 110px); border: 1px solid var(--line); border-radius: 14px;
    box-shadow: 0 12px 40px rgb(0 0 0 / .22); animation: rise .16s ease-out; }
  .left .launcher, .left .panel { right: auto; left: 20px; }
  .inline, .inline .panel { height: 100%; }
  header { display: flex; align-items: center; gap: 4px; padding: 10px 10px 10px 16px; border-bottom: 1px solid var(--line); }
  h2 { flex: 1; margin: 0; font-size: 16px; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .tool { padding: 7px; border-radius: 8px; color: var(--muted); }
  .tool:hover, .tool[aria-pressed=true] { background: var(--soft); color: var(--fg); }
  .log { flex: 1; overflow-y: auto; overscroll-behavior: contain; padding: 16px; overflow-wrap: anywhere; }
  .question { margin: 18px 0 12px auto; width: fit-content; max-width: 85%; padding: 8px 13px; white-space: pre-wrap;
    border-radius: 14px 14px 3px 14px; background: var(--accent); color: var(--on-accent); }
  .body > :first-child { margin-top: 0; } .body > :last-child { margin-bottom: 0; }
  p, ul, ol, pre, blockquote { margin: 0 0 10px; }
  ul, ol { padding-left: 22px; } li { margin: 2px 0; }
  blockquote { border-left: 3px solid var(--line); padding-left: 12px; }
  code { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; background: var(--soft); padding: 1px 4px; border-radius: 4px; }
  pre { background: var(--soft); padding: 10px 12px; border-radius: 8px; overflow-x: auto; } pre code { padding: 0; }
  .table { overflow-x: auto; margin: 0 0 10px; } table { border-collapse: collapse; font-size: 13px; overflow-wrap: normal; }
  td, th { border: 1px solid var(--line); padding: 4px 8px; text-align: left; vertical-align: top; } th { background: var(--soft); }
  a { color: var(--link); }
  .cite { font-size: 11px; font-weight: 600; line-height: 1; vertical-align: 3px; text-decoration: none; padding: 1px 5px;
    margin: 0 1px; border-radius: 8px; background: var(--soft); border: 1px solid var(--line); }
  .sources { margin-top: 12px; padding-top: 10px; border-top: 1px solid var(--line); font-size: 13px; }
  .sources h3 { margin: 0 0 4px; font-size: 12px; font-weight: 600; color: var(--muted); }
  .sources ol { list-style: none; padding: 0; margin: 0; }
  .sources li { display: flex; gap: 8px; padding: 3px 0; border-radius: 6px; } .sources li:focus { background: var(--soft); }
  .sources .n { color: var(--muted); min-width: 14px; font-variant-numeric: tabular-nums; }
  .sources small { display: block; color: var(--muted); font-size: 12px; }
  .actions { display: flex; align-items: center; gap: 2px; margin: 8px 0 0 -7px; }
  .actions svg { width: 16px; height: 16px; } .actions .note { margin: 0 0 0 4px; }
  .tool[aria-pressed=true] { color: var(--link); }
  .note { margin: 8px 0 0; font-size: 13px; color: var(--muted); } .note.bad { color: var(--bad); }
  .chips { border: 0; padding: 0; min-width: 0; display: flex; flex-wrap: wrap; gap: 8px; margin: 12px 0 0; }
  .chip { border: 1px solid var(--line); border-radius: 16px; padding: 5px 12px; text-align: left; font-size: 14px; color: var(--link); }
  .chip:hover { background: var(--soft); } .chip:disabled { opacity: .5; cursor: default; }
  .status { margin: 0; padding: 6px 16px; font-size: 13px; color: var(--muted); background: var(--soft); } .status:empty { display: none; }
  .status button { margin-left: 8px; color: var(--link); text-decoration: underline; }
  .composer { display: flex; align-items: flex-end; gap: 8px; padding: 10px 12px; border-top: 1px solid var(--line); }
  textarea { flex: 1; min-width: 0; resize: none; max-height: 130px; padding: 7px 11px; border: 1px solid var(--line);
    border-radius: 10px; background: var(--bg); field-sizing: content; font-size: 16px; }
  textarea:focus-visible { outline-offset: -1px; }
  textarea::placeholder { color: var(--muted); opacity: 1; }
  .send { width: 40px; height: 40px; flex: none; border-radius: 10px; background: var(--accent); color: var(--on-accent);
    display: grid; place-items: center; } .send:disabled { opacity: .45; cursor: default; }
  .disclaimer { margin: 0; padding: 0 14px 10px; font-size: 12px; color: var(--muted); }
  .thinking { color: var(--muted); animation: pulse 1.4s ease-in-out infinite; }
  .quiet { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  @keyframes pulse { 50% { opacity: .45; } }
  @keyframes rise { from { opacity: 0; transform: translateY(8px); } }
  @media (max-width: 480px) { .floating .panel { inset: 0; width: 100%; height: 100%; height: 100dvh; max-height: none;
    border: 0; border-radius: 0; } .floating .panel:not([hidden]) + .launcher { display: none; } }
  @media (prefers-reduced-motion: reduce) { * { animation: none !important; } }`;

/** Sets what keeps text on the accent, and links in it on a light ground, readable. `accent` is its computed value. */
export function keepReadable(style, accent) {
  const light = luminance(accent);
  if (light > MAX_UNDER_WHITE) style.setProperty("--on-accent", "#000");
  // Mixed with black, a colour loses luminance about with the square of what is left of it.
  const share = Math.sqrt(MAX_ON_LIGHT / light);
  if (share < 1) style.setProperty("--link", `color-mix(in srgb, var(--accent) ${share * 100}%, #000)`);
}

/** WCAG's relative luminance, 0 to 1. A colour computes in the notation it was written in; a painted pixel has one only. */
function luminance(colour) {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue] = Array.from(canvas.getImageData(0, 0, 1, 1).data, (byte) => {
    const channel = byte / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
