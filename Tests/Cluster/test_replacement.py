"""Moving from etcd to Martlet, one member at a time, under load: how its users will do it."""

import threading
import time

from cluster import Cluster
from history import Caller, Recorder, check, events_of


def test_rolling_replacement_loses_nothing() -> None:
    recorder = Recorder()
    stop = threading.Event()
    with Cluster(["etcd"] * 3) as cluster:
        cluster.start()
        addresses = [member.address for member in cluster.members]
        callers = [Caller(n, addresses, recorder, 5, stop, pace=0.01) for n in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(1)
        for number in (1, 2, 3):
            old = cluster[number]
            cluster.move_leader(next(each for each in cluster.members if each is not old))
            cluster.remove(old)
            old.stop()
            new = cluster.add("martlet", number + 3)
            new.wait_ready()
            addresses.append(new.address)
            addresses.remove(old.address)
            cluster.check_hashes()
            old.close()
        time.sleep(1)
        stop.set()
        for caller in callers:
            caller.join()
            assert not caller.errors, caller.errors
        assert [member.kind for member in cluster.members] == ["martlet"] * 3
        cluster.check_hashes()
        check(recorder, events_of(cluster.members[0].client))
    assert len(recorder.answered) > 100
    print(f"\n{len(recorder.answered)} of {len(recorder.operations)} calls answered")
