"""The tables that the kernel works on, and the names of their columns.

Everything is whole numbers in a few matrices, so that the same code runs compiled and interpreted and a call of the
compiled kernel stays cheap. Steps, links, nodes, groups and fault windows are *rows* of one pair of matrices: ``ints``
and ``floats`` hold their integer and real columns; a row's number is its id. ``-1`` means none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Machine(NamedTuple):
    """All state of a running simulation."""

    clock: NDArray[np.int64]
    """Scalars: see the columns named ``C_``."""
    arrivals: NDArray[np.int64]
    """Requests to come, in order: (created ns, device, k, payload bytes or 0 for the group's)."""
    heap: NDArray[np.int64]
    """Binary heap of (time ns, order, what)."""
    requests: NDArray[np.int64]
    """Requests under way, columns ``R_``."""
    done: NDArray[np.int64]
    """Finished requests, the first ``R_VISIBLE`` columns."""
    ints: NDArray[np.int64]
    floats: NDArray[np.float64]
    stations: NDArray[np.int64]
    """Senders (one a link and direction, or one a device), columns ``S_``."""
    devices: NDArray[np.int64]
    """Columns ``D_``."""
    keys: NDArray[np.uint64]
    """Random streams: one for each purpose and device (row * devices + device), then one for each station."""
    values: NDArray[np.float64]
    """Values of empirical distributions, and confidences of samples."""
    rings: NDArray[np.int64]
    """Start times of the last messages of senders with a queue limit."""


# Scalars
(
    C_POSITION, C_ARRIVALS, C_HEAP, C_FREE, C_IN_USE, C_DONE, C_ASKED, C_NOW, C_HORIZON, C_DEVICES, C_EVENTS,
    C_NOT_MADE, C_RESERVE, C_STATION_KEYS, C_WHEN, C_ASKED_STEP, C_ASKED_DEVICE, C_GHOST_NJ, C_RANK_SHIFT,
    C_DEVICE_SHIFT, C_TIMER_RANK,
) = range(21)  # fmt: skip
C_SIZE = 24

# Requests. What the trace shows comes first.
(
    R_DEVICE, R_K, R_CREATED, R_SENT, R_ARRIVED, R_STARTED, R_FINISHED, R_ANSWERED, R_TIER, R_NODE, R_OUTCOME, R_UP,
    R_DOWN, R_ENERGY, R_TX, R_RUNS,
) = range(16)  # fmt: skip
R_VISIBLE = 16
R_PC, R_NEXT, R_SENDS, R_TRIES, R_STATE = range(16, 21)
R_ARM = 21  # deadlines of the levels 0 (the device gives up), 1 and 2 (a rule asks elsewhere)
R_ARM_PC = 24  # their steps
R_SAVED = 27  # the answer there was when levels 1 and 2 were armed: arrived, started, finished, tier, node
SAVED = 5
R_BYTES = R_SAVED + 2 * SAVED  # payload upwards where the request states its own, else 0
R_TURN = R_BYTES + 1  # when it came to the station where it waits for its turn, or -1: see ``waits_for_turn``
R_SIZE = R_TURN + 1
LEVELS = 3
TOO_LATE = -2  # at R_ARM of a level: its deadline has passed, and its place has gone on without this answer

UNDER_WAY, LOST, GHOST = range(3)  # R_STATE; a ghost has been given up but still takes its way

TIERS = ("device", "edge", "cloud")  # by R_TIER

# Outcomes
OUTCOMES = (
    "in_flight", "answered", "link_loss", "link_queue", "link_down", "node_queue", "node_down", "broker_restart",
    "timeout", "battery",
)  # fmt: skip
(
    IN_FLIGHT, ANSWERED, LINK_LOSS, LINK_QUEUE, LINK_DOWN, NODE_QUEUE, NODE_DOWN, BROKER_RESTART, TIMEOUT, BATTERY,
) = range(10)  # fmt: skip

# Steps of a request's way
END, DEVICE, LINK, NODE, CASCADE, ARM, DISARM, ASK = range(8)
(
    T_OP, T_ARG, T_NEXT, T_ALT, T_RANK, T_INLINE, T_SIZE, T_AIR, T_ENERGY, T_EDGE_OF_DEVICE, T_LEVEL, T_TIMEOUT, T_TIER,
    T_DIST, T_KEY, T_EAGER, T_CONFIDENCES, T_RIGHT, T_WRONG, T_KEY_ANSWER, T_KEY_CONFIDENCE, T_SAMPLES, T_KEY_SAMPLE,
    T_ASK_DEVICE, T_ASK_EDGE, T_ASK_CLOUD, T_GROUP, T_CODE, T_PAYLOAD, T_KIND, T_BY_BATCH,
) = range(31)  # fmt: skip
TF_POWER, TF_THRESHOLD, TF_ACCURACY, TF_BYTE_AIR, TF_BYTE_ENERGY = range(5)
NO_HOP, FIRST_UP, LAST_DOWN = range(3)  # T_EDGE_OF_DEVICE

# Links (one row a direction). Every try is a message; the end finds some of them in flight, and of those some unsent.
(
    L_STATION, L_PER_DEVICE, L_QUEUE, L_RING, L_LATENCY, L_JITTER, L_KEY_LATENCY, L_KEY_JITTER, L_KEY_LOSS, L_BURSTY,
    L_RETRIES, L_BACKOFF, L_WINDOW, L_WINDOW_END, L_SHAPED,
    L_MESSAGES, L_DELIVERED, L_LOST, L_REFUSED, L_CUT, L_RETRIED, L_BYTES, L_BUSY, L_WAIT, L_UNSENT,
) = range(25)  # fmt: skip
LF_LOSS, LF_FACTOR, LF_OCCUPY, LF_TO_BAD, LF_TO_GOOD, LF_LOSS_GOOD, LF_LOSS_BAD, LF_SHAPE, LF_BURST = range(9)

# Nodes. ``N_ENDS`` is the sum of the instants at which running batches end, ``N_STRANDED`` the waiting of requests that
# were not served.
(
    N_WORKERS, N_LIMIT, N_MAX_BATCH, N_MAX_WAIT, N_WINDOW, N_WINDOW_END, N_IDLE, N_HEAD, N_TAIL, N_LENGTH, N_RUNNING,
    N_IS_DOWN, N_TIMER, N_OFFERED, N_SERVED, N_REFUSED, N_CUT, N_BATCHES, N_BUSY, N_WAIT, N_LONGEST, N_RANK,
    N_STARTED, N_ENDS, N_STRANDED,
) = range(25)  # fmt: skip
NF_MARGINAL = 0

# Device groups
G_ENTRY, G_CLOSED, G_BURST, G_STOP, G_BATTERY = range(5)
GF_IDLE = 0

# Fault windows: apart from each other and in order of time
W_START, W_END, W_CUTS, W_EXTRA = range(4)
WF_BANDWIDTH, WF_LOSS = range(2)

INTS, FLOATS = 31, 9

# Senders
S_BUSY, S_SHAPER, S_RING, S_BAD, S_COUNT = range(5)
S_SIZE = 5

# Devices
D_GROUP, D_BUSY, D_DEAD, D_SPENT, D_OPEN, D_NEXT_K, D_QUERIES, D_AGAIN = range(8)
D_SIZE = 8

# Events: their third column is the subject's id times KINDS, plus the kind
STEP, FINISH, TIMER, HOLD, CREATE, DOWN, UP, NOTHING = 0, 1, 2, 5, 6, 7, 8, 9  # TIMER + level
KINDS = 16

# The order of events of one instant is rank of the station, device, number of the request in one whole number. Ranks
# and devices take as many bits as the scenario has of them, and numbers the rest.
ORDER_BITS = 63
LEAST_K_BITS = 20
DEVICE_BITS = 24  # at most, for devices
K_BITS = 31  # of a request's number beside its device in the digest of the trace

# What a step of a request leads to, where it is not an outcome
GOES_ON, WAITS_FOR_POLICY = 0, -1

# Why the kernel came back
FINISHED, ASKED, DRAIN, GROW_REQUESTS, GROW_HEAP = range(5)

NEVER = 2**62
SHORTEST_LOOP = 1_000  # ns from one closed-loop query to the next, at least: virtual time must go on
