"""The rules of a run, without any process in them: which setting of a peer is its best, which rounds count, what is met.

A canary is read before, between and after the two samples of a pair. What a neighbour takes, it takes from the canary too, so
a pair whose lowest canary is more than 15 % under the run's reference is dropped. The reference is the upper quartile of all
readings of the run: neighbours only ever take away, so a median would be that of a busy machine when the machine is busy
half of the time, and a maximum would be one lucky reading. 15 % is about twice what the readings of an idle virtual machine
differ by themselves. A pair during which other processes had more than a tenth of the machine is dropped as well: they may
come and go between two canaries.
"""
import dataclasses
import statistics

DIP = 0.15            # of the reference
OTHERS_MAX = 0.10     # of the machine's CPU time
DROPPED_MAX = 1 / 3   # of the pairs


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a figure must reach. Several conditions must all hold, or one of them with `either`."""
    ratio_min: float = None   # ours / the peer's
    ratio_max: float = None   # likewise, where less is better
    share_min: float = None   # of the limit
    value_min: float = None   # of our own figure
    value_max: float = None
    either: bool = False

    def conditions(self, value, ratio, share):
        """(what is asked for, whether it holds; None: nothing was measured) for each condition."""
        asked = [(self.ratio_min, ratio, "≥ {:g}×", 1), (self.ratio_max, ratio, "≤ {:g}×", -1),
                 (self.share_min, share and share * 100, "≥ {:g} %", 1), (self.value_min, value, "≥ {:g}", 1),
                 (self.value_max, value, "≤ {:g}", -1)]
        for limit, measured, text, sign in asked:
            if limit is None:
                continue
            limit = limit * 100 if "%" in text else limit
            yield text.format(limit), None if measured is None else sign * measured >= sign * limit

    def text(self):
        return (" or " if self.either else ", ").join(text for text, _ in self.conditions(None, None, None))

    def verdict(self, value, ratio, share):
        held = [holds for _, holds in self.conditions(value, ratio, share)]
        if self.either and True in held:
            return "met"
        if None in held:
            return "not measured"
        return "met" if all(held) else "not met"


def calibrate(stages, measure, lower=False):
    """The best setting, found stage by stage, and every (setting, score) that was tried.

    `stages`: lists of options, each a dict that is laid over what the stages before found; `measure(setting)` is the score.
    """
    best, tried = {}, []
    for options in stages:
        for option in options:
            setting = {**best, **option}
            if setting not in [known for known, _ in tried]:
                tried.append((setting, measure(setting)))
        candidates = [(score, index) for index, (setting, score) in enumerate(tried) if score is not None]
        if candidates:
            score, _ = min(candidates) if lower else max(candidates)
            best = next(setting for setting, known in tried if known == score)
    return best, tried


def is_doubtful(tried, best, median, lower=False):
    """Whether another setting was more than a dip better in calibration than the chosen one is in the rounds."""
    others = [score for setting, score in tried if setting != best and score is not None]
    return any(score < (1 - DIP) * median if lower else (1 - DIP) * score > median for score in others)


def upper_quartile(values):
    return statistics.quantiles(values, n=4, method="inclusive")[2] if len(values) > 1 else values[0]


def references(pairs):
    """The run's reference of each figure of the canary: {(figure, working set): value} from all pairs' readings."""
    readings = {}
    for pair in pairs:
        for canary in pair["canaries"]:
            readings.setdefault(("fma_gflops", None), []).append(canary["fma_gflops"])
            readings.setdefault(("read_gb_per_s", canary["bytes"]), []).append(canary["read_gb_per_s"])
    return {key: upper_quartile(values) for key, values in readings.items()}


def reason_to_drop(pair, reference):
    """Why this pair does not count, or None."""
    if pair.get("error"):
        return None  # kept as what it is: a failure is not the machine's mood
    if pair["others"] > OTHERS_MAX:
        return f"other processes had {pair['others']:.0%} of the machine"
    for figure in ("fma_gflops", "read_gb_per_s"):
        for canary in pair["canaries"]:
            usual = reference[(figure, canary["bytes"] if figure == "read_gb_per_s" else None)]
            if canary[figure] < (1 - DIP) * usual:
                return f"{figure} {canary[figure]:.1f} of usually {usual:.1f}"
    return None


def mark_dropped(pairs):
    """Writes "dropped" into every pair, and returns whether the run is steady."""
    reference = references(pairs)
    for pair in pairs:
        pair["dropped"] = reason_to_drop(pair, reference)
    return is_steady(pairs)


def is_steady(pairs):
    return sum(pair["dropped"] is not None for pair in pairs) <= DROPPED_MAX * len(pairs)


def summarise(metric, pairs, limit=None):
    """One row's figures from the pairs of its work that were kept. `limit`: of our own figure, for its share."""
    sound = [pair for pair in pairs if not pair.get("error")]
    kept = [pair for pair in sound if pair["dropped"] is None]
    kept_count, kept = len(kept), kept or sound  # where no round counts, figures without a verdict are better than none
    values = [pair["samples"]["neutrino"][metric] for pair in kept if metric in pair["samples"].get("neutrino", {})]
    row = {"rounds": len(pairs), "kept": kept_count, "errors": [pair["error"] for pair in pairs if pair.get("error")],
           "steady": is_steady(pairs), "neutrino": None, "share": None, "peers": {}}
    if not values:
        return row
    row["neutrino"] = statistics.median(values)
    row["neutrino_spread"] = [min(values), max(values)]
    row["share"] = row["neutrino"] / limit if limit else None
    for peer in sorted({name for pair in kept for name in pair["samples"]} - {"neutrino"}):
        both = [pair["samples"] for pair in kept if metric in pair["samples"].get(peer, {})]
        if both:
            theirs = [samples[peer][metric] for samples in both]
            ratios = [samples["neutrino"][metric] / samples[peer][metric] for samples in both]
            row["peers"][peer] = {"median": statistics.median(theirs), "spread": [min(theirs), max(theirs)],
                                  "ratio": row["neutrino"] / statistics.median(theirs), "ratio_spread": [min(ratios), max(ratios)]}
    return row


def verdict(demand, row, peer, run_is_steady):
    """"met", "not met", or why there is no verdict."""
    if demand is None:
        return ""
    if row["errors"] and not row["kept"]:
        return "failed"
    if not (run_is_steady and row["steady"]):
        return "unsteady"
    if row.get("doubtful"):
        return "doubtful: another setting of the peer did better in calibration"
    ratio = row["peers"].get(peer, {}).get("ratio")
    return demand.verdict(row["neutrino"], ratio, row["share"])
