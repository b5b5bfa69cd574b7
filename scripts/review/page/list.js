// The collections, and the records of one with filters: a pane beside the record, which stays while records change.

import { again, button, byId, check, counted, element, field, get, go, kbd, keyList, number, paragraph,
  table } from "./dom.js";

export const PAGE = 50;
const FILTERS = ["q", "label", "variant", "set", "errors", "sort", "order"];
const KINDS = { answers: "Answers", split: "Datasets", quarantine: "Set aside", file: "Files" };

let known = null; // the collections
let shown = {}; // what the pane shows: collection, filters, offset
let rows = []; // its records
let read = null; // key of the record that is or was read

// Return the collections by id; asked for once.
export async function collections() {
  known ??= get("/api/collections").catch((error) => {
    known = null;
    throw error;
  });
  return new Map((await known).collections.map((each) => [each.id, each]));
}

// Return whether readers may propose corrections of a record: answers to other prompts than the test split's have none.
export async function isOpen({ kind, dataset }, { set }) {
  const isOfSplit = kind === "split" || (kind === "answers" && set === "test");
  return isOfSplit && dataset !== null && !(await known).readonly;
}

export async function collectionOf(id) {
  const found = (await collections()).get(id);
  if (!found) throw new Error(`There is no collection ${id}. Open its folder or file with \`make review\`.`);
  return found;
}

// Return how many parts of an address name the collection: dataset/D/SPLIT, run/R, file/N.
export const partsOf = (parts) => (parts[0] === "dataset" ? 3 : 2);

const path = (parts) => parts.map(encodeURIComponent).join("/");

export function filtersOf(query) {
  const kept = new URLSearchParams();
  for (const name of FILTERS) if (query.get(name)) kept.set(name, query.get(name));
  return kept;
}

const withFilters = (address, filters) => (String(filters) ? `${address}?${filters}` : address);

export const recordsAddress = (id, filters) => withFilters(`#/records/${path(id.split("/"))}`, filters);

// Return the stable address of a record, with the filters that its neighbours are to match.
export function recordAddress(id, record, filters = "") {
  const answer = record.variant ? [record.variant, record.set].filter(Boolean) : [];
  return withFilters(`#/record/${path([...id.split("/"), record.id, ...answer])}`, filters);
}

export async function collectionsView() {
  known = null;
  const all = [...(await collections()).values()].filter((each) => each.count);
  const found = Object.keys(KINDS).flatMap((kind) => all.filter((each) => each.kind === kind));
  const links = found.map((each) => element("a", { href: recordsAddress(each.id, "") }, each.title));
  const tables = Object.entries(KINDS).map(([kind, title]) => {
    const of = found.filter((each) => each.kind === kind);
    const row = (each) => {
      const place = found.indexOf(each);
      const key = place < 9 && kbd(String(place + 1));
      return [[links[place], " ", key || ""], number(each.count), each.variants.join(", ")];
    };
    const heads = ["name", "records", "variants"].slice(0, kind === "answers" ? 3 : 2);
    return of.length ? table(title, heads, of.map((each) => row(each).slice(0, heads.length))) : null;
  });
  const none = paragraph("", "Nothing is open: give `make review` a folder of results or a file of records.");
  const open = (place) => ({ keys: [String(place + 1)], text: found[place].title, run: () => links[place].click() });
  return {
    title: "Read",
    nodes: [element("h1", {}, "Read"), element("div", { class: "collections" }, found.length ? tables : none)],
    keys: found.slice(0, 9).map((_, place) => open(place)),
  };
}

