"""The summary of many runs (refdbg-triage-summary/1) as one HTML page that needs nothing else."""

from __future__ import annotations

from typing import Any

from refdbg.dependencies import jinja2
from refdbg.render import page_tables
from refdbg.render.html import page_environment, page_parts
from refdbg.render.triage import ended, headline, leaked, numbers, reasons, status, where
from refdbg.render.verdicts import CONFIDENCES, MEANINGS

_CARDS = 200


def triage_html(record: dict[str, Any]) -> str:
    """The whole page. Raises MissingDependency."""
    bad = [row for row in record["rows"] if row["outcome"] not in ("clean", "left over", "leaks")]
    rows = record["rows"]
    columns = [
        page_tables.texts("job", [row["key"] for row in rows], "code"),
        page_tables.texts("Python", [row["python"] for row in rows]),
        page_tables.texts("outcome", [row["outcome"] for row in rows]),
        page_tables.numbers("new", [row["new"] for row in rows]),
        page_tables.texts("findings", [numbers(row["groups"]) for row in rows]),
        page_tables.texts("references", [leaked(row) for row in rows]),
        page_tables.texts("exit", [ended(row) for row in rows]),
        page_tables.numbers("seconds", [row["seconds"] for row in rows]),
        page_tables.texts("why", ["; ".join(reasons(row)) for row in rows]),
    ]
    return str(page_environment().get_template("triage.html").render(
        **page_parts(),
        record=record,
        headline=list(headline(record)),
        groups=[(number, group, where(group), status(group)) for number, group in
                enumerate(record["groups"][:_CARDS], 1)],
        bad=len(bad),
        meanings={**MEANINGS, **CONFIDENCES},
        rows=len(rows),
        data=jinja2.Markup(page_tables.in_page({"tables": {"jobs": columns}, "graphs": {}})),
    ))  # fmt: skip
