"""Everything that a simulated world can suffer. Which faults there are: processes.py, network.py, disks.py; which of them a seed
draws: swarm.py; how a schedule of them is written: schedule.py."""

from meshos.simulations.faults.disks import Corrupt, CrashAt, Disk, SlowDisk, Stall
from meshos.simulations.faults.network import CALM, Clog, ClogNode, Heal, Lossy, OneWay, Partition, Ring, Unlink, Weather
from meshos.simulations.faults.processes import Crash, Drift, Mend, Pause, Restart, Resume, Wall
from meshos.simulations.faults.schedule import KINDS, Fault, Schedule, fault, from_json, from_words, in_words, to_json
from meshos.simulations.faults.swarm import DRAWN, draw, mixture, swarm

__all__ = [
    "CALM",
    "DRAWN",
    "KINDS",
    "Clog",
    "ClogNode",
    "Corrupt",
    "Crash",
    "CrashAt",
    "Disk",
    "Drift",
    "Fault",
    "Heal",
    "Lossy",
    "Mend",
    "OneWay",
    "Partition",
    "Pause",
    "Restart",
    "Resume",
    "Ring",
    "Schedule",
    "SlowDisk",
    "Stall",
    "Unlink",
    "Wall",
    "Weather",
    "draw",
    "fault",
    "from_json",
    "from_words",
    "in_words",
    "mixture",
    "swarm",
    "to_json",
]
