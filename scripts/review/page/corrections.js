// The corrections that readers proposed, to accept or reject.

import { element, get, keyButton, post, readerName, say, trying } from "./dom.js";
import { exportPart } from "./judge.js";
import { collections, recordAddress } from "./list.js";

const SHOWN = 200; // of each status
const TITLES = { proposed: "To decide", accepted: "Accepted", rejected: "Rejected" };
let chosen = 0; // place among the proposals

export async function correctionsView() {
  const all = (await get("/api/corrections")).corrections;
  const splits = [...(await collections()).values()].filter((each) => each.kind === "split");
  const proposed = all.filter((each) => each.status === "proposed").slice(0, SHOWN);
  chosen = Math.max(0, Math.min(chosen, proposed.length - 1));
  const decide = (correction, status) => trying(async () => {
    await post(`/api/corrections/${encodeURIComponent(correction.id)}`, { reader: readerName(), status });
    window.dispatchEvent(new Event("review:again"));
    say(TITLES[status]);
  });
  const buttons = (correction) => element("p", { class: "tools" },
    keyButton("Accept", "a", decide(correction, "accepted")), keyButton("Reject", "r", decide(correction, "rejected")));
  const cards = proposed.map((each) => card(each, splits, buttons(each)));
  const choose = (place) => {
    if (!cards[place]) return;
    cards[chosen].removeAttribute("aria-current");
    chosen = place;
    cards[place].setAttribute("aria-current", "true");
    cards[place].focus();
  };
  cards[chosen]?.setAttribute("aria-current", "true");
  const decided = ["accepted", "rejected"].map((status) => {
    const of = all.filter((each) => each.status === status);
    const title = `${TITLES[status]} (${of.length})`;
    return of.length ? element("details", {}, element("summary", {}, title), of.slice(0, SHOWN).map((each) => card(each, splits))) : null;
  });
  const none = element("p", { class: "soft" }, "Nothing to decide. Propose a correction beside a record: ", element("kbd", {}, "x"),
    " marks it as bad, ", element("kbd", {}, "c"), " corrects its text.");
  return {
    title: "Corrections",
    focus: cards[chosen],
    nodes: [element("h1", {}, "Corrections"),
      element("p", { class: "soft" }, "Accepted ones become a file that the dataset stage applies; raw data stays as it is."),
      element("h2", {}, `${TITLES.proposed} (${proposed.length})`), cards.length ? cards : none, decided, exportPart()].flat(),
    keys: proposed.length ? [
      { keys: ["j", "→"], text: "next proposal", run: () => choose(chosen + 1) },
      { keys: ["k", "←"], text: "previous proposal", run: () => choose(chosen - 1) },
      { keys: ["a"], text: "accept", run: () => decide(proposed[chosen], "accepted")() },
      { keys: ["r"], text: "reject", run: () => decide(proposed[chosen], "rejected")() },
    ] : [],
  };
}

function card(correction, splits, buttons = null) {
  const { dataset, record, action, text, was, reader, at, comment, status } = correction;
  const home = splits.find((each) => each.dataset === dataset && each.id === correction.collection);
  const name = home ? element("a", { href: recordAddress(home.id, { id: record }) }, record) : record;
  const by = correction.accepted_by ? `, ${status} by ${correction.accepted_by}` : "";
  const row = (who, content, kind) => element("div", { class: `turn ${kind}` }, element("div", { class: "who" }, who), element("div", { class: "text" }, content));
  return element("section", { class: "card proposal", tabindex: buttons ? "-1" : null },
    element("p", { class: "facts" }, element("b", {}, action === "drop" ? "leave out" : "correct"), " ", dataset, " ", name,
      element("span", { class: "soft" }, ` ${reader}, ${new Date(at).toLocaleString()}${by}`)),
    was ? row("now", action === "drop" ? element("del", {}, was) : was, "") : null,
    action === "replace" ? row("corrected", text, "wanted") : null,
    comment ? row("why", comment, "soft") : null, buttons);
}
