"""The plots of docs/performance.md, each as PNG and SVG."""

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "ringbuf", "font.size": 9})
matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})

from matplotlib import pyplot  # noqa: E402 - after the choice of what draws

OURS, OTHERS, BASE = "#c0392b", "#7f8c8d", "#2c3e50"


def write(tables, directory):
    """All plots there are values for."""
    directory.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        if all(table in tables for table in NEEDS.get(name, [name])):
            figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
            draw(axes, tables)
            for kind in ("png", "svg"):
                undated = {"Date": None} if kind == "svg" else {}
                figure.savefig(directory / f"{name}.{kind}", dpi=120, metadata=undated)
            pyplot.close(figure)


def bars(axes, rows, key, label, *, log=True, form="{:,.0f}"):
    """Horizontal bars, ours in red."""
    rows = sorted(rows, key=lambda row: row[key], reverse=True)
    colors = [OURS if "ringbuf" in row["what"] else OTHERS for row in rows]
    drawn = axes.barh([row["what"] for row in rows], [row[key] for row in rows], color=colors)
    axes.bar_label(drawn, [form.format(row[key]) for row in rows], padding=3)
    axes.set_xlabel(label)
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.12)


def python(axes, tables):
    bars(axes, tables["python"], "ratio", "times perf_counter_ns, log scale", form="{:,.1f}")
    axes.axvline(1, color=BASE, linestyle=":")


def messages(axes, tables):
    bars(axes, tables["messages"], "ns", "ns for each message until another process has it, log scale")


def c(axes, tables):
    bars(axes, tables["c"], "ratio", "times the floor", log=False, form="{:.1f}")
    axes.axvline(1, color=BASE, linestyle=":")


def size(axes, tables):
    rows = [{**row, "what": f"{row['what']}: {row['fields']}"} for row in tables["size"]]
    bars(axes, rows, "bytes_each", "bytes on disk for each event", log=False)


def payload(axes, tables):
    rows = sorted(tables["payload"], key=lambda row: row["size"])
    sizes = [row["size"] for row in rows]
    axes.plot(sizes, [row["ns"] for row in rows], color=OURS, marker="o", label="record")
    axes.plot(sizes, [row["base_ns"] for row in rows], color=BASE, marker=".", label="memcpy alone")
    axes.set(xscale="log", yscale="log", xlabel="bytes of payload", ylabel="ns")
    axes.set_xscale("log", base=2)
    axes.legend()


def latency(axes, tables):
    for row in tables["latency"]:
        # Each nine is as wide as the one before.
        points = [(100 / (100 - p), ns) for p, ns in zip(row["percentiles"], row["curve"], strict=True) if p < 100]
        color = {"color": BASE, "linestyle": ":"} if row["what"].startswith("nothing") else {}
        axes.plot(*zip(*points, strict=True), label=row["what"], **color)
    axes.set(xscale="log", yscale="log", ylabel="ns", xlabel="percentile")
    axes.set_xticks([1, 10, 100, 1000, 10000, 100000], ["0", "90", "99", "99.9", "99.99", "99.999"])
    axes.legend()


def scaling(axes, tables):
    rows = tables["scaling"]
    drawn = axes.barh([row["what"] for row in rows], [row["ratio"] for row in rows], color=OURS)
    axes.bar_label(drawn, [f"{row['ratio']:.2f}" for row in rows], padding=3)
    axes.axvline(2, color=BASE, linestyle=":")
    axes.set_xlabel("two producers, times one")
    axes.margins(x=0.12)


def overload(axes, tables):
    rows = tables["overload"]
    axes.plot([row["reached"] / 1e6 for row in rows], [row["lost_percent"] for row in rows], color=OURS, marker="o")
    axes.set(xlabel="M records a second", ylabel="% lost")


def reading(axes, tables):
    rows = [row for name in ("reading", "text", "objects") for row in tables[name]]
    names = [row["what"] for row in rows]
    places = range(len(rows))
    ours = axes.barh([y + 0.2 for y in places], [row["m_events_s"] for row in rows], 0.4, color=OURS, label="ringbuf")
    theirs = [row["babeltrace2_m_events_s"] for row in rows]
    others = axes.barh([y - 0.2 for y in places], theirs, 0.4, color=OTHERS, label="babeltrace2")
    axes.bar_label(ours, [f"{row['m_events_s']:.2g}" for row in rows], padding=3)
    axes.bar_label(others, [f"{one:.2g}" for one in theirs], padding=3)
    axes.set_yticks(list(places), names)
    axes.set(xscale="log", xlabel="M events for each second of a CPU, log scale")
    axes.margins(x=0.12)
    axes.legend()


PLOTS = {
    function.__name__: function
    for function in (python, messages, c, size, payload, latency, scaling, overload, reading)
}
NEEDS = {"reading": ["reading", "text", "objects"]}
