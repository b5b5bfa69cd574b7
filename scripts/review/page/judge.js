// Judging: start a study, judge its texts without knowing where they come from, and read what came out.

import { again, button, byId, check, counted, element, field, get, go, kbd, keyButton, number, paragraph, percent, post,
  readerName, table, trying } from "./dom.js";
import { collections } from "./list.js";
import { turnKeys, turnRows } from "./turns.js";

// Title, question, the rate that is to be exceeded and the one that is expected.
const KINDS = {
  rating: ["Rating", "pass or fail, 1 to 5, a comment", 0.9, 0.95],
  pair: ["Pair", "two answers side by side, which is better?", 0.5, 0.6],
  human_test: ["Human test", "written by a person or by the model?", 0.9, 0.95],
};
const REPEATED = 0.1; // of the texts are judged twice, for the agreement of readers with themselves

const JUDGED = 409; // the status of a vote on a text with one: the reply to that one was lost

const judgeAddress = (study) => `#/judge/${encodeURIComponent(study)}`;
const resultsAddress = (study) => `#/results/${encodeURIComponent(study)}`;

// Return the button that writes the files of judgements, and where it lists them.
export function exportPart() {
  const files = element("ul", { class: "files", "aria-live": "polite" });
  const line = ({ path, rows }) => element("li", {}, element("code", {}, path), ` ${counted(rows, "row")}`);
  const write = trying(async () => {
    const written = (await post("/api/export", {})).files;
    files.replaceChildren(...(written.length ? written.map(line) : [element("li", {}, "Nothing to write yet.")]));
  });
  return element("section", {}, element("h2", {}, "Files"),
    paragraph("soft", "Votes are an input of scores, corrections one of datasets. Preference pairs are in the format of TRL's DPO ",
      "trainer; their prompts are of the test split."),
    button("Write the files", write), files);
}

export async function studiesView() {
  const { studies } = await get("/api/studies");
  const runs = [...(await collections()).values()].filter((each) => each.kind === "answers");
  const sides = runs.flatMap((each) => each.variants.map((variant) => `${each.run}/${variant}`));
  const links = studies.map((each) => element("a", { href: judgeAddress(each.id) }, each.title));
  const rows = studies.map((each, place) => [
    [links[place], " ", place < 9 ? kbd(String(place + 1)) : ""], KINDS[each.kind][0], number(each.records),
    each.readers.map(({ name, done }) => `${name} ${done}`).join(", ") || "nobody yet",
    element("a", { href: resultsAddress(each.id), "aria-label": `Results of ${each.title}` }, "results"),
  ]);
  return {
    title: "Judge",
    nodes: [
      element("h1", {}, "Judge"),
      studies.length ? table("Studies", ["title", "kind", "records", "judged by", "what came out"], rows) : null,
      sides.length ? studyForm(sides) : paragraph("", "Open a folder of results with answers to start a study."),
      exportPart(),
    ],
    keys: links.slice(0, 9).map((link, place) => (
      { keys: [String(place + 1)], text: `judge ${link.textContent}`, run: () => link.click() })),
  };
}

