"""Pages in Chromium: consent, scrolling and loading more, until nothing new appears.

Chromium renders, and every request of a page goes through `Fetcher`: the same user agent, robots.txt, redirects and
retries as without a browser, one request at a time. Images, fonts, media and beacons are not loaded.
"""

import os
import shutil
import time
from contextlib import suppress

from playwright.sync_api import BrowserContext, Error, Page, Route, sync_playwright
from playwright.sync_api import TimeoutError as BrowserTimeoutError

from scripts.collect.fetch import ATTEMPTS, Answer, FailedError, Fetcher, RefusedError
from scripts.common.errors import UserError
from scripts.common.terminal import log
from scripts.config.sites import PageLoading

VARIABLE = "SNAKETUNE_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FIRST_ENTRY = 30_000  # milliseconds to wait for it
PAUSE = 400  # milliseconds after each scroll or click; a request that begins in this time is waited for
QUIET_ROUNDS = 3  # pauses without a new entry, after which the page is complete
LONGEST = 600  # seconds of a page
NOT_LOADED = ("image", "font", "media", "texttrack", "manifest", "ping", "other")  # other: icons and prefetches
NOT_PASSED_ON = ("host", "connection", "content-length", "accept-encoding", "content-encoding", "transfer-encoding")
SCROLL = """item => {
  [...document.querySelectorAll(item)].at(-1)?.scrollIntoView();
  window.scrollTo(0, document.documentElement.scrollHeight);
}"""


class Chromium:
    """A browser that renders the pages of a site; started with the first page."""

    def __init__(self, fetcher: Fetcher, loading: PageLoading):
        self.fetcher, self.loading = fetcher, loading
        self.playwright = self.browser = None

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_) -> None:
        for each, end in ((self.browser, "close"), (self.playwright, "stop")):
            with suppress(Error):
                if each is not None:
                    getattr(each, end)()

    def start(self) -> None:
        """Start the browser: the one of SNAKETUNE_CHROMIUM, else of the machine, else playwright's own."""
        program = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, PROGRAMS)), None)
        self.playwright = sync_playwright().start()
        try:
            self.browser = self.playwright.chromium.launch(
                executable_path=program, chromium_sandbox=os.geteuid() != 0, args=["--disable-gpu"]
            )
        except Error as error:
            remedy = f"install it with `apt-get install chromium` or `playwright install chromium`, or set {VARIABLE}"
            raise UserError(f"Chromium can't be started: {first_line(error)}", program, remedy=remedy) from None

    def rendered(self, answer: Answer, wait_for: str) -> str:
        """Return the HTML of a fetched page when no further elements `wait_for` appear. Raises FailedError."""
        if self.browser is None:
            self.start()
        headers = self.fetcher.client.headers
        context = self.browser.new_context(
            user_agent=headers["user-agent"],
            locale=headers.get("accept-language"),
            service_workers="block",
            accept_downloads=False,
        )
        rendering = Rendering(self.fetcher, self.loading, answer, context)
        with self.fetcher.open_page(answer.url):
            try:
                context.route("**/*", rendering.handle)
                context.route_web_socket("**/*", lambda socket: socket.close())
                return rendering.html(context.new_page(), wait_for)
            except Error as error:
                raise FailedError(f"Chromium: {first_line(error)}") from None
            finally:
                with suppress(Error):
                    context.close()


class Rendering:
    """One page in the browser."""

    def __init__(self, fetcher: Fetcher, loading: PageLoading, answer: Answer, context: BrowserContext):
        self.fetcher, self.loading, self.answer, self.context = fetcher, loading, answer, context
        self.address = str(answer.url.copy_with(fragment=None))
        self.faults: list[str] = []
        self.consented = False

    def html(self, page: Page, wait_for: str) -> str:
        """Return the page's HTML when nothing new appears."""
        end, count, quiet = time.monotonic() + LONGEST, 0, 0
        page.goto(self.address, wait_until="domcontentloaded")
        first = f"{wait_for}, {self.loading.consent}" if self.loading.consent else wait_for
        with suppress(BrowserTimeoutError):
            page.wait_for_selector(first, state="attached", timeout=FIRST_ENTRY)
        while quiet < QUIET_ROUNDS:
            if time.monotonic() > end:
                raise FailedError(f"still loads new entries after {LONGEST} s")
            self.click_and_scroll(page, wait_for)
            page.wait_for_timeout(PAUSE)
            before, count = count, page.locator(wait_for).count()
            quiet = quiet + 1 if count == before else 0
        if self.faults:
            raise FailedError(self.faults[0])
        if not count:
            raise FailedError(f"nothing matches '{wait_for}': the site has been redesigned, or this is another page")
        return page.content()

    def click_and_scroll(self, page: Page, wait_for: str) -> None:
        """Accept the consent banner once, load more, and scroll to the end."""
        loading = self.loading
        if loading.consent and not self.consented and page.locator(loading.consent).first.is_visible():
            page.locator(loading.consent).first.click()
            self.consented = True
            with suppress(BrowserTimeoutError):
                page.wait_for_selector(wait_for, state="attached", timeout=FIRST_ENTRY)
        if loading.load_more and page.locator(loading.load_more).first.is_visible():
            page.locator(loading.load_more).first.click()
        if loading.scroll:
            page.evaluate(SCROLL, wait_for)

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

        robots.txt is obeyed for everything from the page's host and for documents of others. A failure of the former
        is a fault of the page, which would lack entries.
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
            if is_own:
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
