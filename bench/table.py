"""Results: medians, ratios, and tables for people to read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Dict, List, Sequence, Union

Cell = Union[str, float, None]


@dataclass
class Table:
    """One benchmark's result. A column whose name begins with `of ` holds ratios."""

    title: str
    columns: Sequence[str]
    rows: List[List[Cell]] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def ratios(self) -> List[float]:
        """All ratios in the table."""
        indices = [index for index, name in enumerate(self.columns) if name.startswith('of ')]
        return [cell for row in self.rows for cell in (row[index] for index in indices) if isinstance(cell, (int, float))]

    def text(self) -> str:
        """The table as lines of text."""
        grid = [list(self.columns), *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[index]) for row in grid) for index in range(len(self.columns))]
        lines = ['  '.join(cell.ljust(width) if index == 0 else cell.rjust(width)
                           for index, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in grid]
        lines.insert(1, '-' * len(max(lines, key=len)))
        return '\n'.join([self.title, '', *lines, *(f'({note})' for note in self.notes)]) + '\n'


def shown(cell: Cell) -> str:
    """A cell as text: a number with three digits, or all digits before the point."""
    if cell is None:
        return ''
    if isinstance(cell, str):
        return cell
    if cell == 0 or not math.isfinite(cell):
        return f'{cell:g}'
    return f'{cell:.{max(0, 2 - math.floor(math.log10(abs(cell))))}f}'


def target(limit: float, measured: float) -> str:
    """A cell for the column `target`: the limit, and whether it is reached."""
    return f'<= {limit:g} {"reached" if measured <= limit else "MISSED"}'


def medians(samples: Dict[str, List[float]]) -> Dict[str, float]:
    """The median of each contender's samples."""
    return {name: median(values) for name, values in samples.items()}
