// Entities in a text: the expected ones as background, the found ones as a line below it.

import { element, paragraph } from "./dom.js";

const GOLDEN = 137.5; // degrees: neighbouring classes get colours that are far apart
const hues = new Map();

function hue(label) {
  if (!hues.has(label)) hues.set(label, Math.round((205 + hues.size * GOLDEN) % 360));
  return hues.get(label);
}

const same = (one, other) => one.every((value, place) => value === other[place]);

// Return the pieces of a text: {text, gold, found, ends}, where `ends` are the spans that end there. Offsets are code
// points, not the UTF-16 units of a string.
export function pieces(text, gold, found) {
  const characters = Array.from(text);
  const all = [...gold, ...(found ?? [])];
  const places = new Set([0, characters.length, ...all.flatMap(([start, end]) => [start, end])]);
  const cuts = [...places].sort((one, other) => one - other);
  const over = (spans, start) => (spans ?? []).find((span) => span[0] <= start && start < span[1]) ?? null;
  return cuts.slice(0, -1).map((start, place) => {
    const end = cuts[place + 1];
    const ending = (spans) => (spans ?? []).filter((span) => span[1] === end);
    return { text: characters.slice(start, end).join(""), gold: over(gold, start), found: over(found, start),
      ends: { gold: ending(gold), found: ending(found) } };
  });
}

// Return the nodes of a text with its entities.
export function spanNodes(text, gold, found) {
  const nodes = pieces(text, gold ?? [], found).flatMap((piece) => {
    if (!piece.gold && !piece.found) return [piece.text];
    const mark = element("mark", { class: `${piece.gold ? "gold" : ""} ${piece.found ? "found" : ""}` }, piece.text);
    if (piece.gold) mark.style.setProperty("--gold", hue(piece.gold[2]));
    if (piece.found) mark.style.setProperty("--found", hue(piece.found[2]));
    return [mark, ...tags(piece.ends, found)];
  });
  return [element("div", { class: "entities" }, nodes), legend(gold ?? [], found)];
}

function tags({ gold, found }, predicted) {
  const tag = (text, kind) => element("span", { class: `tag ${kind}` }, text);
  if (!predicted) return gold.map((span) => tag(span[2], ""));
  const isFound = (span) => found.some((other) => same(span, other));
  const isGold = (span) => gold.some((other) => same(span, other));
  return [
    ...gold.map((span) => (isFound(span) ? tag(`✔ ${span[2]}`, "good") : tag(`expected: ${span[2]}`, "bad"))),
    ...found.filter((span) => !isGold(span)).map((span) => tag(`✘ found: ${span[2]}`, "bad")),
  ];
}

function legend(gold, found) {
  const expected = element("mark", { class: "gold plain" }, "expected");
  if (!found) return paragraph("soft small", expected, `: ${gold.length}`);
  const right = gold.filter((span) => found.some((other) => same(span, other))).length;
  const predicted = element("mark", { class: "found plain" }, "found");
  const counts = `: ${found.length}; exactly right: ${right}.`;
  return paragraph("soft small", expected, `: ${gold.length}; `, predicted, counts);
}
