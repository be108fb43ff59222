"""Runs a program on etcd and on the server under test at the same time and compares each answer."""

import http.client
import json
import time
from collections.abc import Callable

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from harness import paths
from harness.protos import Client, messages
from harness.server import Server

from answers import Answer, normalise
from programs import PASSWORDS, Call, Number
from watching import ARRIVAL_SECONDS_MAX, Stream

CALL_SECONDS_MAX = 10
# Watchers that catch up get their turn every 100 ms in etcd.
QUIET_SECONDS = 0.15
END_QUIET_SECONDS = 0.3
FLAGS = ["--bcrypt-cost", "4"]
# Leases with such a short time could end amid a program.
BRIEF_LEASE = 1234
PATHS = {
    "kv.Range": "kv/range", "kv.Put": "kv/put", "kv.DeleteRange": "kv/deleterange",
    "kv.Txn": "kv/txn", "kv.Compact": "kv/compaction", "lease.LeaseGrant": "lease/grant",
    "lease.LeaseRevoke": "lease/revoke", "lease.LeaseTimeToLive": "lease/timetolive",
    "lease.LeaseLeases": "lease/leases", "lease.LeaseKeepAlive": "lease/keepalive",
    "cluster.MemberList": "cluster/member/list", "cluster.MemberAdd": "cluster/member/add",
    "cluster.MemberRemove": "cluster/member/remove",
    "cluster.MemberPromote": "cluster/member/promote",
    "maintenance.Alarm": "maintenance/alarm", "maintenance.Status": "maintenance/status",
    "maintenance.HashKV": "maintenance/hash", "maintenance.Defragment": "maintenance/defragment",
    "maintenance.MoveLeader": "maintenance/transfer-leadership",
    "auth.AuthEnable": "auth/enable", "auth.AuthDisable": "auth/disable",
    "auth.AuthStatus": "auth/status", "auth.Authenticate": "auth/authenticate",
    "auth.UserAdd": "auth/user/add", "auth.UserGet": "auth/user/get",
    "auth.UserList": "auth/user/list", "auth.UserDelete": "auth/user/delete",
    "auth.UserChangePassword": "auth/user/changepw", "auth.UserGrantRole": "auth/user/grant",
    "auth.UserRevokeRole": "auth/user/revoke", "auth.RoleAdd": "auth/role/add",
    "auth.RoleGet": "auth/role/get", "auth.RoleList": "auth/role/list",
    "auth.RoleDelete": "auth/role/delete", "auth.RoleGrantPermission": "auth/role/grant",
    "auth.RoleRevokePermission": "auth/role/revoke",
}


