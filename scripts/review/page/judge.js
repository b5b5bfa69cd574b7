// Judging: start a study, judge its texts without knowing where they come from, and read what came out.

import { button, byId, counted, element, get, keyButton, number, percent, post, readerName, say, table, trying } from "./dom.js";
import { collections } from "./list.js";
import { turnKeys, turnRow, turnRows } from "./turns.js";

const KINDS = {
  rating: ["Rating", "pass or fail, 1 to 5, a comment", 0.9, 0.95],
  pair: ["Pair", "two answers side by side, which is better?", 0.5, 0.6],
  human_test: ["Human test", "written by a person or by the model?", 0.9, 0.95],
};
const again = () => window.dispatchEvent(new Event("review:again"));

// Return the button that writes the files of judgements, and where it lists them.
export function exportPart() {
  const files = element("ul", { class: "files", "aria-live": "polite" });
  const write = trying(async () => {
    const written = (await post("/api/export", {})).files;
    files.replaceChildren(...written.map(({ path, rows }) => element("li", {}, element("code", {}, path), ` ${counted(rows, "row")}`)));
  });
  return element("section", {}, element("h2", {}, "Files"),
    element("p", { class: "soft" }, "Votes, corrections and preference pairs, for datasets and scores."), button("Write the files", write), files);
}

export async function studiesView() {
  const [{ studies }, found] = [await get("/api/studies"), await collections()];
  const sides = [...found.values()].filter((each) => each.kind === "answers")
    .flatMap((each) => each.variants.map((variant) => `${each.run}/${variant}`));
  const links = studies.map((each) => element("a", { href: `#/judge/${encodeURIComponent(each.id)}` }, each.title));
  const rows = studies.map((each, place) => [[links[place], " ", place < 9 ? element("kbd", {}, String(place + 1)) : ""], KINDS[each.kind][0], number(each.records),
    each.readers.map(({ name, done }) => `${name} ${done} of ${each.tasks_per_reader}`).join(", ") || "nobody yet",
    element("a", { href: `#/results/${encodeURIComponent(each.id)}`, "aria-label": `Results of ${each.title}` }, "results")]);
  const list = table("Studies", ["title", "kind", "records", "judged by", "what came out"], rows);
  const none = element("p", { class: "soft" }, "There is no study yet.");
  return {
    title: "Judge",
    nodes: [element("h1", {}, "Judge"), studies.length ? list : none, sides.length ? studyForm(sides) : element("p", {}, "Open results with answers to start one."), exportPart()],
    keys: links.slice(0, 9).map((link, place) => ({ keys: [String(place + 1)], text: `judge ${link.textContent}`, run: () => link.click() })),
  };
}

function studyForm(sides) {
  const field = (title, name, attributes) => element("label", {}, title, element("input", { name, required: true, type: "number", ...attributes }));
  const choice = (title, name, options) => element("label", {}, title, element("select", { name }, options.map((each) => element("option", {}, each))));
  const kinds = Object.entries(KINDS).map(([kind, [title, text]], place) => element("label", { class: "check" },
    element("input", { type: "radio", name: "kind", value: kind, checked: place === 0 }), element("span", {}, element("b", {}, title), ` ${text}`)));
  const rival = choice("Second side", "right", [...sides].reverse());
  const mixed = element("label", { class: "check" }, element("input", { type: "checkbox", name: "mixed" }), " mix human texts in, as a scale");
  const need = element("p", { class: "notice need", "aria-live": "polite" });
  const shares = { min: "0", max: "100", step: "0.1" };
  const form = element("form", { class: "card study" },
    element("h2", {}, "Start a study"), element("fieldset", {}, element("legend", {}, "What is judged"), kinds),
    element("div", { class: "fields" }, choice("Answers of", "left", sides), rival, mixed,
      field("The rate should be beyond, %", "threshold", shares), field("You expect, %", "expected", shares),
      field("Readers", "readers", { min: "1", value: "1" }), field("Judged by all of them, %", "overlap", { ...shares, value: "20" }),
      element("label", {}, "Records (empty: as many as needed)", element("input", { name: "records", type: "number", min: "1" }))),
    need, element("button", {}, "Start"));

  const said = () => {
    const given = Object.fromEntries(new FormData(form));
    const right = given.kind === "pair" ? given.right : given.kind === "rating" && given.mixed ? "expected" : null;
    return { kind: given.kind, left: given.left, right, records: given.records ? Number(given.records) : null, readers: Number(given.readers),
      overlap: given.overlap / 100, threshold: given.threshold / 100, expected: given.expected / 100 };
  };
  const ask = trying(async () => {
    if (!form.checkValidity()) return;
    const { kind, right, threshold, expected, records, readers, overlap } = said();
    const { judgements, wanted } = await get("/api/needed", { kind, right, threshold, expected });
    const each = Math.ceil((records ?? judgements) * (overlap + (1 - overlap) / readers) * 1.1);
    need.replaceChildren(element("b", {}, `${counted(judgements, "judgement")} needed`), ` to show ${wanted}. With these settings each reader judges about ${number(each)}, a tenth of them twice.`);
  });
  const kindChosen = () => {
    const kind = form.elements.kind.value;
    rival.hidden = kind !== "pair";
    mixed.hidden = kind !== "rating";
    [form.elements.threshold.value, form.elements.expected.value] = KINDS[kind].slice(2).map((share) => share * 100);
  };
  let waiting = null;
  form.addEventListener("input", (event) => {
    if (event.target.name === "kind") kindChosen();
    clearTimeout(waiting);
    waiting = setTimeout(ask, 200);
  });
  form.addEventListener("submit", trying(async () => {
    const study = await post("/api/studies", { reader: readerName(), ...said() });
    location.hash = `#/judge/${encodeURIComponent(study.id)}`;
  }));
  kindChosen();
  ask();
  return form;
}

