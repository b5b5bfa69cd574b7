"""Pages in Chromium: consent, scrolling and loading more, until nothing new appears.

Chromium renders, and every request of a page goes through `Fetcher`: the same user agent, robots.txt, redirects and
retries as without a browser, one request at a time. Images, fonts, media and beacons are not loaded.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, Route, sync_playwright
from playwright.sync_api import TimeoutError as BrowserTimeoutError

from scripts.collect.fetch import ATTEMPTS, WHOLE_TIMEOUT, Answer, FailedError, Fetcher, RefusedError
from scripts.common.errors import UserError
from scripts.common.terminal import log
from scripts.config.sites import PageLoading, selector_parts

VARIABLE = "SNAKETUNE_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FIRST_ENTRY = 30_000  # milliseconds to wait for it
PAUSE = 500  # milliseconds after each scroll or click; a request that begins in this time is waited for
QUIET_ROUNDS = 3  # pauses without a new entry, after which the page is complete
LONGEST = 600  # seconds of a page
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


def rendered(browser: Browser, fetcher: Fetcher, loading: PageLoading, answer: Answer, item: str) -> str:
    """Return the HTML of a fetched page when no further elements `item` appear. Raises FailedError."""
    headers = fetcher.client.headers
    options = {"user_agent": headers["user-agent"], "locale": headers.get("accept-language")}
    try:
        context = browser.new_context(service_workers="block", accept_downloads=False, **options)
        rendering = Rendering(fetcher, loading, answer, context)
        with context, fetcher.open_page(answer.url):
            context.route("**/*", rendering.handle)
            context.set_default_navigation_timeout(WHOLE_TIMEOUT * 1000)
            context.route_web_socket("**/*", lambda socket: socket.close())
            return rendering.html(context.new_page(), item)
    except Error as error:
        raise FailedError(f"can't be loaded by Chromium: {first_line(error)}") from None


class Rendering:
    """One page in the browser."""

    def __init__(self, fetcher: Fetcher, loading: PageLoading, answer: Answer, context: BrowserContext):
        self.fetcher, self.loading, self.answer, self.context = fetcher, loading, answer, context
        self.address = str(answer.url.copy_with(fragment=None))
        self.faults: list[str] = []
        self.pending: set[Request] = set()  # requests whose answer the page has not received
        self.consented = False

    def html(self, page: Page, item: str) -> str:
        """Return the page's HTML when no further elements `item` appear."""
        end, count, quiet = time.monotonic() + LONGEST, 0, 0
        page.on("request", lambda request: self.pending.add(request))
        page.on("requestfinished", lambda request: self.pending.discard(request))
        page.on("requestfailed", lambda request: self.pending.discard(request))
        page.goto(self.address, wait_until="domcontentloaded")
        self.wait_for_first(page, item, self.loading.consent)
        while quiet < QUIET_ROUNDS:
            if time.monotonic() > end:
                raise FailedError(f"still loads new entries after {LONGEST} s")
            self.click_and_scroll(page, item)
            page.wait_for_timeout(PAUSE)
            before, count = count, page.locator(item).count()
            quiet = quiet + 1 if count == before and not self.pending else 0
        if self.faults:
            raise FailedError(self.faults[0])
        if not count:
            raise FailedError(f"nothing matches '{item}': the site has been redesigned, or this is another page")
        return page.content()

    def wait_for_first(self, page: Page, item: str, consent: str | None = None) -> None:
        """Wait until what `page.wait_for` names is there, else the first element `item`, or the consent banner."""
        wanted = selector_parts(self.loading.wait_for or item)[0]
        with suppress(BrowserTimeoutError):
            page.wait_for_selector(f"{wanted}, {consent}" if consent else wanted, state="attached", timeout=FIRST_ENTRY)

    def click_and_scroll(self, page: Page, item: str) -> None:
        """Accept the consent banner once, load more, and scroll to the end."""
        loading = self.loading
        if loading.consent and not self.consented and page.locator(loading.consent).first.is_visible():
            page.locator(loading.consent).first.click()
            self.consented = True
            self.wait_for_first(page, item)
        if loading.load_more and page.locator(loading.load_more).first.is_visible():
            page.locator(loading.load_more).first.click()
        if loading.scroll:
            page.evaluate(SCROLL, item)

    def handle(self, route: Route) -> None:
        """Answer a request of the page: with the page itself, with an answer of the web, or not at all."""
        with suppress(Error):  # the page was closed meanwhile
            request = route.request
            if request.resource_type in NOT_LOADED:
                route.abort()
            elif request.is_navigation_request() and request.url.partition("#")[0] == self.address:
                fulfil(route, self.answer)
            elif (answer := self.answer_to(route)) is None:
                route.abort()
            else:
                fulfil(route, answer)

    def answer_to(self, route: Route) -> Answer | None:
        """Return the answer to a request within the page, or None.

        robots.txt is obeyed for everything from the page's host and for documents of others. If its data
        does not come, that is a fault of the page, which would lack entries.
        """
        request, cookies = route.request, self.context.cookies(route.request.url)
        headers = {name: value for name, value in request.headers.items() if name not in NOT_PASSED_ON}
        if cookies:
            headers["cookie"] = "; ".join(f"{each['name']}={each['value']}" for each in cookies)
        try:
            sent = self.fetcher.client.build_request(
                request.method, request.url, headers=headers, content=request.post_data_buffer
            )
            is_own = sent.url.host == self.answer.url.host
            obeys = is_own or request.resource_type == "document"
            leads_away = request.is_navigation_request() and request.frame.parent_frame is None
            attempts = ATTEMPTS if is_own else 1
            answer = self.fetcher.answer(sent, is_page=leads_away, obeys_robots=obeys, attempts=attempts)
        except RefusedError as error:
            log.info("not loaded: %s", error)
        except FailedError as error:
            log.warning("%s %s", request.url, error)
            if is_own and request.resource_type in ("fetch", "xhr"):
                self.faults.append(f"a part of the page, {request.url}, {error}")
        else:
            return answer
        return None


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
