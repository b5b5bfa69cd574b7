// The frame of the page: the view that the address names, and the keys.

import { byId, element, fail, keyList, say } from "./dom.js";
import { collectionsView, recordsView } from "./list.js";
import { recordView } from "./record.js";
import { correctionsView } from "./corrections.js";
import { judgeView, resultsView, studiesView } from "./judge.js";

// The first part of the address, its view, and the entry of the navigation. A view is a function of the other parts and
// the filters; it returns {title, nodes, keys}: keys are [{keys, text, run}].
const VIEWS = {
  "": [collectionsView, "read"],
  records: [recordsView, "read"],
  record: [recordView, "read"],
  corrections: [correctionsView, "corrections"],
  judge: [(parts) => (parts.length ? judgeView(parts) : studiesView()), "judge"],
  results: [resultsView, "judge"],
};
const GLOBAL = [
  { keys: ["?"], text: "show the keys", run: showKeys },
  { keys: ["Escape"], text: "leave a field, close a window", run: () => {} },
];
const stored = (name, otherwise) => localStorage.getItem(`snaketune-review-${name}`) ?? otherwise;
const store = (name, value) => localStorage.setItem(`snaketune-review-${name}`, value);

let turn = 0;
let viewKeys = [];

async function show() {
  const mine = ++turn;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const name = Object.hasOwn(VIEWS, path.split("/")[0]) ? path.split("/")[0] : "";
  const [view, part] = VIEWS[name];
  let made;
  try {
    made = await view(path.split("/").slice(1).map(decodeURIComponent), new URLSearchParams(query ?? ""));
    if (mine !== turn) return;
    fail(null);
  } catch (error) {
    if (mine !== turn) return;
    fail(error);
    const title = error.status === 409 ? "Not yet" : "Not found"; // results are for readers who have judged all
    made = { title, nodes: [element("h1", {}, title)], keys: [], failed: true };
  }
  const reading = made.reading === true;
  byId("main").className = reading ? name : "";
  byId("list").hidden = !reading;
  byId("view").replaceChildren(...made.nodes.flat(Infinity).filter(Boolean));
  document.title = `${made.title} – Review`;
  say(made.said ?? made.title);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.part === part) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  viewKeys = made.keys;
  window.scrollTo(0, 0);
  if (reading) showCurrent(name);
  if (made.focus) made.focus.focus();
  else if (!made.failed && !byId("list").contains(document.activeElement)) byId("view").focus({ preventScroll: true });
}

// Scroll the list to the record that is read; beside a record, the page itself stays at its top.
function showCurrent(name) {
  document.querySelector("#rows [aria-current]")?.scrollIntoView({ block: "nearest" });
  if (name === "record") window.scrollTo(0, 0);
}

function showKeys() {
  byId("keys-shown").replaceChildren(keyList([...viewKeys, ...GLOBAL]));
  byId("keys").showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.matches("a, button, summary, input")) return;
  if (event.key.startsWith("Arrow") && event.target.matches("input")) return;
  if (!byId("keys-on").checked && event.key.length === 1) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = [...viewKeys, ...GLOBAL].find(({ keys }) => keys.includes(NAMES[key] ?? key));
  if (!found) return;
  event.preventDefault();
  if (!event.repeat || MOVING.includes(NAMES[key] ?? key)) found.run();
});
const NAMES = { ArrowLeft: "←", ArrowRight: "→" };
const MOVING = ["j", "k", "←", "→"]; // a held key repeats these, and votes only once

const reader = byId("reader");
reader.value = stored("reader", "");
reader.addEventListener("change", () => {
  store("reader", reader.value.trim());
  fail(null);
  if (location.hash.startsWith("#/judge/")) show();
});
byId("keys-on").checked = stored("keys", "on") === "on";
byId("keys-on").addEventListener("change", (event) => store("keys", event.target.checked ? "on" : "off"));
byId("keys-button").addEventListener("click", showKeys);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("view").focus();
});
window.addEventListener("hashchange", show);
window.addEventListener("review:again", show);
show();