function studyForm(sides) {
  const runOf = (side) => side.split("/")[0];
  const shipped = sides.findLast((side) => runOf(side) === runOf(sides[0]));
  const numeric = (title, name, attributes) => (
    field(title, element("input", { name, type: "number", required: true, ...attributes })));
  const option = (side, chosen) => element("option", { selected: side === chosen }, side);
  const choice = (title, name, chosen) => (
    field(title, element("select", { name }, sides.map((side) => option(side, chosen)))));
  const kinds = Object.entries(KINDS).map(([kind, [title, text]], place) => (
    check({ type: "radio", name: "kind", value: kind, checked: place === 0 }, element("b", {}, title), ` ${text}`)));
  const rival = choice("Second side", "right", sides[0]);
  const mixed = check({ name: "mixed" }, "mix human texts in, as a scale");
  const need = element("p", { class: "notice", "aria-live": "polite" });
  const share = { min: "0", max: "100", step: "0.1" };
  const form = element("form", { class: "card" },
    element("h2", {}, "Start a study"),
    element("fieldset", {}, element("legend", {}, "What is judged"), kinds),
    element("div", { class: "fields" },
      choice("Answers of", "left", shipped), rival, mixed,
      numeric("The rate should be beyond, %", "threshold", share), numeric("You expect, %", "expected", share),
      numeric("Readers", "readers", { min: "1", value: "1" }),
      numeric("Judged by all of them, %", "overlap", { ...share, value: "20" }),
      numeric("Records (empty: as needed)", "records", { min: "1", required: false })),
    need, element("button", {}, "Start"));

  const wanted = () => {
    const given = Object.fromEntries(new FormData(form));
    const rivals = { pair: given.right, rating: given.mixed ? "expected" : null };
    return {
      kind: given.kind, left: given.left, right: rivals[given.kind] ?? null,
      records: given.records ? Number(given.records) : null, readers: Number(given.readers),
      overlap: given.overlap / 100, threshold: given.threshold / 100, expected: given.expected / 100,
    };
  };
  const ask = trying(async () => {
    if (!form.checkValidity()) return;
    const { kind, left, right, threshold, expected, records, readers, overlap } = wanted();
    const asked = { kind, left, right, threshold, expected };
    const { judgements, wanted: text, available } = await get("/api/needed", asked);
    const judged = Math.min(records ?? judgements, available);
    const each = Math.ceil(judged * (overlap + (1 - overlap) / readers) * (1 + REPEATED));
    need.replaceChildren(element("b", {}, `${counted(judgements, "judgement")} needed`), ` to show ${text}. `,
      available < judgements ? `There are only ${counted(available, "record")} to judge. ` : "",
      `With these settings a reader judges about ${number(each)}; a tenth of the texts come twice.`);
  });
  const showKind = () => {
    const kind = form.elements.kind.value;
    rival.hidden = kind !== "pair";
    mixed.hidden = kind !== "rating";
    const [threshold, expected] = KINDS[kind].slice(2);
    form.elements.threshold.value = threshold * 100;
    form.elements.expected.value = expected * 100;
  };
  let waiting = null;
  form.addEventListener("input", (event) => {
    if (event.target.name === "kind") showKind();
    clearTimeout(waiting);
    waiting = setTimeout(ask, 200);
  });
  form.addEventListener("submit", trying(async () => {
    clearTimeout(waiting);
    const study = await post("/api/studies", { reader: readerName(), ...wanted() });
    go(judgeAddress(study.id));
  }));
  showKind();
  ask();
  return form;
}

// Nothing in this view may tell where a text comes from: texts are in the server's order, and treated alike.
export async function judgeView([study]) {
  const reader = readerName();
  const task = await get("/api/task", { study, reader });
  const [title] = KINDS[task.kind];
  const undo = trying(async () => {
    await post("/api/undo", { study, reader });
    again();
  });
  const done = element("progress", { max: task.of, value: task.done, "aria-label": "Judged" });
  const head = [element("h1", {}, title), paragraph("progress", done, ` ${number(task.done)} of ${number(task.of)} `,
    keyButton("Undo", "u", undo, { disabled: task.done === 0 }))];
  const keys = task.done ? [{ keys: ["u"], text: "take back the last vote", run: undo }] : [];
  if (task.task === null) {
    const results = element("a", { href: resultsAddress(study) }, "The results");
    const thanks = paragraph("", "You have judged all of this study. Thank you. ", results, " are on another page.");
    return { title, said: "Finished.", nodes: [head, thanks], keys };
  }
  let sent = false; // a key that is pressed twice votes once
  const vote = (body) => trying(async () => {
    if (sent) return;
    sent = true;
    try {
      await post("/api/votes", { task: task.task, reader, ...body() });
    } catch (error) {
      sent = false;
      if (error.status !== JUDGED) throw error;
    }
    again();
  });
  const panel = { rating, pair, human_test: humanTest }[task.kind](vote);
  const names = task.texts.length > 1 ? ["A", "B"] : ["Text"];
  const texts = task.texts.map((text, place) => element("section", { class: "card" },
    element("h2", {}, names[place]), element("div", { class: "text", lang: task.language }, text || "(empty)")));
  const prompt = element("div", { class: "card" }, turnRows(task.messages));
  return {
    title,
    said: `${task.done} of ${task.of}`,
    nodes: [head, prompt, element("div", { class: "texts" }, texts), panel.node],
    keys: [...panel.keys, ...keys, ...turnKeys(prompt)],
  };
}

// Return buttons that vote at once, and their keys.
function votes(vote, choices) {
  const actions = choices.map(([title, key, body]) => [title, key, vote(() => body)]);
  return {
    node: paragraph("tools votes", actions.map(([title, key, run]) => keyButton(title, key, run))),
    keys: actions.map(([text, key, run]) => ({ keys: [key], text, run })),
  };
}

const pair = (vote) => votes(vote, [
  ["A is better", "a", { choice: "first" }],
  ["Tie", "t", { choice: "tie" }],
  ["B is better", "b", { choice: "second" }],
]);

const humanTest = (vote) => votes(vote, [
  ["A person wrote it", "p", { said_person: true }], ["The model wrote it", "m", { said_person: false }],
]);

