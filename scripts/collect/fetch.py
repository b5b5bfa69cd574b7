"""Requests to a site: only what robots.txt allows, one at a time, with a delay, a named user agent and retries."""

import email.utils
import ipaddress
import re
import socket
import time
from functools import cache
from typing import NamedTuple

import httpx2
from protego import Protego

from scripts.collect.host_lock import turn_at
from scripts.common.terminal import log
from scripts.config.sites import Site

ATTEMPTS = 4
FIRST_WAIT = 1  # seconds before the second attempt; each further wait is twice as long
GONE = (404, 410)
RETRIED = (429, 500, 502, 503, 504)
TIMEOUT, WHOLE_TIMEOUT = 30, 120  # seconds without a byte, and for a whole answer
MOST_BYTES = 20 * 2**20  # of an answer, decompressed
MOST_REDIRECTS = 5
IPV4_WITHIN = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: its last 32 bits are an IPv4 address
META_CHARSET = re.compile(rb"""charset\s*=\s*["']?([A-Za-z0-9_-]+)""", re.IGNORECASE)


class RefusedError(Exception):
    """A page that is not there for us: robots.txt or these checks disallow its address, or the site has removed it."""


class FailedError(Exception):
    """A request without a usable answer, after all attempts."""


class Answer(NamedTuple):
    """An answer after redirects: the last URL, status, headers, and the decompressed body."""

    url: httpx2.URL
    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, in the encoding of the header, else that of the page's own `meta`, else UTF-8."""
        declared = META_CHARSET.search(self.headers.get("content-type", "").encode()) or META_CHARSET.search(
            self.body[:2048]
        )
        try:
            return self.body.decode(declared[1].decode() if declared else "utf-8", errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")


@cache
def is_public(host: str) -> bool:
    """Return whether all addresses of a host are public; a name that is unknown here may be known to a proxy.

    This keeps the scripts of a page from addresses that they name in this network. It does not stop a host that the
    configuration names, or one whose name server gives another address for the request itself.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    addresses = [ipaddress.ip_address(address.partition("%")[0]) for address in found]
    addresses += [ipaddress.IPv4Address(int(each) & 0xFFFFFFFF) for each in addresses if each in IPV4_WITHIN]
    return all(each.is_global and not each.is_multicast for each in addresses)


class Fetcher:
    """Makes the requests of a site's collection."""

    def __init__(self, site: Site):
        headers = {"User-Agent": site.user_agent} | ({"Accept-Language": site.language} if site.language else {})
        self.client = httpx2.Client(headers=headers, timeout=TIMEOUT)
        self.delay, self.agent, self.hosts = site.delay, site.user_agent, site.all_hosts()
        self.robots: dict[str, Protego | RefusedError] = {}
        self.unnamed: set[str] = set()  # hosts from which pages wanted data

    def page(self, url: str) -> Answer:
        """Return a page after redirects.

        Raises RefusedError, FailedError if the last status is not 200 or no attempt was answered, and ClosedError.
        """
        try:
            request = self.client.build_request("GET", url)
        except httpx2.InvalidURL as error:
            raise RefusedError(f"is not an address: {error}") from None
        answer = self.answer(request, is_page=True)
        if answer.status != 200:
            raise (RefusedError if answer.status in GONE else FailedError)(f"answered {answer.status}")
        return answer

    def answer(
        self,
        request: httpx2.Request,
        is_page: bool = False,
        obeys_robots: bool = True,
        attempts: int = ATTEMPTS,
        waits: bool = True,
    ) -> Answer:
        """Return the answer to a request after redirects; each of them is checked like the first URL.

        With `waits` it is made when the delay since the last request to the host is over.
        """
        for _ in range(MOST_REDIRECTS + 1):
            self.check_address(request.url, is_page)
            delay = self.delay if not obeys_robots else self.checked_delay(request.url)
            answer, following = self.attempted(request, delay if waits else 0, attempts)
            if following is None:
                return answer
            request = following
        raise FailedError(f"redirects more than {MOST_REDIRECTS} times")

    def check_address(self, url: httpx2.URL, is_page: bool) -> None:
        """Raise RefusedError for another scheme than http, a page of another site, and a private address of another.

        A page of the web can't lead into this network, because the configuration names each host with pages.
        """
        if url.scheme not in ("http", "https") or not url.host:
            raise RefusedError(f"{url} is not an address of http or https")
        if is_page and url.host not in self.hosts:
            raise RefusedError(f"{url} is on another host: add it to the site's 'hosts' if its pages may be read")
        if url.host not in self.hosts and not is_public(url.host):
            raise RefusedError(f"{url} is on a private network")

    def warn_of_host(self, url: httpx2.URL) -> None:
        """Say once that data of a host is not loaded because the site's section does not name it."""
        if url.host not in self.unnamed:
            self.unnamed.add(url.host)
            log.warning("not loaded: %s; if it has entries, add %s to the site's 'hosts'", url, url.host)

    def checked_delay(self, url: httpx2.URL) -> float:
        """Return the seconds between two requests to a URL's host. Raises RefusedError if robots.txt disallows it."""
        rules = self.rules(f"{url.scheme}://{url.netloc.decode()}")
        if not rules.can_fetch(str(url), self.agent):
            raise RefusedError(f"robots.txt disallows {url}")
        return max(self.delay, rules.crawl_delay(self.agent) or 0)

    def rules(self, origin: str) -> Protego:
        """Return the robots.txt of an origin, as RFC 9309 has it: 4xx allows all, 5xx and no answer nothing."""
        if origin not in self.robots:
            request = self.client.build_request("GET", f"{origin}/robots.txt")
            try:
                answer = self.answer(request, obeys_robots=False)
                if answer.status >= 500:
                    raise FailedError(f"answered {answer.status}")
                self.robots[origin] = Protego.parse(answer.text if answer.status < 400 else "")
            except FailedError as error:
                self.robots[origin] = RefusedError(f"{origin}/robots.txt {error}, and without it nothing is read")
        found = self.robots[origin]
        if isinstance(found, RefusedError):
            raise found
        return found

    def attempted(self, request: httpx2.Request, delay: float, attempts: int) -> tuple[Answer, httpx2.Request | None]:
        """Return an answer and the request of its redirect; retry after a timeout and the statuses of RETRIED.

        The host's lock is held during the waits. Raises FailedError, and ClosedError.
        """
        with turn_at(request.url.netloc.decode()) as turn:
            for attempt in range(attempts):
                turn.wait(max(delay, FIRST_WAIT * 2 ** (attempt - 1)) if attempt else delay)
                asked = 0.0
                try:
                    answer, following = self.read(request)
                    if answer.status not in RETRIED:
                        return answer, following
                    fault, asked = f"answered {answer.status}", retry_after(answer.headers)
                except httpx2.RequestError as error:
                    fault = f"gave no answer: {error or type(error).__name__}"
                finally:
                    turn.note(asked)
                log.info("%s %s", request.url, fault)
        raise FailedError(f"{fault} ({attempts} attempts)" if attempts > 1 else fault)

    def read(self, request: httpx2.Request) -> tuple[Answer, httpx2.Request | None]:
        """Return the answer to one request, and the request of its redirect."""
        end, body = time.monotonic() + WHOLE_TIMEOUT, bytearray()
        response = self.client.send(request, stream=True, follow_redirects=False)
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout(f"not complete after {WHOLE_TIMEOUT} s")
                if len(body) > MOST_BYTES:
                    raise FailedError(f"has more than {MOST_BYTES // 2**20} MB")
        finally:
            response.close()
        answer = Answer(request.url, response.status_code, response.headers, bytes(body))
        return answer, response.next_request


def retry_after(headers: httpx2.Headers) -> float:
    """Return the seconds that an answer asks to wait, as a number or a date (RFC 9110); 0 if it asks for none."""
    asked = headers.get("retry-after", "")
    if asked.isdecimal():
        return float(asked)
    try:
        return max(email.utils.parsedate_to_datetime(asked).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
