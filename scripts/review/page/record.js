// One record: conversation, expected against actual, entities, scores, and what a reader proposes to correct.

import { byId, element, fail, get, keyButton, button, number, post, readerName, say, trying } from "./dom.js";
import { PAGE, collectionOf, collections, filtersOf, listKeys, partsOf, recordAddress, recordsAddress, showList } from "./list.js";
import { spanNodes } from "./spans.js";
import { turnKeys, turnRow, turnRows } from "./turns.js";

let marking = true; // differences are marked

export async function recordView(parts, query) {
  const place = partsOf(parts);
  const collection = await collectionOf(parts.slice(0, place).join("/"));
  const [id, variant, set] = parts.slice(place);
  const filters = filtersOf(query);
  const wanted = id === undefined ? { key: query.get("key") } : { id, id_variant: variant, id_set: set };
  const record = await get("/api/record", { collection: collection.id, ...wanted, ...Object.fromEntries(filters) });
  if (id === undefined) history.replaceState(null, "", recordAddress(collection.id, record, filters));
  await showList(collection, filters, pageOf(record), record.key);

  const go = (key, end) => () => {
    if (key === null) say(`This is the ${end} record.`);
    else location.hash = goAddress(collection, key, filters);
  };
  const previous = go(record.previous, "first");
  const next = go(record.next, "last");
  const up = () => { location.hash = upAddress(collection, record, filters); };
  const compared = comparison(collection, record, filters);
  const correct = await corrections(collection, record);
  const article = element("article", {},
    element("div", { class: "tools" },
      keyButton("Records", "u", up, { class: "up" }),
      keyButton("Previous", "k", previous, { disabled: record.previous === null }),
      keyButton("Next", "j", next, { disabled: record.next === null }),
      record.position ? `${number(record.position)} of ${number(record.total)}` : "not among the filtered",
      element("a", { href: recordAddress(collection.id, record) }, "Link to this record")),
    element("h1", {}, `Record ${record.id}`), facts(collection, record),
    record.reason ? element("p", { class: "notice" }, element("b", {}, "Set aside: "), record.reason) : null,
    element("div", { class: "card" }, turnRows(record.messages, (role, text) => spansInstead(record, role, text)), compared.rows),
    scores(collection, record), correct.nodes);
  const others = compared.variants;
  const nextVariant = () => {
    const names = [record.variant, ...others.map((each) => each.variant)].sort();
    const to = names[(names.indexOf(record.variant) + 1) % names.length];
    location.hash = recordAddress(collection.id, { ...record, variant: to }, filters);
  };
  return {
    title: `Record ${record.id}`,
    said: `Record ${number(record.position)}`,
    nodes: [article],
    keys: [
      { keys: ["j", "→"], text: "next record", run: next },
      { keys: ["k", "←"], text: "previous record", run: previous },
      { keys: ["u"], text: "back to the records", run: up },
      ...(others.length ? [{ keys: ["v"], text: "next variant", run: nextVariant }] : []),
      ...(record.diff ? [{ keys: ["d"], text: "mark differences, or not", run: () => byId("marking").click() }] : []),
      ...turnKeys(article), ...correct.keys, ...listKeys(),
    ],
  };
}

// Return how many records are before the page of the list that has this one.
const pageOf = (record) => Math.floor(((record.position ?? 1) - 1) / PAGE) * PAGE;

function goAddress(collection, key, filters) {
  const query = new URLSearchParams(filters);
  query.set("key", key);
  return recordsAddress(collection.id, query).replace("#/records/", "#/record/");
}

function upAddress(collection, record, filters) {
  const query = new URLSearchParams(filters);
  if (pageOf(record)) query.set("offset", pageOf(record));
  return recordsAddress(collection.id, query);
}

function facts(collection, record) {
  const meta = Object.entries(record.meta ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]);
  const known = [["in", collection.title], ["variant", record.variant], ["prompts", record.set], ["label", record.label],
    ["group", record.group], ["from", record.origin], ...meta].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("ul", { class: "facts" }, known.map(([name, value]) => element("li", {}, element("b", {}, name), " ", value)));
}

