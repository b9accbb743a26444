"""Draws the dashboards' grids with each panel's data from a Prometheus, as Grafana would lay them out.

Not Grafana: it reads the same JSON (positions, units, thresholds, mappings, transformations, words for
zero and for nothing) and shows what would be cut off, crowded, empty or without a colour.

    draw.py PROMETHEUS_URL SECONDS FOLDER

writes NAME-WIDTH-THEME.html and, where Chromium is, .png of it.
"""

import html
import json
import math
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

COLOURS = {
    "green": "#73bf69", "dark-red": "#c4162a", "orange": "#ff9830", "yellow": "#e0b400",
    "blue": "#5794f2",
}
PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"]
THEMES = {
    "dark": {"page": "#111217", "panel": "#181b1f", "line": "#2c3235", "text": "#ccccdc", "faint": "#8e8e99"},
    "light": {"page": "#f4f5f5", "panel": "#ffffff", "line": "#dcdee1", "text": "#24292e", "faint": "#6a737b"},
}
CHOSEN = {"cluster": ".*", "namespace": ".*", "priority": "critical|high|medium|low", "status": "open"}
CELL, GAP = 30, 8


class Prometheus:
    def __init__(self, url, seconds):
        self.url, self.seconds, self.now = url, seconds, time.time()
        self.step = max(seconds / 120, 1)

    def ask(self, expression, over_time):
        for name, value in CHOSEN.items():
            expression = expression.replace(f"${name}", value)
        expression = expression.replace("$__rate_interval", f"{max(int(self.step) + 60, 240)}s")  # of a scrape a minute
        what, asked = "query", {"query": expression, "time": self.now}
        if over_time:
            what = "query_range"
            asked = {"query": expression, "start": self.now - self.seconds, "end": self.now, "step": self.step}
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(asked)}") as answer:
            return json.load(answer)["data"]["result"]


def colour(name, theme):
    return COLOURS.get(name) or (THEMES[theme]["text"] if name == "text" else name)


