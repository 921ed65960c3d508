"""Tables in plain text, for terminals and pipes."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[object]]) -> str:
    """Rows as lines with aligned columns: numbers to the right, words to the left.

    Args:
        rows: The heading first. A column whose other cells all begin with a digit, a dash or
            nothing is one of numbers.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numbers = [
        all(not cell or cell[0].isdigit() or cell == "–" for cell in column[1:])
        for column in zip(*cells, strict=True)
    ]
    lines = []
    for row in cells:
        each = zip(row, widths, numbers, strict=True)
        lines.append("  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in each).rstrip())
    return "\n".join(lines)
