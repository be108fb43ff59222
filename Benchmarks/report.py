"""Tables, files and plots of what was measured."""

import json
import os
import platform
import subprocess
from pathlib import Path
from statistics import median

from harness.paths import ROOT
from load import Measurement, Point

FIELDS = {  # name: (heading, format, whether more is better)
    "throughput": ("requests/s", "{:,.0f}", True),
    "p50": ("p50 ms", "{:.2f}", False),
    "p99": ("p99 ms", "{:.2f}", False),
    "cpu": ("CPU µs/request", "{:.1f}", False),
    "client": ("generator's CPU µs/request", "{:.1f}", False),
    "rss": ("RSS MiB", "{:.0f}", False),
}
Results = dict[tuple[str, Point], dict[str, list[Measurement]]]


def medians(rounds: list[Measurement]) -> Measurement:
    return Measurement(**{name: median(getattr(each, name) for each in rounds)
                          for name in FIELDS})


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = next((line.split(":", 1)[1].strip() for line in
                  Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
                 platform.machine())
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    date = subprocess.run(["date", "--utc", "+%Y-%m-%d"], capture_output=True, text=True).stdout
    return {"cpu": model, "cores": str(os.cpu_count()), "kernel": platform.release(),
            "commit": commit, "date": date.strip()}


def table(results: Results, names: list[str]) -> str:
    """Markdown: for each point the medians of both servers and the second over the first."""
    heads = [heading for heading, _, _ in FIELDS.values()]
    lines = ["| operation | connections×streams | server | " + " | ".join(heads) + " |",
             "|---|---|---|" + "---:|" * len(heads)]
    for (operation, point), by_server in results.items():
        found = {name: medians(by_server[name]) for name in names}
        for name in names:
            cells = [form.format(getattr(found[name], field))
                     for field, (_, form, _) in FIELDS.items()]
            lines.append(f"| {operation} | {point.label} | {name} | " + " | ".join(cells) + " |")
        ratios = [getattr(found[names[1]], field) / max(getattr(found[names[0]], field), 1e-9)
                  for field in FIELDS]
        lines.append(f"| {operation} | {point.label} | ratio | "
                     + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines) + "\n"


def save(results: Results, names: list[str], folder: Path) -> None:
    """Writes table.md, results.json and one plot for each field."""
    folder.mkdir(parents=True, exist_ok=True)
    about = ", ".join(f"{key} {value}" for key, value in machine().items())
    (folder / "table.md").write_text(f"{about}\n\n{table(results, names)}")
    rows = [{"operation": operation, "point": point.label, "server": name,
             "rounds": [each.as_dict() for each in rounds]}
            for (operation, point), by_server in results.items()
            for name, rounds in by_server.items()]
    (folder / "results.json").write_text(
        json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    _plot(results, names, folder)


def _plot(results: Results, names: list[str], folder: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    operations = list(dict.fromkeys(operation for operation, _ in results))
    for field, (heading, form, more) in FIELDS.items():
        figure, panels = pyplot.subplots(
            1, len(operations), figsize=(5 * len(operations), 3.6), squeeze=False)
        for panel, operation in zip(panels[0], operations):
            points = [point for kind, point in results if kind == operation]
            for offset, name in enumerate(names):
                values = [getattr(medians(results[operation, point][name]), field)
                          for point in points]
                bars = panel.bar([n + 0.4 * offset for n in range(len(points))], values, 0.38,
                                 label=name)
                panel.bar_label(bars, [form.format(value) for value in values], fontsize=7)
            panel.set_xticks([n + 0.2 for n in range(len(points))],
                             [point.label for point in points])
            panel.set_title(f"{operation}: {heading} ({'more' if more else 'less'} is better)",
                            fontsize=9)
            panel.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{field}.png", dpi=120)
        pyplot.close(figure)
