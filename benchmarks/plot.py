"""The speed table as a picture. Needs matplotlib (`pip install lorimer[bench]`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import TITLES
from benchmarks.results import OURS, Results
from registry.errors import NotFound
from serving.bench import CASES

COLOURS = ("#1b4f72", "#e67e22", "#7d8c93", "#c0a060", "#9b8fb5")
WIDTH = 0.8


def draw(results: Results, path: Path) -> Path:
    """Tokens per second, one bar per contender, each case scaled to its best; the numbers stand on the bars."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise NotFound("the plot needs matplotlib", hint="pip install 'lorimer[bench]'") from error
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lorimer"
    from matplotlib import pyplot

    names = [OURS, *results.peers]
    cases = [case.name for case in CASES if results.rate(OURS, case.name) is not None]
    rates = {name: [results.rate(name, case) or 0.0 for case in cases] for name in names}
    best = [max(row) for row in zip(*rates.values(), strict=True)]
    figure, axes = pyplot.subplots(figsize=(9, 0.62 * len(cases) + 1.2))
    height = WIDTH / len(names)
    for index, name in enumerate(names):
        places = [row + (index - (len(names) - 1) / 2) * height for row in range(len(cases))]
        shares = [rate / most for rate, most in zip(rates[name], best, strict=True)]
        bars = axes.barh(places, shares, height * 0.92, color=COLOURS[index % len(COLOURS)], label=TITLES[name])
        axes.bar_label(bars, [f"{rate:,.0f}" if rate else "-" for rate in rates[name]], padding=3, fontsize=7)
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([])
    axes.set_title("Tokens per second; each case is drawn to the scale of its best", fontsize=9, loc="left")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.12), ncols=len(names))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
