"""Serve a bundle and play a match with it: requests by the minute and in bursts; answers, times and memory are judged.

    python scripts/deploy/soak.py results/runs/football/bundle --prompts answers.jsonl --minutes 90 --speed 1 \\
        --burst 8 --p95 5 --output soak.json [--monitor monitor.sqlite]

In each minute one prompt comes, at a random moment, and a burst begins each quarter of an hour. At any `--speed`,
seconds are those of the clock. No package is needed; outside .venv start it in a checkout with
`PYTHONPATH=$PWD python3.11 -m scripts.deploy.soak`.
"""

import http.client
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.request import urlopen

from scripts.common.cli import Progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl, sha256_of, write_json
from scripts.common.parent_watchdog import die_with_parent
from scripts.common.terminal import warn
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.sums import SUMS

LEFTOVER = re.compile(r"<\|[\w ]{1,40}\|>|\[/?(INST|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|</?s>|<unk>|<(start|end)_of_turn>")
SECONDS_TO_LOAD, SECONDS_TO_ANSWER, SECONDS_TO_END, SECONDS_BETWEEN_SAMPLES = 600, 120, 10, 0.5
QUARTER = 15  # minutes with one burst
CUT = 0.2  # by how much the share of answers that reach max_tokens may exceed that of the prompts' own answers
SHOWN = 20  # faulty answers in soak.json
SETTINGS = ("minutes", "speed", "burst", "p95", "memory_growth", "max_tokens", "seed")


@dataclass
class Answer:
    """An answer: its text, the seconds to its last and its first token, and what is wrong with it."""

    minute: float
    text: str = ""
    seconds: float = 0.0
    first_token: float | None = None
    fault: str | None = None  # "empty", "broken: why", "timeout: why" or "error: why"
    is_cut: bool = False  # it reached max_tokens


def match_of(prompts: list[list[dict]], minutes: float, burst: int, seed: int) -> list[tuple]:
    """Return the requests of a match, (minute, messages), in their order: one a minute, and the bursts."""
    moments, following, events = random.Random(seed), cycle(prompts), []
    for minute in range(math.ceil(minutes)):
        events.append((min(minute + moments.random(), minutes), next(following)))
        if minute % QUARTER == 0:
            events += [(minute, next(following)) for _ in range(burst)]
    return sorted(events, key=lambda event: event[0])


def read_prompts(path: Path) -> tuple[list[list[dict]], float]:
    """Return the prompts, without an answer at their end, and the share of answers that were cut, by their `stop`."""
    if not path.is_file():
        raise UserError("does not exist", path, remedy="name answers, or a test split")
    prompts, stops = [], []
    for number, row in enumerate(read_jsonl(path), 1):
        messages = row.get("messages") or [{}]
        messages = messages[:-1] if messages[-1].get("role") == "assistant" else messages
        if not messages or not all(isinstance(message.get("content"), str) for message in messages):
            raise UserError("has no messages of text before the answer", path, number)
        prompts.append(messages)
        stops.append(row.get("stop"))
    if not prompts:
        raise UserError("has no prompts", path, remedy="name answers, or a test split")
    return prompts, stops.count("length") / len(stops)