// Nothing in this view may tell where a text comes from: texts are in the server's order, and treated alike.
export async function judgeView([id]) {
  const reader = readerName();
  const task = await get("/api/task", { study: id, reader });
  const question = KINDS[task.kind];
  const undo = trying(async () => {
    await post("/api/undo", { study: id, reader });
    again();
  });
  let sent = false;
  const vote = (body) => trying(async () => {
    if (sent) return;
    sent = true;
    try {
      await post("/api/votes", { task: task.task, reader, ...body() });
    } catch (error) {
      sent = false;
      throw error;
    }
    again();
  });
  const progress = element("p", { class: "progress" }, element("progress", { max: task.of, value: task.done, "aria-label": "Judged" }),
    ` ${number(task.done)} of ${number(task.of)} `, keyButton("Undo", "u", undo, { disabled: task.done === 0 }));
  const head = [element("h1", {}, question[0]), progress];
  const undoKey = task.done ? [{ keys: ["u"], text: "take back the last vote", run: undo }] : [];
  if (task.task === null) {
    const results = element("a", { href: `#/results/${encodeURIComponent(id)}` }, "The results");
    const done = element("p", {}, "You have judged everything of this study. Thank you. ", results, " are on a page of their own.");
    return { title: question[0], said: "Finished.", nodes: [...head, done], keys: undoKey };
  }
  const panel = { rating, pair, human_test: humanTest }[task.kind](vote);
  const names = task.texts.length > 1 ? ["A", "B"] : ["Text"];
  const texts = element("div", { class: "texts" }, task.texts.map((text, place) => element("section", { class: "card" },
    element("h2", {}, names[place]), element("div", { class: "text" }, text || "(empty)"))));
  const prompt = element("div", { class: "card" }, turnRows(task.messages));
  return {
    title: question[0],
    said: `${task.done} of ${task.of}`,
    nodes: [...head, prompt, texts, panel.node],
    keys: [...panel.keys, ...undoKey, ...turnKeys(prompt)],
  };
}

// Return buttons that vote at once, with their keys.
function votes(vote, choices) {
  const actions = choices.map(([title, key, body]) => [title, key, vote(() => body)]);
  return {
    node: element("p", { class: "tools votes" }, actions.map(([title, key, run]) => keyButton(title, key, run))),
    keys: actions.map(([text, key, run]) => ({ keys: [key], text, run })),
  };
}

const pair = (vote) => votes(vote, [["A is better", "a", { choice: "first" }], ["Tie", "t", { choice: "tie" }], ["B is better", "b", { choice: "second" }]]);

const humanTest = (vote) => votes(vote, [["A person wrote it", "p", { said_person: true }], ["The model wrote it", "m", { said_person: false }]]);

