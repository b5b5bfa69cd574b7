"""Pages as tests read them."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Source, tags, links and text of a page; fails on a tag that is closed without having been opened."""

    VOID = frozenset({"meta", "br", "line", "circle", "path", "img"})

    def __init__(self, text: str):
        super().__init__()
        self.source = text
        self.tags, self.links, self.open, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
