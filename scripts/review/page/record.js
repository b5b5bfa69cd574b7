// One record: conversation, expected against actual, entities, scores, and what a reader proposes to correct.

import { again, button, byId, check, element, fail, field, get, go, keyButton, number, paragraph, post, readerName, say,
  trying } from "./dom.js";
import { PAGE, collectionOf, filtersOf, isOpen, listKeys, partsOf, recordAddress, recordsAddress,
  showList } from "./list.js";
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

  const turn = (key, end) => () => {
    if (key === null) say(`This is the ${end} record.`);
    else go(keyAddress(collection, key, filters));
  };
  const [previous, next] = [turn(record.previous, "first"), turn(record.next, "last")];
  const up = () => go(upAddress(collection, record, filters));
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
    record.reason ? paragraph("notice", element("b", {}, "Set aside: "), record.reason) : null,
    element("div", { class: "card" }, turnRows(record.messages, (...turn) => spansInstead(record, ...turn)), compared),
    scores(collection, record), correct.nodes);
  if (collection.language) {
    for (const text of article.querySelectorAll(".card .turn:not(.small) .text")) text.lang = collection.language;
  }
  const variants = [record, ...(record.others ?? [])].map((each) => each.variant).sort();
  const nextVariant = () => {
    const to = variants[(variants.indexOf(record.variant) + 1) % variants.length];
    go(recordAddress(collection.id, { ...record, variant: to }, filters));
  };
  return {
    reading: true,
    title: `Record ${record.id}`,
    said: record.position ? `Record ${number(record.position)} of ${number(record.total)}` : null,
    nodes: [article],
    keys: [
      { keys: ["j", "→"], text: "next record", run: next },
      { keys: ["k", "←"], text: "previous record", run: previous },
      { keys: ["u"], text: "back to the records", run: up },
      ...(variants.length > 1 ? [{ keys: ["v"], text: "next variant", run: nextVariant }] : []),
      ...(record.diff ? [{ keys: ["d"], text: "mark differences, or not", run: () => byId("marking").click() }] : []),
      ...turnKeys(article), ...correct.keys, ...listKeys(),
    ],
  };
}

// Return how many records are before the page of the list that has this one.
const pageOf = (record) => Math.floor(((record.position ?? 1) - 1) / PAGE) * PAGE;

// Return the address of a neighbour, of which only the key is known; the view changes it to the stable one.
function keyAddress(collection, key, filters) {
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
  const meta = Object.entries(record.meta ?? {});
  const known = [["in", collection.title], ["variant", record.variant], ["prompts", record.set],
    ["label", record.label], ["group", record.group], ["from", record.origin], ...meta];
  return factList(known.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));
}

function factList(pairs, kind = "") {
  const items = pairs.map(([name, value]) => element("li", {}, element("b", {}, name), " ", value));
  return element("ul", { class: `facts ${kind}` }, items);
}

const isOfText = (record, role, text) => role === "user" && text.trim() === record.text?.trim();

const entities = (record) => spanNodes(record.text, record.gold, record.predicted);

// Return a turn's text with its entities, where the entities are of this turn.
const spansInstead = (record, role, text) => (isOfText(record, role, text) ? entities(record) : null);

function comparison(collection, record, filters) {
  const link = (to) => element("a", { href: recordAddress(collection.id, { ...record, variant: to }, filters) }, to);
  const actual = element("div");
  const draw = () => {
    actual.replaceChildren(...(record.diff && marking ? differences(record.diff) : [record.actual || "(empty)"]));
  };
  draw();
  const toggle = check({ id: "marking", checked: marking, onchange: (event) => {
    marking = event.target.checked;
    draw();
  } }, "mark words that were ", element("ins", {}, "added"), " or are ", element("del", {}, "missing"));
  const rows = [
    record.expected === null ? null : turnRow("expected", record.expected || "(empty)", "wanted"),
    record.actual === null ? null : turnRow(record.variant ?? "actual", actual),
    record.diff ? turnRow("", toggle, "soft small") : null,
    (record.others ?? []).map((each) => turnRow(link(each.variant), each.actual || "(empty)", "other")),
  ];
  if (record.text === null) return rows;
  const isShown = record.messages.some(({ role, content }) => isOfText(record, role, String(content)));
  return [isShown ? null : turnRow("text", entities(record)),
    element("details", {}, element("summary", { class: "soft" }, "Answers as text"), rows)];
}

function differences(pieces) {
  const tags = { added: "ins", missing: "del" };
  return pieces.map(({ kind, text }) => (tags[kind] ? element(tags[kind], {}, text) : text));
}

function scores(collection, record) {
  const titles = new Map(collection.scores.map((each) => [each.name, each.title]));
  const found = Object.entries(record.scores ?? {}).map(([name, value]) => [titles.get(name) ?? name, number(value)]);
  return found.length ? factList(found, "scores") : null;
}

// Return the buttons, keys and forms by which a reader proposes to leave a record out or to correct its text.
async function corrections(collection, record) {
  const was = record.correction ? notice(record.correction) : null;
  if (!(await isOpen(collection, record))) return { nodes: [was], keys: [] };
  const place = element("div");
  const open = (action, title) => () => {
    const text = action === "replace" && element("textarea", { name: "text", rows: 5, required: true });
    if (text) text.value = record.expected;
    const send = trying(async (event) => {
      const given = Object.fromEntries(new FormData(event.target));
      const proposal = { reader: readerName(), collection: collection.id, id: record.id, action, ...given };
      await post("/api/corrections", proposal);
      again();
      say("Proposed.");
    });
    const close = () => {
      place.replaceChildren();
      fail(null);
    };
    place.replaceChildren(element("form", { class: "card", onsubmit: send }, element("h2", {}, title),
      text && field("Corrected answer", text),
      field("Why (may be empty)", element("input", { name: "comment", maxlength: "500" })),
      paragraph("tools", element("button", {}, "Propose"), button("Cancel", close))));
    place.querySelector("textarea, input").focus();
  };
  const actions = [["x", "Mark as bad", "drop"], ["c", "Correct the text", "replace"]]
    .filter(([, , action]) => action === "drop" || (record.expected !== null && record.gold === null));
  const buttons = actions.map(([key, title, action]) => keyButton(title, key, open(action, title)));
  return {
    nodes: [was, paragraph("tools", buttons), place],
    keys: actions.map(([key, title, action]) => ({ keys: [key], text: title.toLowerCase(), run: open(action, title) })),
  };
}

function notice({ action, status, reader, comment, text }) {
  const what = `${action === "drop" ? "Marked as bad" : "Corrected"}, ${status}: `;
  const all = element("a", { href: "#/corrections" }, "all corrections");
  return paragraph("notice", element("b", {}, what), [reader, comment, text].filter(Boolean).join(" · "), " ", all);
}
