"""A process that is killed while it makes its data dir leaves one that the next start can use."""

import os
import random
import time

from harness import paths
from harness.protos import Client, messages
from harness.server import Server

KILLS = int(os.environ.get("CRASHES", "25"))
SEED = int(os.environ.get("SEED", "1"))
FIRST_START_SECONDS = 0.08


def test_killed_amid_the_first_start() -> None:
    m = messages().rpc
    chance = random.Random(SEED)
    for _ in range(KILLS):
        with Server(paths.MARTLET) as server:
            server.spawn()
            time.sleep(chance.random() * FIRST_START_SECONDS)
            server.kill()
            with Client(server.start().address) as client:
                client.kv.Put(m.PutRequest(key=b"k", value=b"v"))
                assert client.kv.Range(m.RangeRequest(key=b"k")).count == 1