function rating(vote) {
  const radio = (name, value, title, key) => element("label", { class: "check" },
    element("input", { type: "radio", name, value }), ` ${title} `, key && element("kbd", {}, key));
  const stars = [1, 2, 3, 4, 5].map(String);
  const form = element("form", { class: "card rating" },
    element("fieldset", {}, element("legend", {}, "Good enough?"), radio("passed", "true", "Pass", "p"), radio("passed", "false", "Fail", "f")),
    element("fieldset", {}, element("legend", {}, "How good?"), stars.map((star) => radio("stars", star, star))),
    element("label", {}, element("span", {}, "Comment ", element("kbd", {}, "c")), element("input", { name: "comment", maxlength: "2000" })),
    element("p", { class: "tools" }, element("button", {}, "Save ", element("kbd", {}, "Enter"))));
  const send = vote(() => {
    const { passed, stars: star, comment } = Object.fromEntries(new FormData(form));
    return { passed: passed === undefined ? null : passed === "true", stars: star ? Number(star) : null, comment };
  });
  form.addEventListener("submit", send);
  const set = (name, value) => () => { form.elements[name].value = value; };
  return {
    node: form,
    keys: [
      { keys: ["p"], text: "pass", run: set("passed", "true") }, { keys: ["f"], text: "fail", run: set("passed", "false") },
      ...stars.map((star) => ({ keys: [star], text: `${star} of 5`, run: set("stars", star) })),
      { keys: ["c"], text: "comment", run: () => form.elements.comment.focus() },
      { keys: ["Enter"], text: "save", run: send },
    ],
  };
}

const unmeasured = "not measured";

export async function resultsView([id]) {
  const found = await get("/api/study", { id });
  const rates = found.rates.map((rate) => {
    const stars = rate.name.startsWith("human_stars");
    const shown = stars ? number : percent;
    const interval = [stars ? "" : track(rate), `${shown(rate.low)} to ${shown(rate.high)}`];
    return [rate.title, rate.value === null ? unmeasured : element("b", {}, shown(rate.value)),
      rate.low === null ? unmeasured : interval, number(rate.n), number(rate.votes), number(rate.readers)];
  });
  const sameOf = (found) => (found?.of ? `${found.same} of ${found.of}` : unmeasured);
  const readers = found.by_reader.map((each) => [each.reader, number(each.votes), each.rate === null ? unmeasured : percent(each.rate),
    sameOf(each.self_agreement), each.is_model ? sameOf(each.agreement) : ""]);
  const models = found.by_reader.some((each) => each.is_model);
  const heads = ["reader", "votes", "own rate", "same answer when asked again", models ? "same answer as most people" : ""];
  return {
    title: "Results",
    nodes: [element("h1", {}, `Results: ${found.title}`),
      element("p", { class: "lead" }, `${counted(found.votes, "vote")}. `, inWords(found.alpha, found.alpha_reason)),
      found.warnings.map((each) => element("p", { class: "notice" }, each)),
      table("Rates", ["rate", "value", "95 % interval", "records", "votes", "readers"], rates),
      readers.length ? table("Readers", heads.filter(Boolean), models ? readers : readers.map((row) => row.slice(0, -1))) : null,
      element("p", {}, element("a", { href: "#/judge" }, "All studies"))],
    keys: [{ keys: ["u"], text: "all studies", run: () => { location.hash = "#/judge"; } }],
  };
}

function track({ value, low, high }) {
  const [range, dot] = [element("i", { class: "range" }), element("i", { class: "dot" })];
  range.style.left = `${low * 100}%`;
  range.style.width = `${(high - low) * 100}%`;
  dot.style.left = `${value * 100}%`;
  return element("span", { class: "track", "aria-hidden": "true" }, range, dot);
}

// The limits are Krippendorff's (Content Analysis, 2004): from 0.8 on reliable, from 0.667 on for tentative conclusions.
function inWords(alpha, reason) {
  if (!alpha) return `Agreement of readers: ${unmeasured}${reason ? `, ${reason}` : ""}.`;
  const word = alpha.value >= 0.8 ? "the readers agree"
    : alpha.value >= 0.667 ? "enough for tentative conclusions" : "the readers agree too little to rely on";
  const interval = alpha.low === null ? "" : ` (${number(alpha.low)} to ${number(alpha.high)})`;
  return `Agreement of readers (Krippendorff's alpha): ${number(alpha.value)}${interval}, ${word}.`;
}
