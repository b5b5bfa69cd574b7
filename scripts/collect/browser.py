"""Pages in Chromium: consent, scrolling and loading more, until nothing new appears.

Chromium renders, and every request of a page goes through `Fetcher`: the same user agent, robots.txt, redirects and
retries as without a browser, one request at a time and with the delay, except for scripts and styles. Images, fonts,
media and beacons are not loaded, and no data of hosts that the site's section does not name.
"""

import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, Route, sync_playwright
from playwright.sync_api import TimeoutError as BrowserTimeoutError

from scripts.collect.fetch import ATTEMPTS, WHOLE_TIMEOUT, Answer, FailedError, Fetcher, RefusedError
from scripts.collect.host_lock import ClosedError
from scripts.common.errors import UserError
from scripts.common.terminal import log
from scripts.config.sites import PageLoading, selector_parts

VARIABLE = "SNAKETUNE_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FIRST_ENTRY = 30_000  # milliseconds to wait for it
PAUSE = 500  # milliseconds after each scroll or click; a request that begins in this time is waited for
QUIET_ROUNDS = 3  # pauses without a new entry, after which the page is complete
CLICK = 2_000  # milliseconds to wait for a button
LONGEST = 600  # seconds of a page
LOADED_AGAIN = "Execution context was destroyed"  # playwright's words when a page loads itself again meanwhile
DATA = ("fetch", "xhr")
PAGES = "if a match has several pages, give the link to the next one as page.next (of a listing: listing.next)"
# "other" is icons and prefetches.
NOT_LOADED = ("image", "font", "media", "texttrack", "eventsource", "manifest", "ping", "other")
NOT_PASSED_ON = ("host", "connection", "content-length", "accept-encoding", "content-encoding", "transfer-encoding")
SCROLL = """async item => {
  [...document.querySelectorAll(item)].at(-1)?.scrollIntoView();
  window.scrollTo(0, document.documentElement.scrollHeight);
  // The page's own code for scrolling runs before the next frame.
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser: the one of SNAKETUNE_CHROMIUM, else of the machine, else playwright's own."""
    program = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, PROGRAMS)), None)
    with sync_playwright() as playwright:
        try:
            # Chromium's sandbox does not work for root.
            browser = playwright.chromium.launch(
                executable_path=program, chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"]
            )
        except Error as error:
            remedy = f"install it with `apt-get install chromium` or `playwright install chromium`, or set {VARIABLE}"
            raise UserError(f"Chromium can't be started: {first_line(error)}", program, remedy=remedy) from None
        yield browser
        with suppress(Error):
            browser.close()


def rendered(
    browser: Browser, fetcher: Fetcher, loading: PageLoading, answer: Answer, item: str, rounds: float = math.inf
) -> str:
    """Return the HTML of a fetched page when no further elements `item` appear, or after `rounds` of loading more.

    Raises RefusedError, FailedError or ClosedError if a part of the page does not come.
    """
    headers = fetcher.client.headers
    options = {"user_agent": headers["user-agent"], "locale": headers.get("accept-language")}
    try:
        context = browser.new_context(service_workers="block", accept_downloads=False, **options)
        rendering = Rendering(fetcher, loading, answer, context)
        with context:
            context.route("**/*", rendering.handle)
            context.set_default_navigation_timeout(WHOLE_TIMEOUT * 1000)
            context.route_web_socket("**/*", lambda socket: socket.close())
            return rendering.html(context.new_page(), item, rounds)
    except Error as error:
        raise FailedError(f"can't be loaded by Chromium: {first_line(error)}") from None


