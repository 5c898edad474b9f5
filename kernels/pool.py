"""The pool: threads that wait in compiled code and help with the parts of one job at a time.

A job is open while its ticket says that parts are left. Whoever takes one off runs it, the caller among them; so a thread
that is slow to wake up only does less, and nobody waits for another caller: who finds the pool busy does all parts itself.
Threads wait on the interpreter's own locks, by address: a lock is free once for each time that somebody is to wake up.
"""

from .constants import JOB_PARTS, POOL_SUMS
from .jit import kernel
from .pointers import as_i8, call1, call2, call_kernel, count_up, read_now, replace, swap

#: slots of the pool's table, written by others at the same time: no two in a cache line (8 words)
BUSY, TICKET, FINISHED, WAITING, STOPPING = range(0, 40, 8)
#: further slots: threads that may work at a time, the caller's included; the job's kernel and words; the functions that
#: take and give a lock; the lock of the caller who waits; the memory of the parts' sums; threads there are, their rows
THREADS, KERNEL, WORDS, TAKE_LOCK, GIVE_LOCK, DONE, PART_SUMS, STARTED, HELPERS = range(40, 49)
SLOTS = 56
#: slots of a helper's row: whether it sleeps, the lock that it waits on, its services
SLEEPING, WAKE, OWN_SERVICES = range(3)
HELPER = 8
#: helpers at the most
MOST = 63
#: looks at the ticket before a thread goes to sleep: about as long as waking one up takes
SPIN = 10000
#: a ticket is the parts that are left, and above these bits the number of the job: none is taken for another
LEFT = 0xFFFF


@kernel
def is_open(pool):  # type: ignore[no-untyped-def]
    """Whether there are parts that nobody has taken."""
    return read_now(pool + 8 * TICKET) & LEFT != 0


@kernel
def take_part(pool):  # type: ignore[no-untyped-def]
    """Take a part of the open job: give how many were left, 0 if none."""
    while True:
        ticket = read_now(pool + 8 * TICKET)
        if ticket & LEFT == 0:
            return 0
        if replace(pool + 8 * TICKET, ticket, ticket - 1):
            return ticket & LEFT


@kernel
def do_parts(pool, services):  # type: ignore[no-untyped-def]
    """Do parts until none are left; who finishes the last one wakes the caller."""
    t = as_i8(pool)
    left = take_part(pool)
    while left != 0:
        words = as_i8(t[WORDS])
        parts, k = words[JOB_PARTS], words[JOB_PARTS] - left
        call_kernel(t[KERNEL], t[WORDS], k, services, t[PART_SUMS] + POOL_SUMS * k)
        if count_up(pool + 8 * FINISHED) == parts and swap(pool + 8 * WAITING, 0) == 1:
            call1(t[GIVE_LOCK], t[DONE])
        left = take_part(pool)


@kernel
def wake(pool, count):  # type: ignore[no-untyped-def]
    """Wake the first helpers, if they sleep."""
    t = as_i8(pool)
    for k in range(count):
        row = t[HELPERS] + 8 * HELPER * k
        if swap(row + 8 * SLEEPING, 0) == 1:
            call1(t[GIVE_LOCK], as_i8(row)[WAKE])


@kernel
def enter(pool):  # type: ignore[no-untyped-def]
    """Get the pool for oneself; False if somebody else has it."""
    return swap(pool + 8 * BUSY, 1) == 0


@kernel
def leave(pool):  # type: ignore[no-untyped-def]
    """Let others have the pool."""
    swap(pool + 8 * BUSY, 0)


@kernel
def share(pool, address, words, services):  # type: ignore[no-untyped-def]
    """Do all parts of a job with the helpers' help."""
    t, parts = as_i8(pool), as_i8(words)[JOB_PARTS]
    t[KERNEL], t[WORDS] = address, words
    swap(pool + 8 * FINISHED, 0)
    swap(pool + 8 * TICKET, (read_now(pool + 8 * TICKET) | LEFT) + 1 + parts)
    wake(pool, min(t[THREADS] - 1, t[STARTED], parts - 1))
    do_parts(pool, services)
    looks = 0
    while read_now(pool + 8 * FINISHED) != parts:
        looks += 1
        if looks < SPIN:
            continue
        swap(pool + 8 * WAITING, 1)
        if read_now(pool + 8 * FINISHED) == parts and swap(pool + 8 * WAITING, 0) == 1:
            break
        call2(t[TAKE_LOCK], t[DONE], 1)


@kernel
def help_out(pool, k):  # type: ignore[no-untyped-def]
    """Be the pool's k-th helper until it stops."""
    t, row = as_i8(pool), as_i8(pool)[HELPERS] + 8 * HELPER * k
    looks = 0
    while read_now(pool + 8 * STOPPING) == 0:
        wanted = is_open(pool) and k < read_now(pool + 8 * THREADS) - 1
        if wanted:
            do_parts(pool, as_i8(row)[OWN_SERVICES])
            looks = 0
            continue
        looks += 1
        if looks < SPIN:
            continue
        looks = 0
        swap(row + 8 * SLEEPING, 1)
        # what came before SLEEPING could be read is looked for once more: its caller has woken nobody
        wanted = is_open(pool) and k < read_now(pool + 8 * THREADS) - 1
        if (wanted or read_now(pool + 8 * STOPPING) != 0) and swap(row + 8 * SLEEPING, 0) == 1:
            continue
        call2(t[TAKE_LOCK], as_i8(row)[WAKE], 1)


@kernel
def stop(pool):  # type: ignore[no-untyped-def]
    """Send all helpers home."""
    swap(pool + 8 * STOPPING, 1)
    wake(pool, as_i8(pool)[STARTED])