// Return a turn's text with its entities where the entities are of this turn.
function spansInstead(record, role, text) {
  return role === "user" && text.trim() === record.text?.trim() ? spanNodes(record.text, record.gold, record.predicted) : null;
}

function comparison(collection, record, filters) {
  const variants = record.others ?? [];
  const link = (to) => element("a", { href: recordAddress(collection.id, { ...record, variant: to }, filters) }, to);
  const otherRows = variants.map((each) => turnRow(link(each.variant), each.actual || "(empty)", "other"));
  const actual = element("div");
  const rows = [
    record.expected === null ? null : turnRow("expected", record.expected || "(empty)", "wanted"),
    record.actual === null ? null : turnRow(record.variant ?? "actual", actual, "actual"),
  ];
  const draw = () => actual.replaceChildren(...(record.diff && marking ? differences(record.diff) : [record.actual || "(empty)"]));
  draw();
  if (record.text !== null) {
    const asked = record.messages.some(({ role, content }) => role === "user" && String(content).trim() === record.text.trim());
    const spans = asked ? null : turnRow("text", spanNodes(record.text, record.gold, record.predicted));
    return { variants, rows: [spans, element("details", {}, element("summary", { class: "soft" }, "Answers as text"), rows, otherRows)] };
  }
  const mark = (event) => {
    marking = event.target.checked;
    draw();
  };
  const toggle = element("label", { class: "check soft small" },
    element("input", { type: "checkbox", id: "marking", checked: marking, onchange: mark }),
    element("span", {}, "mark words that were ", element("ins", {}, "added"), " or are ", element("del", {}, "missing")));
  return { variants, rows: [rows, record.diff ? turnRow("", toggle) : null, otherRows] };
}

function differences(pieces) {
  const tags = { added: "ins", missing: "del" };
  return pieces.map(({ kind, text }) => (tags[kind] ? element(tags[kind], {}, text) : text));
}

function scores(collection, record) {
  const titles = new Map(collection.scores.map((each) => [each.name, each.title]));
  const found = Object.entries(record.scores ?? {});
  if (!found.length) return null;
  return element("ul", { class: "facts scores", "aria-label": "Scores" },
    found.map(([name, value]) => element("li", {}, element("b", {}, titles.get(name) ?? name), " ", number(value))));
}

// Return the buttons, keys and forms that mark a record as bad or correct its text; as a proposal, which another page accepts.
async function corrections(collection, record) {
  const known = record.correction;
  const was = known && element("p", { class: "notice" }, element("b", {}, `${known.action === "drop" ? "Marked as bad" : "Corrected"}, ${known.status}: `),
    [known.reader, known.comment, known.text].filter(Boolean).join(" · "), " ", element("a", { href: "#/corrections" }, "all corrections"));
  if (!collection.dataset || (await collections()).readonly) return { nodes: [was], keys: [] };
  const place = element("div");
  const open = (action) => () => {
    const text = action === "replace" && element("textarea", { name: "text", rows: 5, required: true });
    if (text) text.value = record.expected ?? "";
    const send = trying(async (event) => {
      const given = Object.fromEntries(new FormData(event.target));
      await post("/api/corrections", { reader: readerName(), collection: collection.id, id: record.id, action, ...given });
      window.dispatchEvent(new Event("review:again"));
      say("Proposed.");
    });
    const title = action === "drop" ? "Mark as bad" : "Correct the text";
    place.replaceChildren(element("form", { class: "card correction", onsubmit: send }, element("h2", {}, title),
      text && element("label", {}, "Corrected answer", text),
      element("label", {}, "Why (may be empty)", element("input", { name: "comment", maxlength: "500" })),
      element("p", { class: "tools" }, element("button", {}, "Propose"), button("Cancel", () => { place.replaceChildren(); fail(null); }))));
    place.querySelector("textarea, input").focus();
  };
  const actions = [["x", "Mark as bad", open("drop")]];
  if (record.expected !== null && record.gold === null) actions.push(["c", "Correct the text", open("replace")]);
  return {
    nodes: [was, element("p", { class: "tools" }, actions.map(([key, title, run]) => keyButton(title, key, run))), place],
    keys: actions.map(([key, title, run]) => ({ keys: [key], text: title.toLowerCase(), run })),
  };
}