function rating(vote) {
  const radio = (name, value, ...title) => check({ type: "radio", name, value }, ...title);
  const choice = (title, ...radios) => element("fieldset", {}, element("legend", {}, title), radios);
  const stars = ["1", "2", "3", "4", "5"];
  const form = element("form", { class: "card rating" },
    choice("Good enough?", radio("passed", "true", "Pass ", kbd("p")), radio("passed", "false", "Fail ", kbd("f"))),
    choice("How good, from 1 to 5?", stars.map((star) => radio("stars", star, star))),
    field(element("span", {}, "Comment ", kbd("c")), element("input", { name: "comment", maxlength: "2000" })),
    paragraph("tools", element("button", {}, "Save ", kbd("Enter"))));
  const send = vote(() => {
    const given = Object.fromEntries(new FormData(form));
    const passed = given.passed === undefined ? null : given.passed === "true";
    return { passed, stars: given.stars ? Number(given.stars) : null, comment: given.comment };
  });
  form.addEventListener("submit", send);
  const set = (name, value) => () => {
    form.elements[name].value = value;
  };
  return {
    node: form,
    keys: [
      { keys: ["p"], text: "pass", run: set("passed", "true") },
      { keys: ["f"], text: "fail", run: set("passed", "false") },
      ...stars.map((star) => ({ keys: [star], text: `${star} of 5`, run: set("stars", star) })),
      { keys: ["c"], text: "comment", run: () => form.elements.comment.focus() },
      { keys: ["Enter"], text: "save", run: send },
    ],
  };
}

const unmeasured = "not measured";

export async function resultsView([id]) {
  const found = await get("/api/study", { id, reader: byId("reader").value.trim() });
  const rates = found.rates.map((rate) => {
    const stars = rate.name.startsWith("human_stars");
    const shown = stars ? number : percent;
    const interval = [stars ? "" : track(rate), `${shown(rate.low)} to ${shown(rate.high)}`];
    return [rate.title, rate.value === null ? unmeasured : element("b", {}, shown(rate.value)),
      rate.low === null ? unmeasured : interval, number(rate.n), number(rate.votes), number(rate.readers)];
  });
  const sameOf = (found) => (found?.of ? `${found.same} of ${found.of}` : unmeasured);
  const shownRate = (each) => (each.name === "human_stars" ? `${number(each.rate)} of 5` : percent(each.rate));
  const rateOf = (each) => (each.rate === null ? unmeasured : shownRate(each));
  const readers = found.by_reader.map((each) => [
    each.reader, number(each.votes), rateOf(each), sameOf(each.self_agreement),
    each.is_model ? sameOf(each.agreement) : "is a person",
  ]);
  const heads = ["reader", "votes", "own rate", "same answer when asked again", "a model: same answer as most people"];
  const columns = found.by_reader.some((each) => each.is_model) ? heads.length : heads.length - 1;
  return {
    title: "Results",
    nodes: [element("h1", {}, `Results: ${found.title}`),
      paragraph("lead", `${counted(found.votes, "vote")}. `, inWords(found.alpha, found.alpha_reason)),
      found.warnings.map((each) => paragraph("notice", each)),
      table("Rates", ["rate", "value", "95 % interval", "records", "votes", "readers"], rates),
      readers.length ? table("Readers", heads.slice(0, columns), readers.map((row) => row.slice(0, columns))) : null,
      paragraph("", element("a", { href: "#/judge" }, "All studies"))],
    keys: [{ keys: ["u"], text: "all studies", run: () => go("#/judge") }],
  };
}

function track({ value, low, high }) {
  const [range, dot] = [element("i", { class: "range" }), element("i", { class: "dot" })];
  range.style.left = `${low * 100}%`;
  range.style.width = `${(high - low) * 100}%`;
  dot.style.left = `${value * 100}%`;
  return element("span", { class: "track", "aria-hidden": "true" }, range, dot);
}

// The limits are Krippendorff's (Content Analysis, 2004): reliable from 0.8, for tentative conclusions from 0.667.
function inWords(alpha, reason) {
  if (!alpha) return `Agreement of readers: ${unmeasured}${reason ? `, ${reason}` : ""}.`;
  const word = alpha.value >= 0.8 ? "the readers agree"
    : alpha.value >= 0.667 ? "enough for tentative conclusions" : "the readers agree too little to rely on";
  const interval = alpha.low === null ? "" : ` (${number(alpha.low)} to ${number(alpha.high)})`;
  return `Agreement of readers (Krippendorff's alpha): ${number(alpha.value)}${interval}, ${word}.`;
}
