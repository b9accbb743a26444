"""A past for a Prometheus: what another one knew at several moments, told as if hours lay between them.

    history.py MINUTES:STATE... > openmetrics

Each state is an answer of /federate and holds from so many minutes ago until the next one does, with a sample a minute;
the last ends a minute ago. Counters grow all the while as they did in the first minute, but for rises of subjects, which
are what the states differ in. Alerts are left to the Prometheus that reads it.
"""

import sys
import time

RISES = "rbac_subject_escalations_total"
COUNTED = ("_total", "_bucket", "_count", "_sum")


def read(path):
    """Each series with its value."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("#"):
                series, value, _ = line.rsplit(" ", 2)
                name = series.split("{")[0]
                counted = ":" not in name and name.endswith(COUNTED) and name != RISES
                if not name.startswith("ALERTS"):
                    yield series, (float(value), counted)


def main():
    now = int(time.time())
    states = [(now - 60 * int(minutes), dict(read(path))) for minutes, path in (a.split(":", 1) for a in sys.argv[1:])]
    last = {series: known for _, state in states for series, known in state.items()}
    start, end = states[0][0], now - 60
    for at in range(start, end, 60):
        state = [known for since, known in states if since <= at][-1]
        for series, (value, counted) in state.items():
            print(series, last[series][0] * (at - start) / 60 if counted else value, at)
    print("# EOF")


if __name__ == "__main__":
    main()
