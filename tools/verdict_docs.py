"""`python -m tools.verdict_docs`: write the verdict table into docs/reading.md."""

from __future__ import annotations

from pathlib import Path

from streamer.source.verdict import TABLE, Row

_DOCS = Path("docs/reading.md")
_BEGIN, _END = "<!-- verdict table: generated -->\n", "<!-- end of the verdict table -->"


def table() -> str:
    """The table as Markdown."""
    rows = [
        f"| {number} | {row.case} | {row.step.value} | {_gap(row)} |" for number, row in enumerate(TABLE, 1)
    ]
    return "\n".join(["| | case | next step | gap |", "|---:|---|---|---|", *rows]) + "\n"


def _gap(row: Row) -> str:
    if row.gap is None:
        return ""
    return f"`{row.gap}`, {'certain' if row.certain else 'possible'}"


def main() -> None:
    """Replace the table between its marks."""
    text = _DOCS.read_text()
    before, rest = text.split(_BEGIN)
    _DOCS.write_text(before + _BEGIN + table() + _END + rest.split(_END)[1])


if __name__ == "__main__":
    main()