// Show the records of a collection, from `offset` on, in the pane; mark the one with this key, or the last one.
export async function showList(collection, filters, offset, key = collection.id === shown.id ? read : null) {
  const wanted = { id: collection.id, filters: String(filters), offset };
  read = key;
  if (wanted.id !== shown.id) byId("list").replaceChildren(form(collection), ...["count", "rows", "pages"].map(part));
  if (Object.entries(wanted).some(([name, value]) => shown[name] !== value)) {
    shown = wanted;
    fill(filters);
    const asked = { collection: wanted.id, offset, limit: PAGE, ...Object.fromEntries(filters) };
    // A search without a word is refused; the form stays, so that the reader can change it.
    const found = await get("/api/records", asked).catch((error) => ({ total: 0, records: [], error: error.message }));
    if (shown !== wanted) return;
    rows = found.records;
    const last = offset + rows.length;
    const range = `${number(offset + 1)} to ${number(last)} of ${number(found.total)}`;
    byId("count").textContent = found.total ? range : found.error ?? "no records";
    byId("rows").replaceChildren(...rows.map((row) => line(collection, row, filters)));
    byId("pages").replaceChildren(...pages(collection, filters, offset, found.total));
    byId("list").scrollTop = 0;
    if (found.error) shown = { id: wanted.id }; // to be asked for again
  }
  for (const [place, row] of rows.entries()) {
    const link = byId("rows").children[place].firstChild;
    if (row.key === key) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

const part = (id) => element(id === "rows" ? "ol" : "div", { id, class: "soft" });

function line(collection, row, filters) {
  const facts = [row.is_error && element("span", { class: "bad" }, "✘ error"), row.label, row.variant,
    row.score !== null && `${scoreTitle(collection, filters.get("sort"))} ${number(row.score)}`];
  const facing = facts.filter(Boolean).flatMap((fact) => [" · ", fact]).slice(1);
  return element("li", {}, element("a", { href: recordAddress(collection.id, row, filters) },
    element("span", { class: "excerpt", lang: collection.language }, row.text || "(empty)"), element("span", { class: "facts" }, facing)));
}

const scoreTitle = (collection, name) => collection.scores.find((each) => each.name === name)?.title ?? "";

function pages(collection, filters, offset, total) {
  const turn = (text, to) => button(text, () => {
    const query = new URLSearchParams(filters);
    query.set("offset", to);
    go(recordsAddress(collection.id, query));
  }, { disabled: to < 0 || to >= total });
  return total > PAGE ? [turn("Previous page", offset - PAGE), turn("Next page", offset + PAGE)] : [];
}

// Return the form of filters; a change shows the first page of what matches.
function form(collection) {
  const select = (name, title, options, otherwise = "all") => {
    const shown = [["", otherwise], ...options].map(([value, text]) => element("option", { value }, text));
    return options.length > 1 && field(title, element("select", { name, onchange: apply }, shown));
  };
  const same = (values) => (values ?? []).map((value) => [value, value]);
  const orders = collection.scores.flatMap(({ name, title }) => [
    [`${name} asc`, `${title}, lowest first`], [`${name} desc`, `${title}, highest first`]]);
  const judged = collection.kind === "answers" || collection.kind === "file";
  return element("form", { id: "filters", onsubmit: submitted },
    field("Search", element("input", { type: "search", name: "q", oninput: later })),
    select("label", "Label", same(collection.labels)),
    select("variant", "Variant", same(collection.variants)),
    select("set", "Prompts", same(collection.sets)),
    select("sort", "Sort", orders, "as in the file"),
    judged && check({ name: "errors", onchange: apply }, "errors only"));
}

// Let the form show the filters, but leave the field alone in which the reader types.
function fill(filters) {
  const sort = filters.get("sort") && `${filters.get("sort")} ${filters.get("order")}`;
  const values = { ...Object.fromEntries(filters), sort };
  for (const input of byId("filters").elements) {
    if (input.type === "checkbox") input.checked = filters.get(input.name) === "1";
    else if (input !== document.activeElement) input.value = values[input.name] ?? "";
  }
}

let waiting = null;
function later() {
  clearTimeout(waiting);
  waiting = setTimeout(apply, 250);
}

function submitted(event) {
  event.preventDefault();
  apply();
}

function apply() {
  clearTimeout(waiting);
  const { sort, errors, ...given } = Object.fromEntries(new FormData(byId("filters")));
  const [by, order] = (sort ?? "").split(" ");
  const wanted = Object.entries({ ...given, errors: errors && "1", sort: by, order }).filter(([, value]) => value);
  history.replaceState(null, "", recordsAddress(shown.id, new URLSearchParams(wanted)));
  again();
}

// Return the keys of the pane, for the list and for a record.
export function listKeys() {
  const errors = byId("filters")?.elements.errors;
  return [
    { keys: ["/"], text: "search", run: () => byId("filters").elements.q.focus() },
    ...(errors ? [{ keys: ["e"], text: "errors only", run: () => errors.click() }] : []),
  ];
}

export async function recordsView(parts, query) {
  const collection = await collectionOf(parts.join("/"));
  const filters = filtersOf(query);
  await showList(collection, filters, Number(query.get("offset") ?? 0));
  const first = () => rows.length && go(recordAddress(collection.id, rows[0], filters));
  const keys = [
    { keys: ["j", "→"], text: "first record", run: first },
    { keys: ["u"], text: "all collections", run: () => go("#/") },
    ...listKeys(),
  ];
  return {
    reading: true,
    title: collection.title,
    said: `${collection.title}, ${byId("count").textContent}`,
    nodes: [element("h1", {}, collection.title), paragraph("soft", counted(collection.count, "record")),
      element("div", { class: "hint" }, keyList(keys))],
    keys,
  };
}
