"""Markdown as a reader sees it."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt


class Tags(HTMLParser):
    """What a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\x01"  # where a text ends, no name or link goes on


def rendered(text: str) -> Tags:
    """What Markdown becomes."""
    tags = Tags()
    tags.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
    return tags