class Server:
    """A bundle's serve.sh in a process group of its own, from the time that the model is loaded, during a block."""

    def __init__(self, bundle: Path):
        program = os.environ.get("LLAMA_SERVER", "llama-server")
        if not (bundle / "serve.sh").is_file():
            raise UserError("has no serve.sh", bundle, remedy="run snakemake to build the bundle again")
        if not shutil.which(program):
            raise UserError(f"{program} is not installed", remedy="run `make llama-server`, or set LLAMA_SERVER")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(self.port)}
        # Without the cache of prompts, which grows up to its limit, the memory that grows is a leak.
        command = ["sh", str(bundle / "serve.sh"), "--cache-ram", "0"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=2, start_new_session=True, preexec_fn=die_with_parent
        )

    def __enter__(self) -> "Server":
        """Wait until the model is loaded. Raises UserError if the server ends."""
        end = time.monotonic() + SECONDS_TO_LOAD
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return self
            time.sleep(0.1)
        self.__exit__()
        raise UserError("the server did not start", remedy="its last lines in the log say why")

    def __exit__(self, *_) -> None:
        """Stop the server."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, number)
                self.process.wait(SECONDS_TO_END)

    def memory(self) -> int:
        """Return the resident memory in bytes (proc_pid_status(5)); 0 if the server has ended. serve.sh execs it."""
        with suppress(OSError):
            found = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
            return int(found[1]) * 1024 if found else 0
        return 0


def stream(port: int, body: dict, answer: Answer) -> str | None:
    """Post a request, add the streamed text and its times to the answer, and return the finish reason."""
    started, finish = time.monotonic(), None
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if key := os.environ.get("LLAMA_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_ANSWER)
    connection.request("POST", "/v1/chat/completions", json.dumps(body | {"stream": True}), headers)
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise OSError(f"HTTP status {response.status}: {response.read(200).decode(errors='replace')}")
    while (line := response.readline()) and line.strip() != b"data: [DONE]":
        answer.seconds = time.monotonic() - started
        if answer.seconds > SECONDS_TO_ANSWER:
            raise TimeoutError
        for choice in json.loads(line[6:])["choices"] if line.startswith(b"data: ") else ():
            text, finish = choice["delta"].get("content") or "", choice.get("finish_reason") or finish
            answer.first_token = answer.first_token or (answer.seconds if text else None)
            answer.text += text
    return finish


def ask(port: int, minute: float, messages: list[dict], max_tokens: int) -> Answer:
    """Ask the server, and return its answer with what is wrong with it."""
    answer = Answer(minute)
    try:
        finish = stream(port, {"messages": messages, "max_tokens": max_tokens}, answer)
    except TimeoutError:
        answer.seconds = max(answer.seconds, SECONDS_TO_ANSWER)
        answer.fault = f"timeout: no end after {SECONDS_TO_ANSWER} s"
        return answer
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        answer.fault = f"error: {type(error).__name__}: {error}"
        return answer
    left, answer.is_cut = LEFTOVER.search(answer.text), finish == "length"
    if not answer.text.strip():
        answer.fault = "empty"
    elif finish not in ("stop", "length"):
        answer.fault = f"broken: its finish reason is {finish}"
    elif "\ufffd" in answer.text or left:
        answer.fault = f"broken: it has {left[0] if left else 'U+FFFD, a replacement character'}"
    return answer


def play(server: Server, events: list[tuple], limits, told: Callable) -> tuple[list[Answer], list[tuple[bool, int]]]:
    """Send each request at its time; return the answers, and samples of memory in bytes with whether it is warm-up.

    The warm-up lasts for a tenth of the match, and until as many requests as a burst has are answered. A server that
    ends stops the match. Each answer is given to `told`.
    """
    answers, samples, threads, started, bar = [], [], [], time.monotonic(), Progress("soak", len(events))

    def run(minute: float, messages: list[dict]) -> None:
        answers.append(ask(server.port, minute, messages, limits.max_tokens))
        told(answers[-1])

    waiting = list(reversed(events))
    while (waiting or any(thread.is_alive() for thread in threads)) and server.process.poll() is None:
        minute = (time.monotonic() - started) * limits.speed / 60
        while waiting and waiting[-1][0] <= minute:
            threads.append(threading.Thread(target=run, args=waiting.pop(), daemon=True))
            threads[-1].start()
            bar.advance()
        samples.append((minute <= limits.minutes / 10 or len(answers) < limits.burst, server.memory()))
        until_next = (waiting[-1][0] - minute) * 60 / limits.speed if waiting else SECONDS_BETWEEN_SAMPLES
        time.sleep(min(SECONDS_BETWEEN_SAMPLES, max(until_next, 0.01)))
    for thread in threads:
        thread.join()
    return answers, samples


def summary(values: list[float]) -> dict:
    """Return median, 95th percentile (nearest rank) and maximum of seconds; each is None without any value."""
    ranked = sorted(values) or [None]
    found = statistics.median_low(ranked), ranked[math.ceil(0.95 * len(ranked)) - 1], ranked[-1]
    return {name: value and round(value, 3) for name, value in zip(("median", "p95", "max"), found, strict=True)}


def judged(
    answers: list[Answer], samples: list[tuple[bool, int]], asked: int, cut: float, status: int | None, limits
) -> dict:
    """Return the findings; `status` is that of a server that ended, `limits` has p95 (seconds) and memory_growth.

    `cut` is the share of the prompts' own answers that reached the limit of tokens. Memory grows from the largest
    sample of the warm-up to the largest of the rest. A timeout counts in p95 with its seconds.
    """
    kinds = Counter(answer.fault.partition(":")[0] for answer in answers if answer.fault)
    done = [answer for answer in answers if not answer.fault]
    seconds = summary([answer.seconds for answer in answers if (answer.fault or "timeout").startswith("timeout")])
    share = sum(answer.is_cut for answer in done) / len(done) if done else 0
    warm, most = (max((size for is_warm, size in samples if is_warm is which), default=0) for which in (True, False))
    growth = max(most / warm - 1, 0) if warm else 0
    reasons = [
        *([] if status is None else [f"the server ended with exit status {status}"]),
        *([f"{asked - len(answers)} of {asked} requests were not sent"] if len(answers) < asked else []),
        *(f"{count} of {asked} answers: {kind}" for kind, count in sorted(kinds.items())),
        *([f"{share:.0%} of the answers did not end, but reached the limit of tokens"] if share > cut + CUT else []),
        *([f"p95 is {seconds['p95']} s, above {limits.p95} s"] if (seconds["p95"] or 0) > limits.p95 else []),
        *([f"memory grew by {growth:.1%}, above {limits.memory_growth:.1%}"] if growth > limits.memory_growth else []),
    ]
    return {
        "passed": not reasons,
        "reasons": reasons,
        "requests": asked,
        "answers": len(answers),
        "faults": dict(kinds),
        "cut": round(share, 4),
        "seconds": seconds,
        "first_token": summary([answer.first_token for answer in answers if answer.first_token is not None]),
        "memory": {"warm_bytes": warm, "most_bytes": max(warm, most), "growth": round(growth, 4)},
        "faulty": [vars(answer) for answer in answers if answer.fault][:SHOWN],
    }


def monitor_at(path: Path | None, model: str) -> ABTestMonitor | None:
    """Return the monitor to log to, if any."""
    try:
        monitor = path and ABTestMonitor(path)
    except (ValueError, sqlite3.Error) as error:
        raise UserError(str(error), path) from None
    if monitor and model not in monitor.settings["models"]:
        raise UserError(
            f"has no model '{model}', but {' and '.join(monitor.settings['models'])}", path, remedy="--model"
        )
    return monitor


def soak(arguments) -> None:
    """Serve the bundle, play the match, and write what was found."""
    if min(arguments.minutes, arguments.speed) <= 0 or arguments.burst < 1:
        raise UserError("--minutes and --speed must be above 0, and --burst at least 1")
    prompts, cut = read_prompts(arguments.prompts)
    events = match_of(prompts, arguments.minutes, arguments.burst, arguments.seed)
    if not (arguments.bundle / SUMS).is_file():
        raise UserError(f"has no {SUMS}", arguments.bundle, remedy="run snakemake to build the bundle again")
    about = {"bundle_sha256": sha256_of(arguments.bundle / SUMS)}
    monitor = monitor_at(arguments.monitor, arguments.model)

    def told(answer: Answer) -> None:
        if monitor:
            monitor.log_metric(arguments.model, answer.text, answer.seconds, answer.fault)

    with Server(arguments.bundle) as server:
        answers, samples = play(server, events, arguments, told)
        status = server.process.poll()
    found = judged(answers, samples, len(events), cut, status, arguments)
    write_json(arguments.output, found | about | {"settings": {key: getattr(arguments, key) for key in SETTINGS}})
    for reason in found["reasons"]:
        warn(f"{arguments.output}: not passed: {reason}")
    if arguments.fail and not found["passed"]:
        raise UserError("the bundle did not pass", arguments.output)


def parser():
    """Return the step's command line."""
    parser = step_parser(__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder of the bundle, or of a release")
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL with messages: answers, or a test split")
    parser.add_argument("--minutes", type=float, default=90, help="length of the match")
    parser.add_argument("--speed", type=float, default=1, help="how many times as fast the match is played")
    parser.add_argument("--burst", type=int, default=8, help="requests at once, in each quarter of an hour")
    parser.add_argument("--p95", type=float, default=5, help="limit of the 95th percentile, in seconds")
    parser.add_argument("--memory-growth", type=float, default=0.1, help="limit of the growth after the warm-up")
    parser.add_argument("--max-tokens", type=int, default=256, help="longest answer")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--monitor", type=Path, help="SQLite file of a monitor, to log each answer to")
    parser.add_argument("--model", default="new", help="name of the model in the monitor")
    parser.add_argument("--output", type=Path, required=True, help="findings to write (JSON)")
    parser.add_argument("--fail", action="store_true", help="exit with status 1 if a gate did not pass")
    return parser


main = step_main(soak, parser)

if __name__ == "__main__":
    sys.exit(main())
