from __future__ import annotations

import threading

from mlfn.dispatch.inflight import Flag


def test_a_flag_wakes_all_who_wait_and_stays_set() -> None:
    flag, seen = Flag(), []
    waiting = [threading.Thread(target=lambda: seen.append(flag.wait(30))) for _ in range(3)]
    for thread in waiting:
        thread.start()

    assert (flag.is_set(), flag.wait(0), flag.wait(-1), flag.wait(0.01)) == (False, False, False, False)
    flag.set()
    flag.set()
    for thread in waiting:
        thread.join()

    assert seen == [True, True, True]
    assert (flag.is_set(), flag.wait(), flag.wait(0)) == (True, True, True)
