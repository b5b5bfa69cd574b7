// The turns of a conversation, with long system turns folded and images that can be enlarged.

import { button, byId, element, keyButton, number } from "./dom.js";

const LONG = 300; // characters of a system turn that is shown whole
const LARGE = 384; // pixels of the longer side of an image beside its text
const STEP = 1.25; // of the zoom

// Return a row: who says it, and what.
export function turnRow(who, content, kind = "") {
  return element("div", { class: `turn ${kind}` }, element("div", { class: "who" }, who),
    element("div", { class: "text" }, content));
}

const plainText = (content) => (typeof content === "string" ? content
  : content.filter((each) => each.type === "text").map((each) => each.text).join("\n"));

// Return the rows of a prompt; `instead` may give other nodes for a turn's text.
export function turnRows(messages, instead = () => null) {
  return messages.map((message) => {
    const text = plainText(message.content);
    const parts = typeof message.content === "string" ? [text] : message.content.map(partOf);
    if (message.role === "system" && text.length > LONG) {
      const summary = element("summary", {}, `${number(text.length)} characters`);
      return turnRow(message.role, element("details", { class: "system" }, summary, parts), "soft");
    }
    return turnRow(message.role, instead(message.role, text) ?? parts, message.role === "user" ? "" : "soft");
  });
}

function partOf(part) {
  if (part.type !== "image") return part.text;
  if (!part.url?.startsWith("/image/")) return element("span", { class: "soft" }, "[image: missing]");
  const { url, width, height } = part; // width and height may be null
  const image = element("img", { src: url, alt: "", width, height });
  if (width) image.style.width = `${Math.round(Math.min(width, LARGE, (LARGE * width) / height))}px`;
  const name = width ? `Enlarge the image of ${width} x ${height} pixels` : "Enlarge the image";
  const open = () => enlarge(url, width ?? image.naturalWidth, height ?? image.naturalHeight);
  return button(image, open, { class: "picture", "aria-label": name });
}

function enlarge(url, width, height) {
  const image = element("img", { src: url, alt: `Image of ${width} x ${height} pixels` });
  const named = { role: "region", "aria-label": "Image, to be scrolled" };
  const box = element("div", { class: "box", tabindex: "0", ...named }, image);
  let scale = null; // the image fits the window
  const fitting = () => Math.min(1, box.clientWidth / width, box.clientHeight / height);
  const zoom = (to) => {
    scale = to;
    image.style.width = `${Math.round(width * (scale ?? fitting()))}px`;
  };
  const by = (factor) => () => zoom(Math.min(8, Math.max(0.05, (scale ?? fitting()) * factor)));
  const actions = [["Larger", "+", by(STEP)], ["Smaller", "-", by(1 / STEP)], ["Fit", "0", () => zoom(null)],
    ["Pixel for pixel", "1", () => zoom(1)]];
  const controls = actions.map(([name, key, run]) => keyButton(name, key, run));
  const dialog = byId("zoom");
  controls.push(keyButton("Close", "Esc", () => dialog.close()));
  dialog.replaceChildren(element("div", { class: "tools" }, controls), box);
  dialog.onkeydown = (event) => {
    if (byId("keys-on").checked) actions.find(([, key]) => key === event.key)?.[2]();
  };
  dialog.showModal();
  box.focus();
  zoom(null);
}

// Return the keys of what is shown in `within`.
export function turnKeys(within) {
  const folded = within.querySelectorAll("details.system");
  const picture = within.querySelector(".picture");
  const fold = () => {
    const open = [...folded].some((each) => !each.open);
    for (const each of folded) each.open = open;
  };
  return [
    ...(folded.length ? [{ keys: ["s"], text: "fold or unfold system turns", run: fold }] : []),
    ...(picture ? [{ keys: ["z"], text: "enlarge the image", run: () => picture.click() }] : []),
  ];
}
