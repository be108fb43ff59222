"""Random programs of API calls, each from a seed.

A program is a list of `Call`s that stand for themselves: any of them may be left out and the rest
still runs. `repr` of a call is the Python that makes it.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

CALLS = 200
KEYS = [b"a", b"b", b"c", b"ab", b"a\0", b"a\xff", b"b\0", b"\0", b"\0\0", b"\xff", b"\xff\xff"]
VALUES = [b"", b"1", b"2", b"\0", b"\xff\0", b"longer than the others"]
LEASES = [1, 2, 3, 4, 2**62, -5]
LIMITS = [1, 2, 3, 5, 1000, -1, 2**63 - 1]
STREAMS = [1, 2, 3]
PASSWORDS = {"root": "rootpw", "u1": "p", "u2": "p", "u3": ""}
ROLES = ["root", "r1", "r2"]
OPERATIONS_MAX = 128
# What etcd 3.5.1 lets others do too; the newest 3.5 does not.
FOR_ROOT = ["kv.Compact", "cluster.MemberList", "maintenance.Status", "maintenance.MoveLeader"]

Fields = dict[str, object]


class Number(NamedTuple):
    """A number that hangs on the state: `base` is looked up when the call is made."""

    base: str
    plus: int

    def __repr__(self) -> str:
        return f"{self.base}({self.plus})"


def now(plus: int) -> Number:
    """The newest revision anybody has told, and so many on."""
    return Number("now", plus)


def compacted(plus: int) -> Number:
    """The revision of the last compaction that was not refused, and so many on."""
    return Number("compacted", plus)


def member(plus: int) -> Number:
    """The ID of the member."""
    return Number("member", plus)


@dataclass(frozen=True)
class Call:
    """One step. `method` is a stub and its RPC, or a step of the tests' own such as `restart`."""

    method: str
    request: Fields
    user: str = ""
    gateway: bool = False

    def __repr__(self) -> str:
        rest = f", user={self.user!r}" if self.user else ""
        rest += ", gateway=True" if self.gateway else ""
        return f"Call({self.method!r}, {self.request!r}{rest})"


def ending(users: list[str]) -> list[Call]:
    """What is there after a program, to those who look."""
    everything = {"key": b"\0", "range_end": b"\0"}
    calls = [Call("settle", {})]
    for user in users:
        calls += [Call(method, request, user) for method, request in [
            ("kv.Range", everything), ("maintenance.HashKV", {}), ("lease.LeaseLeases", {}),
            ("auth.UserList", {}), ("auth.RoleList", {}), ("auth.AuthStatus", {}),
            ("maintenance.Alarm", {})]]
    return calls


