"""The accuracy tables of classify.py: our results beside the paper's, and where the two agree.

A variant "agrees" on a task when its accuracy stands to QKV's as in the paper: lower, the same or
higher, where a difference within MARGIN (or within the spread of our seeds) is "the same".
"""
import statistics

MARGIN = 0.01
TASKS = ("reverse", "sort", "sub", "swap", "copy", "mnist", "fashion", "cifar10", "cifar100",
         "odd", "tiny")
# Table 1 (mean of 36 sizes × 3 runs) and table 2 of the paper; None: not reported.
PAPER = {
    "QKV": (.698, .971, 1, .588, 1, .981, .887, .663, .363, .942, .229),
    "Q=K-V": (.705, .967, 1, .597, 1, .981, .885, .666, .369, .954, .236),
    "(Q=K-V)+": (.718, .963, 1, .671, 1, .982, .884, .662, .366, .966, None),
    "Q-K=V": (.701, .958, 1, .590, 1, .976, .883, .659, .358, .949, None),
    "Q=K=V": (.514, .939, 1, .446, 1, .978, .877, .672, .376, .933, .266),
    "(Q=K=V)+": (.581, .957, 1, .576, 1, .977, .875, .669, .364, .961, None)}
SAME_DATA = {"digits": "mnist"}     # a part of the paper's data set


def paper(variant, task):
    return PAPER[variant][TASKS.index(SAME_DATA.get(task, task))]


def standing(difference, margin):
    if abs(difference) <= margin:
        return "same"
    return "higher" if difference > 0 else "lower"


def compare(row, base):
    """How a row stands to QKV's here and in the paper; None where there is nothing to compare."""
    theirs = (paper(row["variant"], row["task"]), paper("QKV", row["task"]))
    if base is None or row is base or None in theirs:
        return None
    margin = max(MARGIN, row["spread"] / 2, base["spread"] / 2)
    here = standing(row["mean"] - base["mean"], margin)
    there = standing(theirs[0] - theirs[1], MARGIN)
    return {"here": here, "paper": there, "agrees": here == there}


def make_row(suite, task, variant, runs, beside_paper):
    """Mean and spread (largest minus smallest) over the seeds."""
    runs = sorted(runs, key=lambda run: run["seed"])
    reached = [run["accuracy"] for run in runs]
    return {"suite": suite, "task": task, "variant": variant,
            "seeds": [run["seed"] for run in runs],
            "accuracy": [round(value, 5) for value in reached],
            "mean": round(statistics.mean(reached), 5),
            "spread": round(max(reached) - min(reached), 5),
            "paper": paper(variant, task) if beside_paper else None,
            "parameters": runs[0]["parameters"],
            "cpu_seconds": round(statistics.mean(run["seconds"] for run in runs), 1)}


def summarise(runs, suites, variants, torch_version):
    """The contents of results/tasks.json."""
    results = {"torch": torch_version, "margin": MARGIN, "suites": {}}
    for name, suite in suites.items():
        rows = []
        for task in suite.tasks:
            for variant in variants:
                chosen = [run for run in runs if (run["suite"], run["task"], run["variant"])
                          == (name, task, variant)]
                if chosen:
                    rows.append(make_row(name, task, variant, chosen, suite.paper))
        bases = {row["task"]: row for row in rows if row["variant"] == "QKV"}
        for row in rows:
            row["against_qkv"] = compare(row, bases.get(row["task"])) if suite.paper else None
        if rows:
            results["suites"][name] = {
                "model": suite.model, "training": suite.training, "problem": suite.problem,
                "plus_channels": suite.plus_channels, "data": suite.data, "rows": rows}
    return results


def cell(row):
    if row is None:
        return "–"
    theirs = "–" if row["paper"] is None else f"{row['paper']:.3f}"
    spread = f" ± {row['spread'] / 2:.3f}" if len(row["seeds"]) > 1 else ""
    return f"{row['mean']:.3f}{spread} ({theirs})"


def table(rows):
    """One suite: a line a variant, a column a task, "ours ± half the spread (the paper's)"."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    found = {(row["variant"], row["task"]): row for row in rows}
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    lines = ["| variant | " + " | ".join(tasks) + " | parameters | CPU s | seeds |",
             "|---" * (len(tasks) + 4) + "|"]
    for variant in sorted(variants, key=list(PAPER).index):
        mine = [found[variant, task] for task in tasks if (variant, task) in found]
        cells = [cell(found.get((variant, task))) for task in tasks]
        seconds = statistics.mean(row["cpu_seconds"] for row in mine)
        counts = sorted({len(row["seeds"]) for row in mine})
        lines.append(f"| {variant} | {' | '.join(cells)} | {mine[0]['parameters']:,} | "
                     f"{seconds:.0f} | {' to '.join(map(str, counts[:1] + counts[1:][-1:]))} |")
    return lines


def agreement(rows):
    """Sentences: where a variant stands to QKV as in the paper and where it does not."""
    compared = [row for row in rows if row["against_qkv"]]
    if not compared:
        return []
    differing = [row for row in compared if not row["against_qkv"]["agrees"]]
    lines = [f"Against QKV, {len(compared) - len(differing)} of {len(compared)} stand as in the "
             f"paper."]
    for row in differing:
        found = row["against_qkv"]
        lines.append(f"- {row['variant']} on {row['task']}: {found['here']} here, "
                     f"{found['paper']} in the paper")
    return lines


def markdown(results):
    parts = []
    for name, suite in results["suites"].items():
        parts += [f"**{name}**", "", *table(suite["rows"]), ""]
        lines = agreement(suite["rows"])
        parts += [*lines, ""] if lines else []
    return "\n".join(parts)
