"""gRPC stubs for the API, generated from Protos/ when first used."""

import functools
import importlib
import sys
import tempfile
from types import SimpleNamespace

import grpc

from harness.paths import PROTOS

MODULES = {
    "rpc": "etcdserverpb.rpc", "kv": "mvccpb.kv", "auth": "authpb.auth",
    "lock": "v3lockpb.v3lock", "election": "v3electionpb.v3election", "health": "health.health",
}


@functools.cache
def messages() -> SimpleNamespace:
    """The generated modules of messages, by the short names above."""
    from grpc_tools import protoc

    folder = tempfile.mkdtemp(prefix="martlet-protos-")
    files = [str(path) for path in sorted(PROTOS.rglob("*.proto"))]
    arguments = ["protoc", f"-I{PROTOS}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if not files or protoc.main(arguments + files) != 0:
        raise RuntimeError(f"no stubs from {PROTOS}")
    sys.path.insert(0, folder)
    found = {short: importlib.import_module(f"{name}_pb2") for short, name in MODULES.items()}
    found |= {f"{short}_grpc": importlib.import_module(f"{name}_pb2_grpc")
              for short, name in MODULES.items()}
    return SimpleNamespace(**found)


class Client:
    """A channel and the stubs of every service on it."""

    def __init__(self, address: str, **options: str | int):
        quick = {"grpc.initial_reconnect_backoff_ms": 50, "grpc.use_local_subchannel_pool": 1,
                 "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1}
        self.channel = grpc.insecure_channel(address, list((quick | options).items()))
        m = messages()
        self.kv = m.rpc_grpc.KVStub(self.channel)
        self.watch = m.rpc_grpc.WatchStub(self.channel)
        self.lease = m.rpc_grpc.LeaseStub(self.channel)
        self.cluster = m.rpc_grpc.ClusterStub(self.channel)
        self.maintenance = m.rpc_grpc.MaintenanceStub(self.channel)
        self.auth = m.rpc_grpc.AuthStub(self.channel)
        self.lock = m.lock_grpc.LockStub(self.channel)
        self.election = m.election_grpc.ElectionStub(self.channel)
        self.health = m.health_grpc.HealthStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
