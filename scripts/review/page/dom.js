// Elements, requests and numbers. Text of records enters the page as text nodes only, never as markup.

// Return a new element. Attributes may be booleans and listeners ("onclick"), children strings, nodes and lists.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

export const kbd = (key) => element("kbd", {}, key);

// Return a button that names its key.
export const keyButton = (text, key, onclick, attributes = {}) => button([text, " ", kbd(key)], onclick, attributes);

export const paragraph = (kind, ...children) => element("p", { class: kind }, ...children);

// Return an input of a form with its title above it.
export const field = (title, ...input) => element("label", {}, title, ...input);

// Return a checkbox or radio button with its title beside it.
export function check(attributes, ...title) {
  const box = element("input", { type: "checkbox", ...attributes });
  return element("label", { class: "check" }, box, element("span", {}, ...title));
}

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("The server does not answer. Is `make review` still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error(body.error ?? `The server answered with status ${response.status}.`);
    throw Object.assign(error, { status: response.status });
  }
  return body;
}

// Return the answer to a GET request; parameters that are empty are left out.
export function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return answer(fetch(`${path}?${new URLSearchParams(given)}`));
}

export function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return answer(fetch(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

export function go(address) {
  location.hash = address;
}

// Show the view again, after what it shows has changed.
export function again() {
  window.dispatchEvent(new Event("review:again"));
}

// Tell readers of screens what happened, without moving the focus.
export function say(text) {
  byId("said").textContent = text;
}

export function fail(error) {
  byId("failure").textContent = error ? error.message : "";
}

// Return a listener that shows the error of what it does.
export function trying(action) {
  return async (event) => {
    event?.preventDefault?.();
    try {
      fail(null);
      await action(event);
    } catch (error) {
      fail(error);
    }
  };
}

// Return the reader's name; throw where it has not been typed yet.
export function readerName() {
  const name = byId("reader").value.trim();
  if (name) return name;
  byId("reader").focus();
  throw new Error("Type your name first, at the top of the page: it stands beside what you judge or correct.");
}

// Return a number with about three digits, as the reports show it.
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 1000 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replaceAll(",", "\u202f").replace("-", "−");
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${number(share * 100)} %`);

export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

// Return a list of keys and what they do.
export function keyList(keys) {
  const shown = (each) => each.keys.flatMap((key) => [" ", kbd(key)]).slice(1);
  return element("dl", {}, keys.map((each) => [element("dt", {}, shown(each)), element("dd", {}, each.text)]));
}

// Return a table; cells are strings or nodes, and `data-label` names a cell's column where rows are cards.
export function table(caption, heads, rows) {
  const cell = (content, column) => element("td", { "data-label": heads[column] }, content);
  return element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell)))));
}
