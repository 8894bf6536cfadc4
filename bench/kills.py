"""Kill replays and complete them: at 200 random moments, and at every step of their files.

    python -m bench.kills [KILLS]

After each kill every file that a reader sees is opened; in the end all bytes must be those of a
replay that nobody killed. Takes a minute or two.
"""

import sys
import tempfile
from pathlib import Path

from tests.streaming.killing import kill_many

if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for how, most in (("moments", kills), ("steps", 10_000)):
        with tempfile.TemporaryDirectory() as folder:
            result = kill_many(how, most, Path(folder))
        seen = f"{result['parts_seen'][0]} to {result['parts_seen'][-1]}"
        print(
            f"{how}: {result['killed']} kills, with {seen} parts there; "
            f"{result['completed']} replays completed, the same to the byte"
        )