def duration(seconds):
    for size, unit in ((31536000, "year"), (2628000, "month"), (604800, "week"), (86400, "day"), (3600, "hour"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def scaled(value, base, units):
    for unit in units:
        if abs(value) < base or unit == units[-1]:
            return f"{value:.3g} {unit}".strip()
        value /= base
    return None


def shown(value, unit):
    """A number with its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit in ("s", "dtdurations"):
        return duration(value)
    if unit == "dateTimeFromNow":
        ago = time.time() - value / 1000
        return f"{duration(abs(ago))} ago" if ago >= 0 else f"in {duration(-ago)}"
    if unit == "bytes":
        return scaled(value, 1024, ["B", "KiB", "MiB", "GiB"])
    if unit == "ops":
        return f"{value:.3g} ops/s"
    return scaled(value, 1000, ["", "K", "Mil"])


def mapped(value, mappings):
    for mapping in mappings:
        options = mapping["options"]
        if mapping["type"] == "value":
            key = f"{value:g}" if isinstance(value, float) else value
            if key in options:
                return options[key]
        elif options["match"] == "empty" and value == "":
            return options["result"]
    return None


def limit(value, thresholds):
    found = "text"
    for step in thresholds["steps"]:
        if step["value"] is None or value >= step["value"]:
            found = step["color"]
    return found


def legend(target, labels):
    text = target["legendFormat"]
    if text == "__auto":
        return ""
    for name in ("priority", "rule", "kind", "namespace", "name", "serviceaccount", "source", "slo", "resource", "reason", "cluster", "instance"):
        text = text.replace("{{" + name + "}}", labels.get(name, ""))
    return " ".join(text.split())


def nothing(panel):
    return f'<div class="nothing">{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'


def stat(panel, answers, theme):
    defaults = panel["fieldConfig"]["defaults"]
    series = [(legend(t, s["metric"]), float(s["value"][1])) for t, a in zip(panel["targets"], answers) for s in a]
    if not series:
        return nothing(panel)
    tiles = []
    for name, value in series:
        word = mapped(value, defaults["mappings"])
        text = word["text"] if word else shown(value, defaults["unit"])
        paint = word["color"] if word else limit(value, defaults["thresholds"])
        width = panel["pixels"] / len(series) - 24
        size = min(panel["height"] * 0.42, width / max(len(text), 1) / 0.66, 60)
        tiles.append(f'<div class="tile"><small>{html.escape(name)}</small>'
                     f'<b style="color:{colour(paint, theme)};font-size:{size:.0f}px">{html.escape(text)}</b></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def ticks(top):
    step = 10 ** math.floor(math.log10(top)) if top > 0 else 1
    for factor in (0.2, 0.25, 0.5, 1, 2, 5):
        if top / (step * factor) <= 5:
            return [i * step * factor for i in range(int(top / (step * factor)) + 1)]
    return [0, top]


def chart(panel, answers, theme, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    series = []
    for target, answer in zip(panel["targets"], answers):
        for one in answer:
            points = {float(t): float(v) for t, v in one["values"] if v != "NaN"}
            series.append((legend(target, one["metric"]), points))
    series = [(name, points) for name, points in series if points]
    if not series:
        return nothing(panel)
    fixed = {o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"]
             for o in panel["fieldConfig"]["overrides"]}
    w, h, left, bottom = panel["pixels"] - 24, panel["height"] - 72, 74, 18
    stacked = "stacking" in custom
    totals, layers = {}, []
    for index, (name, points) in enumerate(series):
        paint = colour(fixed.get(name, PALETTE[index % len(PALETTE)]), theme)
        below = dict(totals)
        if stacked:
            for at, value in points.items():
                totals[at] = totals.get(at, 0) + value
        tops = {at: totals[at] if stacked else value for at, value in points.items()}
        layers.append((name, paint, below, tops))
    top = max([max(tops.values()) for *_, tops in layers] + [0]) * 1.05 or 1
    low = min([min(tops.values()) for *_, tops in layers] + [0])
    start = prometheus.now - prometheus.seconds
    place = lambda at: left + (at - start) / prometheus.seconds * (w - left - 4)
    level = lambda value: (h - bottom) * (1 - (value - low) / (top - low)) + 4
    out = []
    for tick in ticks(top):
        y = level(tick)
        out.append(f'<line x1="{left}" x2="{w}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                   f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{shown(tick, unit)}</text>')
    parts = 4 if w > 400 else 2
    for i in range(parts + 1):
        at = start + prometheus.seconds * i / parts
        anchor = "start" if i == 0 else "end" if i == parts else "middle"
        out.append(f'<text x="{place(at):.0f}" y="{h}" text-anchor="{anchor}">{time.strftime("%H:%M", time.gmtime(at))}</text>')
    for name, paint, below, tops in layers:
        if custom["drawStyle"] == "bars":
            for at, value in tops.items():
                y0, y1 = level(value), level(below.get(at, 0))
                out.append(f'<rect x="{place(at) - 2:.1f}" y="{y0:.1f}" width="4" height="{max(y1 - y0, 0):.1f}" fill="{paint}"/>')
            continue
        runs, last = [[]], None
        for at in sorted(tops):
            if last and at - last > 2 * prometheus.step:
                runs.append([])
            runs[-1].append(at)
            last = at
        for run in runs:
            line = " ".join(f"{place(at):.1f},{level(tops[at]):.1f}" for at in run)
            if custom["fillOpacity"]:
                back = " ".join(f"{place(at):.1f},{level(below.get(at, 0)):.1f}" for at in reversed(run))
                out.append(f'<polygon points="{line} {back}" fill="{paint}" fill-opacity="{custom["fillOpacity"] / 100}"/>')
            out.append(f'<polyline points="{line}" fill="none" stroke="{paint}" stroke-width="{custom["lineWidth"]}"/>')
    if custom.get("thresholdsStyle", {}).get("mode") == "line":
        for step in defaults["thresholds"]["steps"][1:]:
            if low <= step["value"] <= top:
                y = level(step["value"])
                out.append(f'<line x1="{left}" x2="{w}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour(step["color"], theme)}"/>')
    names = "".join(f'<span><i style="background:{paint}"></i>{html.escape(name)}</span>' for name, paint, *_ in layers)
    return f'<svg width="{w}" height="{h + 4}">{"".join(out)}</svg><div class="legend">{names}</div>'


def ranking(panel, answers, theme):
    defaults = panel["fieldConfig"]["defaults"]
    series = [(legend(t, s["metric"]), float(s["value"][1])) for t, a in zip(panel["targets"], answers) for s in a]
    if not series:
        return nothing(panel)
    most = max(value for _, value in series) or 1
    rows = []
    for name, value in sorted(series, key=lambda s: -s[1]):
        paint = colour(limit(value, defaults["thresholds"]), theme)
        rows.append(f'<div class="bar"><span>{html.escape(name)}</span><em><i style="width:{value / most * 100:.0f}%;background:{paint}"></i></em>'
                    f'<b style="color:{paint}">{shown(value, defaults["unit"])}</b></div>')
    return f'<div class="bars">{"".join(rows)}</div>'


def timeline(panel, answers, theme, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    series = [(legend(t, s["metric"]), s["values"]) for t, a in zip(panel["targets"], answers) for s in a]
    if not series:
        return nothing(panel)
    width = panel["pixels"] - 24
    left = min(320, width * 0.3)
    high = (panel["height"] - 60) / len(series)
    out = []
    for row, (name, values) in enumerate(series):
        y = row * high
        size = min(12, high * 0.9)
        out.append(f'<text x="{left - 6}" y="{y + high / 2 + size / 3:.1f}" text-anchor="end" style="font-size:{size:.0f}px">{html.escape(name)}</text>')
        for at, value in values:
            x = left + (at - prometheus.now + prometheus.seconds) / prometheus.seconds * (width - left)
            word = mapped(float(value), defaults["mappings"])
            out.append(f'<rect x="{x:.1f}" y="{y + high * 0.08:.1f}" width="{prometheus.step / prometheus.seconds * (width - left) + 0.6:.1f}" '
                       f'height="{high * 0.84:.1f}" fill="{colour(word["color"], theme)}" fill-opacity="0.8"/>')
    return f'<svg width="{width}" height="{panel["height"] - 50}">{"".join(out)}</svg>'


def table(panel, answers, theme):
    rows = {}
    columns = []
    for target, answer in zip(panel["targets"], answers):
        value = "Value" if len(panel["targets"]) == 1 else f'Value #{target["refId"]}'
        for one in answer:
            labels = {k: v for k, v in one["metric"].items() if k != "__name__"}
            columns += [name for name in labels if name not in columns]
            rows.setdefault(tuple(sorted(labels.items())), dict(labels))[value] = float(one["value"][1])
        if answer:
            columns.append(value)
    if not rows:
        return nothing(panel)
    organize = panel["transformations"][1]["options"]
    names = organize["renameByName"]
    styles = {o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]} for o in panel["fieldConfig"]["overrides"]}
    columns = [c for c in columns if c not in organize["excludeByName"] and not styles.get(names.get(c, "Exporter"), {}).get("custom.hidden")]
    columns.sort(key=lambda c: organize["indexByName"].get(c, 99))
    rows = list(rows.values())
    for by in panel["options"]["sortBy"]:
        field = next((c for c in columns if names.get(c, c) == by["displayName"]), None)
        if field:
            missing = "" if any(isinstance(r.get(field), str) for r in rows) else -math.inf
            rows.sort(key=lambda r: r.get(field, missing), reverse=by["desc"])
    defaults = panel["fieldConfig"]["defaults"]
    head = "".join(f'<th class="{"number" if c.startswith("Value") else ""}">{html.escape(names.get(c, c))}</th>' for c in columns)
    body = []
    for row in rows[: int((panel["height"] - 70) / 36) + 1]:
        cells = []
        for c in columns:
            style = styles.get(names.get(c, c), {})
            value = row.get(c, "")
            word = mapped(value, style.get("mappings", []))
            number = isinstance(value, float)
            text = word["text"] if word else shown(value, style.get("unit", defaults["unit"])) if number else value
            if value == "" and not word:
                text = style.get("noValue", "")
            paint = "text"
            if "custom.cellOptions" in style:
                paint = word.get("color", "text") if word else limit(value, style["thresholds"]) if number and "thresholds" in style else "text"
            link = ' class="link"' if "links" in style and text else ""
            cells.append(f'<td class="{"number" if c.startswith("Value") else ""}" style="color:{colour(paint, theme)}"><span{link}>{html.escape(text)}</span></td>')
        body.append(f'<tr>{"".join(cells)}</tr>')
    widths = [styles.get(names.get(c, c), {}).get("custom.width") for c in columns]
    rest = max((panel["pixels"] - 24 - sum(w for w in widths if w)) / max(widths.count(None), 1), defaults["custom"]["minWidth"])
    cols = "".join(f'<col style="width:{w or rest:.0f}px">' for w in widths)
    total = sum(w or rest for w in widths)
    return f"<table style='width:{total:.0f}px'>{cols}<tr>{head}</tr>{''.join(body)}</table>"


def page(dashboard, answers, prometheus, width, theme):
    t = THEMES[theme]
    column = (width - 32 + GAP) / 24
    panels, bottom = [], 0
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        panel["pixels"], panel["height"] = grid["w"] * column - GAP, grid["h"] * (CELL + GAP) - GAP
        draw = {"stat": stat, "bargauge": ranking, "table": table}.get(panel["type"])
        if draw:
            inside = draw(panel, answers[panel["id"]], theme)
        else:
            inside = {"timeseries": chart, "state-timeline": timeline}[panel["type"]](panel, answers[panel["id"]], theme, prometheus)
        top = 96 + grid["y"] * (CELL + GAP)
        bottom = max(bottom, top + panel["height"])
        panels.append(f'<section style="left:{16 + grid["x"] * column:.0f}px;top:{top}px;width:{panel["pixels"]:.0f}px;height:{panel["height"]}px">'
                      f'<h2>{html.escape(panel["title"])}</h2>{inside}</section>')
    variables = "".join(f'<span><small>{html.escape(v["label"])}</small>{"Prometheus" if v["type"] == "datasource" else "All" if v["name"] != "status" else "open"}</span>'
                        for v in dashboard["templating"]["list"] if v["hide"] == 0)
    css = f"""*{{box-sizing:border-box}} body{{margin:0;background:{t['page']};color:{t['text']};font:14px Inter,'DejaVu Sans',sans-serif;width:{width}px;height:{bottom + 16}px;position:relative;overflow:hidden}}
    h1{{font-size:18px;font-weight:500;margin:0;padding:14px 16px}} h1 small{{color:{t['faint']};font-size:12px;font-weight:400}}
    nav{{padding:0 16px}} nav span{{border:1px solid {t['line']};background:{t['panel']};padding:5px 8px;margin-right:8px}} nav small{{color:{t['faint']};margin-right:8px}}
    section{{position:absolute;background:{t['panel']};border:1px solid {t['line']};border-radius:2px;overflow:hidden;padding:0 11px}}
    h2{{font-size:14px;font-weight:500;margin:0;height:32px;line-height:32px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}}
    .nothing{{position:absolute;inset:32px 8px 8px;display:flex;align-items:center;justify-content:center;color:{t['faint']};font-size:18px}}
    .tiles{{display:flex;height:calc(100% - 40px)}} .tile{{flex:1;display:flex;flex-direction:column;align-items:center;justify-content:center}} .tile b{{font-weight:500;white-space:nowrap}} .tile small{{font-size:14px}}
    svg text{{fill:{t['text']};font-size:12px}} .grid{{stroke:{t['line']}}}
    .legend{{font-size:12px;max-height:34px;overflow:hidden}} .legend span{{margin-right:12px;display:inline-block;white-space:nowrap}} .legend i{{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:5px;vertical-align:middle}}
    table{{border-collapse:collapse;table-layout:fixed}} th{{text-align:left;color:{COLOURS['blue']};font-weight:500;height:34px;padding:0 6px;border-bottom:1px solid {t['line']};white-space:nowrap}}
    td{{height:36px;padding:0 6px;border-bottom:1px solid {t['line']};white-space:nowrap;overflow:hidden;text-overflow:ellipsis}} .number{{text-align:right}} .link{{color:{COLOURS['blue']}}}
    .bars{{display:flex;flex-direction:column;height:calc(100% - 40px);gap:4px}} .bar{{flex:1;display:flex;align-items:center;gap:8px;font-size:12px}} .bar span{{width:38%;text-align:right;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}} .bar em{{flex:1;height:80%;background:{t['page']}}} .bar i{{display:block;height:100%}} .bar b{{width:40px;font-weight:500}}"""
    return bottom + 16, (f'<!doctype html><meta charset="utf-8"><title>{html.escape(dashboard["title"])}</title><style>{css}</style>'
                         f'<h1>{html.escape(dashboard["title"])} <small>· a drawing of the grid with real data, not Grafana</small></h1><nav>{variables}</nav>{"".join(panels)}')


def main():
    url, seconds, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    prometheus = Prometheus(url, seconds)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    for file in sorted((pathlib.Path(__file__).parents[2] / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text())
        answers = {panel["id"]: [prometheus.ask(t["expr"], t["range"]) for t in panel["targets"]] for panel in dashboard["panels"]}
        for width in (1280, 1920):
            for theme in THEMES:
                height, text = page(dashboard, answers, prometheus, width, theme)
                drawn = folder / f"{file.stem}-{width}-{theme}.html"
                drawn.write_text(text)
                if browser:
                    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}",
                                    f"--screenshot={drawn.with_suffix('.png')}", drawn.resolve().as_uri()], check=True, capture_output=True)
                print(drawn)


if __name__ == "__main__":
    main()