class Side:
    """One server with the clients of a program."""

    def __init__(self, binary: str):
        self.m = messages()
        self.server = Server(binary, FLAGS)
        self.tokens: dict[str, str] = {"nonsense": "nonsense"}
        self.streams: dict[int, Stream] = {}
        self.numbers = {"now": 1, "compacted": 0, "member": 0}
        self.has_users = False

    def open(self) -> None:
        """When the server has been spawned."""
        self.server.wait_ready()
        self.client = Client(self.server.address)
        self.web = http.client.HTTPConnection(self.server.address, timeout=CALL_SECONDS_MAX)

    def disconnect(self) -> None:
        self.close_all_watches()
        self.client.close()
        self.web.close()

    def fill(self, value: object) -> object:
        """`value` with its numbers looked up."""
        if isinstance(value, Number):
            return self.numbers[value.base] + value.plus
        if isinstance(value, dict):
            return {name: self.fill(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        return value

    def request(self, method: str, fields: object) -> Message:
        """The message that a method takes."""
        stub, name = method.split(".")
        service = self.m.rpc.DESCRIPTOR.services_by_name[
            {"kv": "KV"}.get(stub, stub.capitalize())]
        kind = service.methods_by_name[name].input_type
        return getattr(self.m.rpc, kind.name)(**self.fill(fields))

    def metadata(self, user: str) -> list[tuple[str, str]]:
        # While there is no authentication etcd 3.5.1 still looks at tokens; later ones do not.
        if not self.has_users or user not in self.tokens:
            return []
        return [("token", self.tokens[user])]

    # Calls

    def begin(self, call: Call) -> Callable[[], Answer]:
        """Sends a call; what it gives waits for the answer."""
        request = self.request(call.method, call.request)
        if call.method == "maintenance.HashKV":
            # At a negative one etcd hashes nothing, and Martlet what the backend holds.
            request.revision = max(0, request.revision)
        if call.gateway:
            return self.begin_gateway(call, request)
        stub, name = call.method.split(".")
        method = getattr(getattr(self.client, stub), name)
        metadata = self.metadata(call.user)
        if name == "LeaseKeepAlive":
            responses = method(iter([request]), timeout=CALL_SECONDS_MAX, metadata=metadata)
            return lambda: self.answer(call, request, lambda: next(responses))
        future = method.future(request, timeout=CALL_SECONDS_MAX, metadata=metadata)
        return lambda: self.answer(call, request, future.result)

    def answer(self, call: Call, request: Message, result: Callable[[], Message]) -> Answer:
        try:
            response = result()
        except grpc.RpcError as error:
            return Answer(request, error=f"{error.code().name} {error.details()}")
        except StopIteration:
            return Answer(request, error="ended")
        self.learn(call, request, response)
        return Answer(request, response)

    def begin_gateway(self, call: Call, request: Message) -> Callable[[], Answer]:
        body = json_format.MessageToJson(request, preserving_proto_field_name=True)
        headers = {"Authorization": token for _, token in self.metadata(call.user)}
        self.web.request("POST", f"/v3/{PATHS[call.method]}", body, headers)

        def finish() -> Answer:
            try:
                answer = self.web.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.web.close()
                return Answer(request, error=f"UNAVAILABLE {error}")
            stub, name = call.method.split(".")
            if answer.status != 200:
                return Answer(request, error=f"{answer.status} {text}")
            fields = json.loads(text.split("\n")[0])
            if name == "LeaseKeepAlive":
                if "result" not in fields:
                    return Answer(request, error=text)
                fields = fields["result"]
            kind = type(request).__name__.removesuffix("Request") + "Response"
            response = json_format.ParseDict(fields, getattr(self.m.rpc, kind)())
            self.learn(call, request, response)
            return Answer(request, response)
        return finish

    def learn(self, call: Call, request: Message, response: Message) -> None:
        """Keeps what later calls refer to."""
        self.numbers["now"] = max(self.numbers["now"], response.header.revision)
        self.numbers["member"] = response.header.member_id
        if call.method == "kv.Compact":
            self.numbers["compacted"] = request.revision
        if call.method == "auth.AuthEnable":
            self.has_users = True
        if call.method == "auth.AuthDisable":
            self.has_users = False
            self.close_all_watches()
        if call.method == "auth.Authenticate":
            self.tokens[request.name] = response.token
        if call.method == "lease.LeaseGrant" and response.ID == BRIEF_LEASE:
            self.client.lease.LeaseRevoke(
                self.m.rpc.LeaseRevokeRequest(ID=BRIEF_LEASE), timeout=CALL_SECONDS_MAX,
                metadata=self.metadata(call.user))

    # Between programs

    def clear(self) -> bool:
        """Leaves nothing but the revision; false when that cannot be done."""
        self.close_all_watches()
        try:
            self._clear()
        except grpc.RpcError:
            return False
        return True

    def _clear(self) -> None:
        m, client, limits = self.m.rpc, self.client, {"timeout": CALL_SECONDS_MAX}
        if self.has_users:
            root = m.AuthenticateRequest(name="root", password=PASSWORDS["root"])
            token = client.auth.Authenticate(root, **limits).token
            client.auth.AuthDisable(m.AuthDisableRequest(), metadata=[("token", token)], **limits)
        for alarm in client.maintenance.Alarm(m.AlarmRequest(), **limits).alarms:
            client.maintenance.Alarm(m.AlarmRequest(
                action=m.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm),
                **limits)
        for lease in client.lease.LeaseLeases(m.LeaseLeasesRequest(), **limits).leases:
            client.lease.LeaseRevoke(m.LeaseRevokeRequest(ID=lease.ID), **limits)
        for user in client.auth.UserList(m.AuthUserListRequest(), **limits).users:
            client.auth.UserDelete(m.AuthUserDeleteRequest(name=user), **limits)
        for role in client.auth.RoleList(m.AuthRoleListRequest(), **limits).roles:
            client.auth.RoleDelete(m.AuthRoleDeleteRequest(role=role), **limits)
        everything = m.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        now = client.kv.DeleteRange(everything, **limits).header.revision
        if now > self.numbers["compacted"]:
            client.kv.Compact(m.CompactionRequest(revision=now, physical=True), **limits)
        self.tokens = {"nonsense": "nonsense"}
        self.has_users = False
        self.numbers |= {"now": now, "compacted": now}

    # Watches

    def create_watch(self, call: Call) -> None:
        number = call.request["stream"]
        if number not in self.streams or self.streams[number].status:
            self.streams[number] = Stream(self.client, self.metadata(call.user))
        fields = self.fill(call.request["create"])
        # Negative ones are refused by the newest etcd 3.5 only.
        start = max(0, fields.get("start_revision", 0))
        # Since 3.5.16 a deletion outlives the compaction of its own revision.
        fields["start_revision"] = start + (0 < start == self.numbers["compacted"])
        create = self.m.rpc.WatchCreateRequest(**fields)
        self.streams[number].create(self.m.rpc.WatchRequest(create_request=create))

    def is_refused(self, call: Call) -> bool:
        """Whether the last watch was not to be; etcd 3.5.1 may then forget another one."""
        return any(each.created and each.canceled
                   for each in self.streams[call.request["stream"]].responses)

    def cancel_watch(self, call: Call) -> None:
        if stream := self.streams.get(call.request["stream"]):
            cancel = self.m.rpc.WatchCancelRequest(watch_id=call.request["watch_id"])
            stream.cancel(self.m.rpc.WatchRequest(cancel_request=cancel))

    def close_all_watches(self) -> None:
        for number in list(self.streams):
            self.streams.pop(number).close()

    def close_watches(self, call: Call) -> None:
        if stream := self.streams.pop(call.request["stream"], None):
            stream.close()


class Pair:
    """etcd and the server under test, both fresh."""

    def __init__(self, reference: str = paths.ETCD, tested: str = paths.MARTLET):
        self.sides = [Side(reference), Side(tested)]
        self.start()

    def close(self) -> None:
        for side in self.sides:
            if hasattr(side, "client"):
                side.disconnect()
            side.server.close()

    def clear(self) -> bool:
        """Makes ready for the next program; false when only a fresh pair will do."""
        return all([side.clear() for side in self.sides]) and (
            self.sides[0].numbers == self.sides[1].numbers)

    def start(self) -> None:
        for side in self.sides:
            side.server.spawn()
        for side in self.sides:
            side.open()

    def run(self, call: Call) -> tuple[list[str], list[str]]:
        """What the two said to a call; equal when they agree."""
        steps = {"create watch": self.create_watch, "cancel watch": self.cancel_watch,
                 "close watches": self.close_watches, "restart": self.restart,
                 "settle": lambda _: self.quiet(END_QUIET_SECONDS)}
        if call.method in steps:
            return steps[call.method](call)
        if call.method in ("kv.Compact", "auth.AuthDisable"):
            before, after = self.quiet()
            if before != after:
                return before, after
        waiting = [side.begin(call) for side in self.sides]
        first, second = (normalise(each(), side.server) for each, side in
                         zip(waiting, self.sides))
        return first, second

    def quiet(self, seconds: float = QUIET_SECONDS) -> tuple[list[str], list[str]]:
        """What all watches have told, once they agree and nothing more comes."""
        if not any(side.streams for side in self.sides):
            return [], []
        deadline = time.monotonic() + ARRIVAL_SECONDS_MAX
        count, since = -1, time.monotonic()
        while True:
            stories = [[f"stream {number} {line}" for number in sorted(side.streams)
                        for line in side.streams[number].lines()] for side in self.sides]
            total = len(stories[0]) + len(stories[1])
            if total != count:
                count, since = total, time.monotonic()
            idle = time.monotonic() - since
            if idle > seconds and stories[0] == stories[1]:
                return stories[0], stories[1]
            if time.monotonic() > deadline:
                return stories[0], stories[1]
            time.sleep(0.01)

    def create_watch(self, call: Call) -> tuple[list[str], list[str]]:
        for side in self.sides:
            side.create_watch(call)
        first, second = (side.is_refused(call) for side in self.sides)
        if first and second:
            return self.close_watches(call)
        if first or second:
            return [f"refused {first}"], [f"refused {second}"]
        start = self.sides[0].fill(call.request["create"].get("start_revision", 0))
        return self.quiet() if 0 < start <= self.sides[0].numbers["now"] else ([], [])

    def cancel_watch(self, call: Call) -> tuple[list[str], list[str]]:
        found = self.quiet()
        for side in self.sides:
            side.cancel_watch(call)
        return found

    def close_watches(self, call: Call) -> tuple[list[str], list[str]]:
        found = self.quiet()
        for side in self.sides:
            side.close_watches(call)
        return found

    def restart(self, _: Call) -> tuple[list[str], list[str]]:
        """Both are killed and started again; etcd 3.5.1 after a moment in which its store is
        committed, since it may lose writes otherwise."""
        first, second = self.quiet()
        if first != second:
            return first, second
        time.sleep(END_QUIET_SECONDS)
        for side in self.sides:
            side.disconnect()
            side.server.kill()
        self.start()
        return [], []
