// The corrections that readers proposed, to accept or reject.

import { again, button, element, get, kbd, keyButton, paragraph, post, readerName, say, trying } from "./dom.js";
import { exportPart } from "./judge.js";
import { turnRow } from "./turns.js";

const SHOWN = 200; // of each status
const TITLES = { proposed: "To decide", accepted: "Accepted", rejected: "Rejected" };
let chosen = 0; // place among the proposals

export async function correctionsView() {
  const all = (await get("/api/corrections")).corrections;
  const of = (status) => all.filter((each) => each.status === status);
  const proposed = of("proposed").slice(0, SHOWN);
  chosen = Math.max(0, Math.min(chosen, proposed.length - 1));
  const decide = (correction, status) => trying(async () => {
    await post(`/api/corrections/${encodeURIComponent(correction.id)}`, { reader: readerName(), status });
    again();
    say(TITLES[status]);
  });
  const cards = proposed.map((each) => card(each, [
    keyButton("Accept", "a", decide(each, "accepted")), keyButton("Reject", "r", decide(each, "rejected"))]));
  const choose = (place) => {
    if (!cards[place]) return;
    cards[chosen].removeAttribute("aria-current");
    chosen = place;
    cards[place].setAttribute("aria-current", "true");
    cards[place].focus();
  };
  cards[chosen]?.setAttribute("aria-current", "true");
  const other = { accepted: ["Reject", "rejected"], rejected: ["Accept", "accepted"] };
  const decided = Object.entries(other).filter(([status]) => of(status).length).map(([status, [title, to]]) => (
    element("details", {}, element("summary", {}, titled(status, of(status))),
      of(status).slice(0, SHOWN).map((each) => card(each, button(title, decide(each, to)))))));
  return {
    title: "Corrections",
    focus: cards[chosen],
    nodes: [
      element("h1", {}, "Corrections"),
      paragraph("soft", "Accepted ones become a file that the dataset stage applies; raw data stays as it is. ",
        "Beside a record, ", kbd("x"), " marks it as bad and ", kbd("c"), " corrects its text."),
      element("h2", {}, titled("proposed", of("proposed"))), cards, decided, exportPart(),
    ],
    keys: proposed.length ? [
      { keys: ["j", "→"], text: "next proposal", run: () => choose(chosen + 1) },
      { keys: ["k", "←"], text: "previous proposal", run: () => choose(chosen - 1) },
      { keys: ["a"], text: "accept", run: () => decide(proposed[chosen], "accepted")() },
      { keys: ["r"], text: "reject", run: () => decide(proposed[chosen], "rejected")() },
    ] : [],
  };
}

const titled = (status, corrections) => `${TITLES[status]} (${corrections.length})`;

function card(correction, buttons) {
  const { dataset, record, action, text, was, reader, at, comment, status, accepted_by: by } = correction;
  const who = `${reader}, ${new Date(at).toLocaleString()}${by ? `, ${status} by ${by}` : ""}`;
  return element("section", { class: "card proposal", tabindex: "-1" },
    paragraph("facts", element("b", {}, action === "drop" ? "leave out" : "correct"), ` ${dataset}, record ${record} `,
      element("span", { class: "soft" }, who)),
    was ? turnRow("now", action === "drop" ? element("del", {}, was) : was) : null,
    action === "replace" ? turnRow("corrected", text, "wanted") : null,
    comment ? turnRow("why", comment, "soft") : null, paragraph("tools", buttons));
}