class Rendering:
    """One page in the browser."""

    def __init__(self, fetcher: Fetcher, loading: PageLoading, answer: Answer, context: BrowserContext):
        self.fetcher, self.loading, self.context = fetcher, loading, context
        self.address = str(answer.url.copy_with(fragment=None))
        self.first: Answer | None = answer  # for the first request of the page; a reload asks the site
        self.faults: list[Exception] = []
        self.pending: set[Request] = set()  # requests whose answer the page has not received
        self.settled: set[str] | None = None  # texts of the entries when nothing was loading
        self.consented = self.loads_more = False

    def html(self, page: Page, item: str, rounds: float) -> str:
        """Return the page's HTML when no further elements `item` appear."""
        end, count, quiet = time.monotonic() + LONGEST, 0, 0
        page.on("request", lambda request: self.pending.add(request))
        page.on("requestfinished", lambda request: self.pending.discard(request))
        page.on("requestfailed", lambda request: self.pending.discard(request))
        page.goto(self.address, wait_until="domcontentloaded")
        self.wait_for_first(page, item, self.loading.consent)
        while quiet < QUIET_ROUNDS and rounds > 0:
            if time.monotonic() > end:
                raise FailedError(f"still loads new entries after {LONGEST} s")
            try:
                self.click_and_scroll(page, item)
                page.wait_for_timeout(PAUSE)
                texts = page.locator(item).all_text_contents()
            except Error as error:
                if LOADED_AGAIN not in str(error):
                    raise
                if not self.faults:
                    self.wait_for_first(page, item)
                    continue
            if self.faults:
                raise self.faults[0]
            if self.settled and 2 * len(self.settled - set(texts)) > len(self.settled):
                raise FailedError(f"entries are replaced by others: {PAGES}")
            if not self.pending:
                self.settled = set(texts)
            quiet = quiet + 1 if len(texts) == count and not self.pending else 0
            count, rounds = len(texts), rounds - 1
        return page.content()

    def wait_for_first(self, page: Page, item: str, consent: str | None = None) -> None:
        """Wait until what `page.wait_for` names is there, else the first element `item`, or the consent banner."""
        wanted = selector_parts(self.loading.wait_for or item)[0]
        with suppress(BrowserTimeoutError):
            page.wait_for_selector(f"{wanted}, {consent}" if consent else wanted, state="attached", timeout=FIRST_ENTRY)

    def click_and_scroll(self, page: Page, item: str) -> None:
        """Accept the consent banner once, load more, and scroll to the end."""
        loading = self.loading
        if loading.consent and not self.consented and self.clicked(page, loading.consent):
            self.consented = True
            page.wait_for_load_state("domcontentloaded")  # the button may load the page again
            self.wait_for_first(page, item)
        if loading.load_more and self.settled is not None and not self.pending:
            self.loads_more = True
            self.clicked(page, loading.load_more)
        if loading.scroll:
            page.evaluate(SCROLL, item)

    def clicked(self, page: Page, selector: str) -> bool:
        """Click a button if there is one that shows and is enabled; return whether it was clicked."""
        button = page.locator(selector).first
        with suppress(BrowserTimeoutError):  # it is covered, or was disabled meanwhile
            if button.is_visible() and button.is_enabled():
                button.click(timeout=CLICK)
                return True
        return False

    def handle(self, route: Route) -> None:
        """Answer a request of the page: with the page itself, with an answer of the web, or not at all."""
        with suppress(Error):  # the page was closed meanwhile
            request = route.request
            leads_away = request.is_navigation_request() and request.frame.parent_frame is None
            if leads_away and self.loads_more:
                self.faults.append(FailedError(f"'{self.loading.load_more}' leads to {request.url}: {PAGES}"))
            if request.resource_type in NOT_LOADED or (leads_away and self.loads_more):
                route.abort()
            elif leads_away and self.first and request.url.partition("#")[0] == self.address:
                answer, self.first = self.first, None
                fulfil(route, answer)
            elif (answer := self.answer_to(request, leads_away)) is None:
                route.abort()
            else:
                fulfil(route, answer)

    def answer_to(self, request: Request, leads_away: bool) -> Answer | None:
        """Return the answer to a request within the page, or None.

        robots.txt is obeyed for everything from the site's hosts and for documents of others. If data does not come,
        that is a fault of the page, which would lack entries, except what `page.may_fail` names.
        """
        cookies = self.context.cookies(request.url)
        headers = {name: value for name, value in request.headers.items() if name not in NOT_PASSED_ON}
        if cookies:
            headers["cookie"] = "; ".join(f"{each['name']}={each['value']}" for each in cookies)
        sent = self.fetcher.client.build_request(
            request.method, request.url, headers=headers, content=request.post_data_buffer
        )
        is_own, is_data = sent.url.host in self.fetcher.hosts, request.resource_type in DATA
        if is_data and not is_own:
            self.fetcher.warn_of_host(sent.url)
            return None
        answer = None
        try:
            answer = self.fetcher.answer(
                sent,
                is_page=leads_away,
                obeys_robots=is_own or request.resource_type == "document",
                attempts=ATTEMPTS if is_own else 1,
                waits=is_data or request.resource_type == "document",
            )
            if answer.status < 400:
                return answer
            error: Exception = FailedError(f"answered {answer.status}")
        except (RefusedError, FailedError, ClosedError) as raised:
            error = raised
        log.info("%s %s", request.url, error)
        if isinstance(error, ClosedError) and is_own:
            self.faults.append(error)
        elif is_data and not any(part in request.url for part in self.loading.may_fail):
            what = f"{request.url}, which the page asks for: {error}"
            self.faults.append(type(error)(f"{what}; if it has no entries, name it in page.may_fail"))
        return answer


def fulfil(route: Route, answer: Answer) -> None:
    """Give an answer to the browser; its body is decompressed, and may have several cookies."""
    headers = {}
    for name, value in answer.headers.multi_items():
        name = name.lower()
        if name not in NOT_PASSED_ON:
            headers[name] = f"{headers[name]}\n{value}" if name in headers else value
    route.fulfill(status=answer.status, headers=headers, body=answer.body)


def first_line(error: Exception) -> str:
    """Return the first line of a message."""
    return str(error).strip().partition("\n")[0]
