# SPDX-License-Identifier: MIT
"""What was measured, kept in a JSON file, and the figures that come from it.

A measurement is {"task", "cell", "shape", "seconds": {contestant: one a round}, "limits": one a
round}. Contestants are compared within a round, since a machine's speed changes between rounds.
"""

import datetime
import json
import statistics

from contestants import PEERS
from limits import bound


class Results:
    """All measurements of one machine, commit and command; with a path, written after each."""

    def __init__(self, machine, command, path=None, remake=False):
        self.path = path
        head = {"machine": machine, "command": command}
        self.data = {**head, "date": str(datetime.date.today()), "curve": [], "measured": []}
        if path and path.exists():
            self.data = json.loads(path.read_text())
            for name, value in head.items():
                if self.data[name] != value and not remake:
                    raise ValueError(f"{path} holds what was measured with {self.data[name]}")

    def find(self, task, cell, shape):
        """The measurement, or None."""
        key = (task, cell, list(shape))
        found = (m for m in self.data["measured"] if (m["task"], m["cell"], m["shape"]) == key)
        return next(found, None)

    def add(self, task, cell, shape, seconds, limits):
        new = {"task": task, "cell": cell, "shape": list(shape)}
        new |= {"seconds": seconds, "limits": limits}
        self.data["measured"].append(new)
        self.save()
        return new

    def set_curve(self, curve):
        self.data["curve"] = curve
        self.save()

    def save(self):
        if self.path:
            new = self.path.with_name(self.path.name + ".new")
            new.write_text(json.dumps(self.data, indent=1))
            new.replace(self.path)

    def limit(self, name):
        """One of the machine's limits in every round of all measurements, sorted."""
        return sorted(round[name] for m in self.data["measured"] for round in m["limits"])


def ratio(measured, peer, ours="kernels"):
    """The peer's time over ours: the median over the rounds, None where it did not take part."""
    seconds = measured["seconds"]
    if peer not in seconds:
        return None
    pairs = zip(seconds[peer], seconds[ours], strict=True)
    return statistics.median(theirs / own for theirs, own in pairs)


def best(measured):
    """The peer that is the fastest beside our best, and its ratio; None without peers."""
    ours = ready(measured)
    ratios = [(ratio(measured, peer, ours), peer) for peer in PEERS if peer in measured["seconds"]]
    return min(ratios) if ratios else None


def fraction(measured):
    """Our best speed as a fraction of the bound's: the median over the rounds."""
    problem = (measured["task"], measured["cell"], *measured["shape"])
    pairs = zip(measured["limits"], measured["seconds"][ready(measured)], strict=True)
    return statistics.median(bound(limits, *problem) / ours for limits, ours in pairs)


def ready(measured):
    """The one of ours that has packed its weights, where that can be done before the call."""
    return "frozen" if "frozen" in measured["seconds"] else "kernels"
