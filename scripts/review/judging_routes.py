"""The HTTP API of judging: studies, tasks, votes, results and exports.

A task has a random id, the prompt and the texts to judge, whatever side they are of. Only the results of a study, which
the page shows apart, say what the texts are.
"""

from pathlib import Path

from starlette.routing import Route

from scripts.review.exports import export
from scripts.review.judgements import Judgements
from scripts.review.library import Library
from scripts.review.replies import answering, number, reader_of, text
from scripts.review.results import results
from scripts.review.studies import available, needed, plan_study, vote_value

# The seed, which tells the sides, is not shown.
SHOWN = ("id", "kind", "title", "sides", "records", "tasks_per_reader", "needed", "readers", "identical", "created")


def routes(library: Library, folder: Path) -> list[Route]:
    """Return the routes; `library` gives the answers that are judged, `folder` holds the file of judgements."""
    store = Judgements(folder)

    def shown(plan: dict) -> dict:
        return {name: plan[name] for name in SHOWN}

    def add_study(said: dict) -> dict:
        reader_of(said)
        sides = [text(said, "left"), text(said, "right") if said.get("right") else None]
        planned = {
            "records": number(said, "records", None, int),
            "readers": number(said, "readers", 1, int),
            "overlap": number(said, "overlap", 0.2),
        }
        plan, items = plan_study(library.answers, text(said, "kind"), *sides, **planned, **rates(said))
        return shown(store.study(store.add_study(plan, items)))

    def rates(said: dict) -> dict:
        return {name: number(said, name, None) for name in ("threshold", "expected")}

    def wanted(said: dict) -> dict:
        kind, right = text(said, "kind"), said.get("right")
        found = needed(kind, right, **rates(said))
        return found | ({"available": available(library.answers, kind, said["left"], right)} if "left" in said else {})

    def task(said: dict) -> dict:
        plan = store.study(text(said, "study"))
        found = {"kind": plan["kind"], **store.next_task(plan["id"], reader_of(said))}
        if found["task"]:
            run = plan["left"].rpartition("/")[0]
            found["messages"] = library.prompt(run, found["messages"])
            found["language"] = library.collection(f"run/{run}").current.language  # of the whole study
        return found

    def study(said: dict) -> dict:
        if said.get("reader"):
            store.show(text(said, "id"), reader_of(said))
        return results(store, text(said, "id"), library.answers)

    def undo(said: dict) -> dict:
        store.undo(text(said, "study"), reader_of(said))
        return task(said)

    endpoints = {
        ("GET", "studies"): lambda said: {"studies": [shown(plan) for plan in store.studies()]},
        ("GET", "needed"): wanted,
        ("GET", "task"): task,
        ("GET", "study"): study,
        ("POST", "studies"): add_study,
        ("POST", "votes"): lambda said: store.vote(
            text(said, "task"), reader_of(said), lambda kind, is_swapped: vote_value(kind, is_swapped, said)
        ),
        ("POST", "undo"): undo,
        ("POST", "export"): lambda said: {"files": export(folder)},
    }
    return [
        Route(f"/api/{name}", answering(function), methods=[method]) for (method, name), function in endpoints.items()
    ]
