"""Say what changed between two saved cost tables: ``python bench/compare.py OLD NEW``.

A row's cost is its ratio to the bare loop of the same round, so the machine's speed drops out.
A change is beyond noise if the middle halves of the two tables' rounds do not overlap.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def verdict(old: list[float], new: list[float]) -> str:
    """Tell a change from noise."""
    (a, b), (c, d) = np.quantile(old, [0.25, 0.75]), np.quantile(new, [0.25, 0.75])
    if c > b:
        return "slower"
    return "faster" if d < a else "within noise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (options.old, options.new))
    for name in ("cpu", "python", "numpy", "numba", "records"):
        if old[name] != new[name]:
            print(f"{name}: {old[name]} and {new[name]}")
    print(f"{old['commit']} to {new['commit']}; ratios to the bare loop")
    print(f"{'case':34} {'old':>6} {'new':>6} {'new/old':>8}")
    before = {row["row"]: row for row in old["rows"]}
    for row in new["rows"]:
        if row["row"] in before:
            was, now = before[row["row"]], row
            change = now["ratio"] / was["ratio"]
            said = verdict(was["ratios"], now["ratios"])
            print(f"{row['row']:34} {was['ratio']:6.2f} {now['ratio']:6.2f} {change:8.2f} {said}")


if __name__ == "__main__":
    main()