class Maker:
    """Draws calls; which kinds there are is drawn first."""

    def __init__(self, seed: int):
        self.random = Random(seed)
        self.has_users = self.chance(0.35)
        self.has_watches = self.chance(0.6)
        self.has_restarts = self.chance(0.25)
        self.through_gateway = self.random.choice([0, 0.03, 0.3])

    def program(self) -> list[Call]:
        calls = self.users() if self.has_users else []
        calls += [Call("lease.LeaseGrant", {"ID": number, "TTL": 10_000},
                       "root" if self.has_users else "") for number in LEASES[:2]]
        kinds = [(self.put, 22), (self.range, 20), (self.delete, 7), (self.txn, 22),
                 (self.compaction, 2), (self.lease, 9), (self.hash, 1), (self.others, 2),
                 (self.watch, 7 if self.has_watches else 0),
                 (self.auth, 12 if self.has_users else 1),
                 (self.restart, 0.6 if self.has_restarts else 0)]
        while len(calls) < CALLS:
            kind, = self.random.choices([kind for kind, _ in kinds], [each for _, each in kinds])
            calls += kind()
        return calls

    # Words

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def one(self, *choices: object) -> object:
        return self.random.choice(choices)

    def key(self) -> bytes:
        return b"" if self.chance(0.01) else self.random.choice(KEYS)

    def value(self) -> bytes:
        return self.random.choice(VALUES) if self.chance(0.99) else b"v" * 20_000

    def keys(self) -> Fields:
        """A key or a range, of any form."""
        key = self.key()
        form = self.random.randrange(10)
        if form < 4:
            return {"key": key}
        if form == 4:
            return {"key": key, "range_end": b"\0"}
        if form == 5:
            return {"key": b"\0", "range_end": b"\0"}
        if form == 6 and key and key[-1] < 255:
            return {"key": key, "range_end": key[:-1] + bytes([key[-1] + 1])}
        if form == 7 and self.chance(0.2):
            return {"key": b"", "range_end": self.key()}
        end = self.key()
        if self.has_users and end not in (b"", b"\0") and end < key:
            key, end = end, key
        return {"key": key, "range_end": end}

    def revision(self) -> int | Number:
        return self.one(
            now(-self.random.randrange(12)), now(-self.random.randrange(60)), compacted(0),
            compacted(1), compacted(-1), compacted(self.random.randrange(8)), now(1), now(9),
            0, 1, -1)

    def flags(self, share: float, *names: str) -> Fields:
        return {name: True for name in names if self.chance(share)}

    def call(self, method: str, request: Fields) -> Call:
        user = ""
        if self.has_users and method in FOR_ROOT:
            user = "root"
        elif self.has_users and method.startswith("lease."):
            user = self.one("root", "u1", "u2")
        elif self.has_users:
            user, = self.random.choices(
                ["root", "u1", "u2", "", "u3", "nonsense"], [4, 6, 6, 1, 0.3, 0.3])
        # The gateway's path of HashKV leads to Hash.
        gateway = method != "maintenance.HashKV" and self.chance(self.through_gateway)
        return Call(method, request, user, gateway)

    # Keys

    def put_request(self) -> Fields:
        request = {"key": self.key(), "value": self.value()}
        request |= self.flags(0.25, "prev_kv")
        if self.chance(0.2):
            request["lease"], = self.random.choices([1, 2, 3, 99], [6, 6, 2, 1])
        if self.chance(0.08):
            request |= {"ignore_value": True}
            if self.chance(0.9):
                del request["value"]
        if self.chance(0.08):
            request |= {"ignore_lease": True}
            if self.chance(0.9):
                request.pop("lease", None)
        return request

    def range_request(self) -> Fields:
        request = self.keys() | self.flags(0.12, "serializable", "keys_only", "count_only")
        if self.chance(0.3):
            request["limit"] = self.random.choice(LIMITS)
        if self.chance(0.3):
            request["revision"] = self.revision()
        if self.chance(0.3):
            request["sort_order"] = self.random.choice([0, 1, 2, 2, 7])
        if self.chance(0.3):
            request["sort_target"] = self.random.choice([0, 1, 2, 3, 4, 4])
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision",
                     "max_create_revision"):
            if self.chance(0.05):
                request[name] = self.revision()
        return request

    def delete_request(self) -> Fields:
        keys = self.keys() if self.chance(0.5) else {"key": self.key()}
        return keys | self.flags(0.4, "prev_kv")

    def compare(self) -> Fields:
        target = self.random.randrange(5)
        names = ["version", "create_revision", "mod_revision", "value", "lease"]
        number = self.random.randrange(4)
        operands = {
            "version": self.random.choice([0, 1, 2, 3]),
            "create_revision": self.one(0, now(-self.random.randrange(20))),
            "mod_revision": self.one(0, now(-self.random.randrange(8))),
            "value": self.random.choice(VALUES), "lease": self.random.choice([0, 1, 2]),
        }
        compare: Fields = {"target": target, "result": number} | self.one(
            {"key": self.key()}, {"key": self.key()}, self.keys())
        if self.chance(0.93):
            name = names[target] if self.chance(0.95) else self.random.choice(names)
            compare[name] = operands[name]
        if self.chance(0.01):
            compare |= self.one({"target": 9}, {"result": 7})
        return compare

    def operation(self, depth: int) -> Fields:
        kind = self.random.randrange(100)
        if kind < 40:
            return {"request_put": self.put_request()}
        if kind < 70:
            return {"request_range": self.range_request()}
        if kind < 85:
            return {"request_delete_range": self.delete_request()}
        if kind < 98 and depth < 3:
            return {"request_txn": self.txn_request(depth + 1)}
        return {} if kind == 99 else {"request_range": {"key": self.key()}}

    def txn_request(self, depth: int = 0) -> Fields:
        count = self.random.choice([0, 1, 1, 2, 2, 3, 5])
        request: Fields = {
            "compare": [self.compare() for _ in range(self.random.choice([0, 0, 1, 1, 2]))],
            "success": [self.operation(depth) for _ in range(count)],
            "failure": [self.operation(depth) for _ in range(self.random.choice([0, 0, 1, 2]))],
        }
        if self.chance(0.15):
            # Reads alone need no place in the log.
            for branch in ("success", "failure"):
                request[branch] = [each for each in request[branch] if "request_range" in each]
        if self.chance(0.01):
            count = self.random.choice([OPERATIONS_MAX - 1, OPERATIONS_MAX, OPERATIONS_MAX + 1])
            request["success"] = [{"request_put": {"key": b"n%d" % n}} for n in range(count)]
        return {name: what for name, what in request.items() if what}

    def put(self) -> list[Call]:
        if self.chance(0.002):
            return [self.call("kv.Put", {"key": b"big", "value": b"x" * 2_000_000})]
        return [self.call("kv.Put", self.put_request())]

    def range(self) -> list[Call]:
        return [self.call("kv.Range", self.range_request())]

    def delete(self) -> list[Call]:
        return [self.call("kv.DeleteRange", self.delete_request())]

    def txn(self) -> list[Call]:
        return [self.call("kv.Txn", self.txn_request())]

    def compaction(self) -> list[Call]:
        revision = now(-self.random.randrange(20)) if self.chance(0.6) else self.revision()
        request = {"revision": revision} | self.flags(0.4, "physical")
        return [self.call("kv.Compact", request)]

    def hash(self) -> list[Call]:
        revision = self.one(0, 0, now(0), now(-self.random.randrange(20)), compacted(1),
                            compacted(3), now(5), compacted(-1))
        return [self.call("maintenance.HashKV", {"revision": revision})]

    # Leases

    def lease(self) -> list[Call]:
        # Negative ones do not outlive a restart of etcd 3.5.1.
        number = self.random.choice(LEASES[:-1] if self.has_restarts else LEASES)
        kind = self.random.randrange(12)
        if kind < 4:
            return [self.call("lease.LeaseGrant", {"ID": number, "TTL": self.one(
                10_000, 20_000, 9_000_000_000, 9_000_000_001, 2**63 - 1)})]
        if kind == 4:
            return [self.call("lease.LeaseGrant", {"ID": 1234, "TTL": self.one(0, -3, 1)})]
        if kind < 7:
            return [self.call("lease.LeaseRevoke", {"ID": self.one(number, number, 99, 0)})]
        if kind < 9:
            return [self.call("lease.LeaseTimeToLive",
                              {"ID": self.one(number, number, 99, 0)} | self.flags(0.7, "keys"))]
        if kind == 9:
            return [self.call("lease.LeaseLeases", {})]
        return [self.call("lease.LeaseKeepAlive", {"ID": self.one(number, number, 99, 0)})]

    # Watches

    def watch(self) -> list[Call]:
        stream = self.random.choice(STREAMS)
        kind = self.random.randrange(10)
        if kind == 0:
            return [Call("close watches", {"stream": stream})]
        if kind == 1:
            return [Call("cancel watch", {"stream": stream, "watch_id": self.random.randrange(9)})]
        request = self.keys() | self.flags(0.3, "prev_kv", "fragment", "progress_notify")
        if self.chance(0.5):
            request["start_revision"] = self.one(
                now(-self.random.randrange(30)), now(-self.random.randrange(30)), compacted(0),
                compacted(1), compacted(-1), now(1), now(2), now(10), 1)
        if self.chance(0.2):
            request["filters"] = self.one([0], [1], [0, 1], [1, 1], [5])
        if self.chance(0.2):
            request["watch_id"] = self.random.randrange(9)
        user = self.call("", {}).user
        return [Call("create watch", {"stream": stream, "create": request}, user)]

    # Users

    def users(self) -> list[Call]:
        """The usual beginning, so that most programs get somewhere."""
        calls = []
        for name, password in PASSWORDS.items():
            options = {"options": {"no_password": True}} if not password else {}
            calls.append(Call("auth.UserAdd", {"name": name, "password": password} | options))
        for name in ROLES:
            calls.append(Call("auth.RoleAdd", {"name": name}))
        for user, role in [("root", "root"), ("u1", "r1"), ("u2", "r1"), ("u2", "r2")]:
            calls.append(Call("auth.UserGrantRole", {"user": user, "role": role}))
        for role in ("r1", "r1", "r2"):
            calls.append(Call("auth.RoleGrantPermission", self.grant() | {"name": role}))
        calls.append(Call("auth.AuthEnable", {}))
        return calls + [self.login(name) for name in ("root", "u1", "u2")]

    def grant(self) -> Fields:
        keys = self.keys()
        # Empty ranges and those of the empty key are refused since 3.5.3.
        while not keys["key"] or keys.get("range_end", b"\0") not in (b"", b"\0") and (
                keys["range_end"] <= keys["key"]):
            keys = self.keys()
        return {"name": self.random.choice(ROLES),
                "perm": {"permType": self.random.randrange(3)} | keys}

    def login(self, name: str) -> Call:
        return Call("auth.Authenticate", {"name": name, "password": PASSWORDS.get(name, "")})

    def auth(self) -> list[Call]:
        user = self.random.choice([*PASSWORDS, "u4"])
        role = self.random.choice([*ROLES, "r3"])
        password = self.random.choice(["p", "p", "", "wrong", PASSWORDS.get(user, "")])
        choices: list[tuple[str, Fields, float]] = [
            ("AuthStatus", {}, 2), ("AuthEnable", {}, 2), ("AuthDisable", {}, 0.5),
            ("UserAdd", {"name": user, "password": password}
             | ({"options": {"no_password": True}} if self.chance(0.2) else {}), 2),
            ("UserAdd", {"name": "", "password": password}, 0.1),
            ("UserGet", {"name": user}, 2), ("UserList", {}, 1),
            ("UserDelete", {"name": user}, 0.7),
            ("UserChangePassword",
             {"name": user, "password": password or PASSWORDS.get(user, "")}, 1),
            ("UserGrantRole", {"user": user, "role": role}, 3),
            ("UserRevokeRole", {"name": user, "role": role}, 1.5),
            ("RoleAdd", {"name": self.one(role, role, role, "")}, 1),
            ("RoleGet", {"role": role}, 3), ("RoleList", {}, 1),
            ("RoleDelete", {"role": role}, 0.5),
            ("RoleGrantPermission", self.grant(), 5),
            ("RoleRevokePermission", {"role": role} | self.keys(), 4),
            ("Authenticate", {"name": user, "password": password}, 2),
        ]
        kind, request, _ = self.random.choices(choices, [each for *_, each in choices])[0]
        call = self.call(f"auth.{kind}", request)
        if self.has_users and self.chance(0.6):
            call = Call(call.method, request, "root", call.gateway)
        again = [self.login(user)] if self.chance(0.3) else []
        return [call, *again]

    # The rest

    def others(self) -> list[Call]:
        kind = self.random.randrange(10)
        if kind < 2:
            return [self.call("cluster.MemberList", self.flags(0.5, "linearizable"))]
        if kind == 2:
            return [self.call("cluster.MemberAdd", {
                # What is wrong with the URLs is said before who may not add a member.
                "peerURLs": self.one(["http://127.0.0.1:12380"], ["nonsense"], []) if (
                    not self.has_users) else ["http://127.0.0.1:12380"],
                "isLearner": self.one(True, False)})]
        if kind == 3:
            method = self.one("cluster.MemberRemove", "cluster.MemberPromote")
            return [self.call(method, {"ID": self.one(0, 77)})]
        if kind == 4:
            return [self.call("maintenance.Defragment", {})]
        if kind == 5:
            return [self.call("maintenance.MoveLeader", {"targetID": self.one(0, 5, member(0))})]
        if kind < 8:
            return [self.call("maintenance.Status", {})]
        # While an alarm is raised etcd checks no permissions.
        return [] if self.has_users else self.alarm()

    def alarm(self) -> list[Call]:
        """Raised, then lowered by somebody who may."""
        alarm = {"memberID": self.one(0, member(0), 5), "alarm": self.random.choice([0, 1, 1, 2])}
        calls = [self.call("maintenance.Alarm", alarm | {"action": 1})]
        for kind in self.random.choices([self.put, self.range, self.txn, self.lease, self.delete,
                                         self.compaction], k=4):
            calls += kind()
        calls.append(self.call("maintenance.Alarm", {"action": 0, "alarm": self.one(0, 1, 2)}))
        return [*calls, self.call("maintenance.Alarm", alarm | {"action": 2})]

    def restart(self) -> list[Call]:
        logins = ("root", "u1", "u2") if self.has_users else ()
        return [Call("restart", {}), *(self.login(name) for name in logins)]
