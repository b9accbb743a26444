"""Decodes and encodes each dashboard with Grafana's own model, and compares.

The SDK drops keys that it does not know without a word, so every key and value must be there again.
What it adds are defaults, which is fine.
"""

import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(before, after, path=""):
    """Yields what of `before` is not in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}/{key} is lost: {value!r}"
            else:
                yield from lost(value, after[key], f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path} had {len(before)} entries and has {len(after)}"
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}/{index}")
    elif before != after:
        yield f"{path} was {before!r} and is {after!r}"


def main():
    register_default_plugins()
    folder = pathlib.Path(__file__).parents[2] / "dashboards"
    files = sorted(folder.glob("*.json"))
    if not files:
        sys.exit("no dashboard found")
    failed = False
    for file in files:
        before = json.loads(file.read_text())
        after = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(before)))
        found = list(lost(before, after))
        failed |= bool(found)
        for one in found:
            print(f"{file.name}: {one}")
        if not found:
            print(f"{file.name}: every key survives")
    sys.exit(failed)


if __name__ == "__main__":
    main()
