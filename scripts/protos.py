#!/usr/bin/env python3
"""Writes Swift structs, and a table of C descriptors, for a protoc descriptor set.

  protos.py --set FILE --c DIR --swift DIR     (called by scripts/protos)

FILE is what `protoc --descriptor_set_out` wrote, DIR/include holds protoc-c's headers.
"""

import argparse
import os
import re

# ---- descriptors ------------------------------------------------------------------------------
# descriptor.proto is small enough to be read without a protobuf library: {name: (number, kind)}.
SCHEMA = {
    "set": {"file": (1, ["file"])},
    "file": {
        "name": (1, str), "package": (2, str), "message": (4, ["message"]), "enum": (5, ["enum"]),
        "service": (6, ["service"]), "syntax": (12, str),
    },
    "message": {
        "name": (1, str), "field": (2, ["field"]), "enum": (4, ["enum"]), "oneof": (8, ["oneof"]),
    },
    "field": {
        "name": (1, str), "number": (3, int), "label": (4, int), "type": (5, int),
        "type_name": (6, str), "oneof_index": (9, int),
    },
    "oneof": {"name": (1, str)},
    "enum": {"name": (1, str), "value": (2, ["value"])},
    "value": {"name": (1, str), "number": (2, int)},
    "service": {"name": (1, str), "method": (2, ["method"])},
    "method": {"name": (1, str), "input": (2, str), "output": (3, str)},
}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def parse(data, kind):
    schema = SCHEMA[kind]
    result = {name: [] if isinstance(k, list) else None for name, (_, k) in schema.items()}
    by_number = {number: (name, k) for name, (number, k) in schema.items()}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value = None
        if tag & 7 == 0:
            value, at = varint(data, at)
        elif tag & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        elif tag & 7 == 1:
            at += 8
        elif tag & 7 == 5:
            at += 4
        name, k = by_number.get(tag >> 3, (None, None))
        if name is None:
            continue
        if isinstance(k, list):
            result[name].append(parse(value, k[0]))
        else:
            result[name] = value.decode() if k is str else value
    return result


# ---- names ------------------------------------------------------------------------------------
# Packages whose messages stand at the top of module API have no namespace.
NAMESPACES = {
    "etcdserverpb": None, "mvccpb": None, "authpb": "AuthPB", "membershippb": "MembershipPB",
    "raftpb": "RaftPB", "walpb": "WALPB", "snappb": "SnapPB", "v3lockpb": "LockPB",
    "v3electionpb": "ElectionPB", "leasepb": "LeasePB", "grpc.health.v1": "HealthPB",
}
# Names too general for the top of a module.
RENAMED = {"etcdserverpb.Request": "RequestV2", "etcdserverpb.Metadata": "WALMetadata"}
# `Type` cannot be the name of a nested type.
RENAMED_ENUMS = {"Type": "Kind"}
# proto2 fields that etcd leaves out when they are not set; it writes all others, even zeros
# (gogoproto.nullable = false). Bytes and strings: see `presence`.
NULLABLE = {
    "etcdserverpb.Request.PrevExist", "etcdserverpb.Request.Refresh", "walpb.Snapshot.conf_state",
}
ACRONYMS = {"id": "ID", "kv": "KV", "kvs": "KVs", "url": "URL", "urls": "URLs", "ttl": "TTL"}
ENUM_PREFIXES = {
    "EntryType": "Entry", "MessageType": "Msg", "ConfChangeType": "ConfChange",
    "ConfChangeTransition": "ConfChangeTransition",
}
WORDS = {"noput": "noPut", "nodelete": "noDelete", "nospace": "noSpace", "readwrite": "readWrite"}
FIELD_TYPES = {
    3: ("Int64", "int64"), 4: ("UInt64", "uint64"), 5: ("Int32", "int32"), 8: ("Bool", "bool"),
    9: ("String", "string"), 11: (None, "message"), 12: ("[UInt8]", "bytes"),
    13: ("UInt32", "uint32"), 14: (None, "enum"),
}


def lower_first(word):
    if word.isupper():
        return word.lower()
    head = re.match(r"[A-Z]*", word).group(0)
    if len(head) > 1 and len(head) < len(word):
        return head[:-1].lower() + word[len(head) - 1 :]
    return word[:1].lower() + word[1:]


def camel(name):
    first, *rest = name.split("_")
    words = [ACRONYMS.get(w.lower(), w[:1].upper() + w[1:]) for w in rest]
    return lower_first(first) + "".join(words)


def enum_name(enum):
    return RENAMED_ENUMS.get(enum["name"], enum["name"])


def enum_case(enum, value):
    prefix = ENUM_PREFIXES.get(enum)
    if prefix:
        return lower_first(value[len(prefix) :])
    first, *rest = value.lower().split("_")
    name = first + "".join(w.capitalize() for w in rest)
    return WORDS.get(name, name)


def c_camel(name):
    """protoc-c's name of a type: package parts capitalised, joined by two underscores."""
    return "__".join(p[:1].upper() + p[1:] for p in name.split("."))


def c_lower(name):
    """protoc-c's name of a symbol: an underscore where capitals begin."""
    parts = []
    for part in name.split("."):
        text, upper = "", True
        for char in part:
            if char.isupper() and not upper:
                text += "_"
            upper = char.isupper()
            text += char.lower()
        parts.append(text)
    return "__".join(parts)


def c_upper(name):
    return c_lower(name).upper()


# ---- model ------------------------------------------------------------------------------------
class Message:
    def __init__(self, file, raw):
        self.file, self.raw = file, raw
        self.package, self.name = file["package"], raw["name"]
        self.full = f"{self.package}.{self.name}"
        self.proto2 = file["syntax"] != "proto3"
        self.namespace = NAMESPACES[self.package]
        short = RENAMED.get(self.full, self.name)
        self.short = short[:1].upper() + short[1:]
        self.swift = f"{self.namespace}.{self.short}" if self.namespace else self.short
        self.c = c_camel(self.full)


def wrap(line):
    """A line of Swift in lines of at most 100 columns, where one of two breaks serves."""
    if len(line) <= 100:
        return [line]
    pad = " " * (len(line) - len(line.lstrip()))
    block = re.match(r"(.*?\{) (.*) \}$", line)
    if block:
        return [block.group(1), *wrap(f"{pad}  {block.group(2)}"), pad + "}"]
    if " = " in line:
        left, right = line.split(" = ", 1)
        return [left + " =", f"{pad}  {right}"]
    return [line]


class Generator:
    def __init__(self, files):
        self.files = files
        self.messages, self.enums = {}, {}
        for file in files:
            for raw in file["message"]:
                message = Message(file, raw)
                self.messages[message.full] = message
                for enum in raw["enum"]:
                    full = f"{message.full}.{enum['name']}"
                    self.enums[full] = f"{message.swift}.{enum_name(enum)}"
            for enum in file["enum"]:
                space = NAMESPACES[file["package"]]
                name = enum_name(enum)
                self.enums[f"{file['package']}.{enum['name']}"] = f"{space}.{name}" if space else name
        self.order = sorted(self.messages)
        self.index = {full: i for i, full in enumerate(self.order)}

    # A field's Swift type, its default, and how it crosses to and from C.
    def field(self, message, raw):
        base, kind = FIELD_TYPES[raw["type"]]
        target = (raw["type_name"] or ".")[1:]
        if kind == "message":
            base = self.messages[target].swift
        elif kind == "enum":
            base = self.enums[target]
        repeated = raw["label"] == 3
        oneof = raw["oneof_index"]
        full = f"{message.full}.{raw['name']}"
        if repeated or oneof is not None:
            optional = False
        elif message.proto2:
            optional = kind == "bytes" or full in NULLABLE
        else:
            optional = kind == "message"
        if repeated:
            swift, default = f"[{base}]", "[]"
        elif optional:
            swift, default = f"{base}?", "nil"
        else:
            swift = base
            default = {
                "bool": "false", "string": '""', "bytes": "[]", "message": f"{base}()",
                "enum": f"{base}(rawValue: 0)",
            }.get(kind, "0")
        return {
            "name": camel(raw["name"]), "swift": swift, "base": base, "kind": kind,
            "default": default, "repeated": repeated, "optional": optional, "oneof": oneof,
            "c": raw["name"].lower(), "number": raw["number"], "target": target,
            "has": message.proto2 and kind not in ("message", "string"), "full": full,
        }

    def read(self, f, source):
        """The Swift value of one C value."""
        kind, base = f["kind"], f["base"]
        return {
            "int64": source, "uint64": source, "int32": source, "uint32": source,
            "bool": f"{source} != 0", "string": f"text({source})", "bytes": f"bytes({source})",
            "message": f"{base}({source}!)",
            "enum": f"{base}(rawValue: signed({source}.rawValue))",
        }[kind]

    def write(self, f, value):
        """The C value of one Swift value."""
        kind = f["kind"]
        return {
            "int64": value, "uint64": value, "int32": value, "uint32": value,
            "bool": f"{value} ? 1 : 0", "string": f"arena.text({value})",
            "bytes": f"arena.bytes({value})", "message": f"{value}.packed(&arena)",
            "enum": f"{c_camel(f['target'])}(rawValue: unsigned({value}.rawValue))",
        }[kind]

    def decode_lines(self, f):
        name, source = f["name"], f"c.pointee.{f['c']}"
        if f["repeated"]:
            one = self.read(f, f"{source}[$0]")
            count = f"c.pointee.n_{f['c']}"
            return [f"    unsafe {name} = (0..<Int({count})).map {{ unsafe {one} }}"]
        if f["kind"] == "message":
            return [
                f"    if let part = unsafe {source} {{ unsafe {name} = {f['base']}(part) }}",
            ]
        if f["optional"]:
            return [
                f"    if unsafe c.pointee.has_{f['c']} != 0 {{"
                f" unsafe {name} = {self.read(f, source)} }}",
            ]
        return [f"    unsafe {name} = {self.read(f, source)}"]

    def encode_lines(self, f):
        name, target = f["name"], f"c.pointee.{f['c']}"
        if f["repeated"]:
            return [
                f"    unsafe c.pointee.n_{f['c']} = {name}.count",
                f"    unsafe {target} = arena.array(of: {name}.count)",
                f"    for i in {name}.indices {{"
                f" unsafe {target}[i] = {self.write(f, name + '[i]')} }}",
            ]
        if f["optional"]:
            lines = [f"    if let {name} {{"]
            if f["has"]:
                lines.append(f"      unsafe c.pointee.has_{f['c']} = 1")
            lines += [f"      unsafe {target} = {self.write(f, name)}", "    }"]
            return lines
        lines = [f"    unsafe c.pointee.has_{f['c']} = 1"] if f["has"] else []
        return lines + [f"    unsafe {target} = {self.write(f, name)}"]

    def enum_text(self, enum, indent):
        pad = "  " * indent
        lines = [
            f"{pad}public struct {enum_name(enum)}: RawRepresentable, Hashable, Sendable {{",
            f"{pad}  public var rawValue: Int32",
            f"{pad}  public init(rawValue: Int32) {{ self.rawValue = rawValue }}",
        ]
        for value in enum["value"]:
            case = enum_case(enum["name"], value["name"])
            lines.append(
                f"{pad}  public static let {case} = Self(rawValue: {value['number'] or 0})")
        return lines + [pad + "}"]

    def message_text(self, message):
        raw = message.raw
        fields = [self.field(message, f) for f in raw["field"]]
        oneofs = []
        for i, oneof in enumerate(raw["oneof"]):
            members = [f for f in fields if f["oneof"] == i]
            oneofs.append((camel(oneof["name"]), oneof["name"], members))
        plain = [f for f in fields if f["oneof"] is None]
        stored = [(f["name"], f["swift"], f["default"]) for f in plain]
        for name, _, _ in oneofs:
            stored.append((name, name[:1].upper() + name[1:] + "?", "nil"))

        head = [f"/// `{message.full}`", f"public struct {message.short}: Hashable, Sendable {{"]
        for enum in raw["enum"]:
            head += self.enum_text(enum, 1)
        for name, _, members in oneofs:
            head.append(f"  public enum {name[:1].upper() + name[1:]}: Hashable, Sendable {{")
            head += [f"    case {f['name']}({f['base']})" for f in members]
            head.append("  }")
        head += [f"  public var {name}: {kind} = {default}" for name, kind, default in stored]
        head.append("")
        head.append("  public init() {}")
        if stored:
            head.append("")
            params = [f"{n}: {k} = {d}" for n, k, d in stored]
            one = "  public init(" + ", ".join(params) + ") {"
            if len(one) <= 100:
                head.append(one)
            else:
                head.append("  public init(")
                head += [f"    {p}," for p in params[:-1]] + [f"    {params[-1]}", "  ) {"]
            head += [f"    self.{n} = {n}" for n, _, _ in stored]
            head.append("  }")
        head.append("}")

        index = self.index[message.full]
        body = [
            "",
            f"extension {message.swift} {{",
            f"  typealias C = {message.c}",
            "",
            "  public init(decoding bytes: RawSpan) throws(DecodeError) {",
            f"    let message = try UnpackedMessage.unpack(bytes, table: {index})",
            "    unsafe self.init(message.view(as: C.self))",
            "  }",
            "",
            "  public func encode(into bytes: inout [UInt8]) {",
            "    var arena = PackArena()",
            "    let message = unsafe packed(&arena)",
            "    unsafe arena.pack(message, into: &bytes)",
            "  }",
            "",
            "  init(_ c: UnsafePointer<C>) {",
        ]
        if not stored:
            body[-1] = "  init(_: UnsafePointer<C>) {"
        for f in plain:
            body += self.decode_lines(f)
        for name, c_name, members in oneofs:
            c_type = c_upper(message.full) + "__" + c_name.upper()
            body.append(f"    switch unsafe c.pointee.{c_name.lower()}_case {{")
            for f in members:
                constant = f"{c_type}_{f['c'].upper()}"
                source = f"c.pointee.{f['c']}"
                body.append(f"    case {constant}:")
                body.append(f"      unsafe {name} = .{f['name']}({self.read(f, source)})")
            body += ["    default: break", "    }"]
        body += [
            "  }",
            "",
            "  func packed(_ arena: inout PackArena) -> UnsafeMutablePointer<C> {",
            f"    let c = unsafe arena.message(table: {index}, as: C.self)",
        ]
        for f in plain:
            body += self.encode_lines(f)
        for name, c_name, members in oneofs:
            c_type = c_upper(message.full) + "__" + c_name.upper()
            body.append(f"    switch {name} {{")
            for f in members:
                constant = f"{c_type}_{f['c'].upper()}"
                body.append(f"    case .{f['name']}(let part):")
                body.append(f"      unsafe c.pointee.{c_name.lower()}_case = {constant}")
                body.append(f"      unsafe c.pointee.{f['c']} = {self.write(f, 'part')}")
            body += ["    case nil: break", "    }"]
        body += ["    return unsafe c", "  }", "}"]
        if message.namespace:
            head = [f"extension {message.namespace} {{"] + ["  " + l if l else l for l in head]
            head.append("}")
        return head + body

    # rpc.proto is large: its messages go to the file of the first service that needs them.
    def groups(self):
        groups = {}
        for file in self.files:
            name = os.path.splitext(os.path.basename(file["name"]))[0]
            title = "".join(w.capitalize() for w in name.split("_"))
            placed = {}
            for service in file["service"] if name == "rpc" else []:
                queue = [t[1:] for m in service["method"] for t in (m["input"], m["output"])]
                while queue:
                    full = queue.pop()
                    message = self.messages[full]
                    if message.file is not file or full in placed:
                        continue
                    if message.name != "ResponseHeader":
                        placed[full] = service["name"]
                    queue += [f["type_name"][1:] for f in message.raw["field"] if f["type"] == 11]
            for raw in file["message"]:
                service = placed.get(f"{file['package']}.{raw['name']}")
                groups.setdefault(f"{title}+{service}" if service else title, (file, [], []))
                groups[f"{title}+{service}" if service else title][1].append(
                    self.messages[f"{file['package']}.{raw['name']}"])
            if file["enum"]:
                groups.setdefault(title, (file, [], []))[2].extend(file["enum"])
        return groups

    def write_swift(self, folder):
        seen = set()
        for title, (file, messages, enums) in sorted(self.groups().items()):
            blocks = []
            space = NAMESPACES[file["package"]]
            if space and space not in seen:
                seen.add(space)
                blocks.append([f"/// Package `{file['package']}`.", f"public enum {space} {{}}"])
            for enum in enums:
                lines = self.enum_text(enum, 1 if space else 0)
                blocks.append([f"extension {space} {{", *lines, "}"] if space else lines)
            blocks += [self.message_text(m) for m in messages]
            blocks = [[w for line in block for w in wrap(line)] for block in blocks]
            # Two messages of a group may be large together: a file ends before 800 lines.
            parts, size = [[]], 0
            for block in blocks:
                if size + len(block) > 740:
                    parts.append([])
                    size = 0
                parts[-1].append(block)
                size += len(block) + 1
            for i, part in enumerate(parts):
                suffix = f"{i + 1}" if len(parts) > 1 else ""
                text = f"// Generated by scripts/protos from Protos/{file['name']}. Do not edit.\n"
                text += "// swift-format-ignore-file\n"
                text += "internal import CEtcdProtos\n\n"
                text += "\n\n".join("\n".join(b) for b in part) + "\n"
                with open(os.path.join(folder, f"{title}{suffix}.swift"), "w") as out:
                    out.write(text)

    def write_c(self, folder):
        note = "/* Generated by scripts/protos. Do not edit. */\n"
        headers = [os.path.splitext(f["name"])[0] + ".pb-c.h" for f in self.files]
        with open(os.path.join(folder, "include", "CEtcdProtos.h"), "w") as out:
            out.write(note + "#ifndef CETCDPROTOS_H\n#define CETCDPROTOS_H\n")
            out.write("".join(f'#include "{h}"\n' for h in headers))
            out.write(
                "\n/* The messages of all packages, by full name in bytewise order. */\n"
                "extern const size_t martlet_messages_count;\n"
                "const ProtobufCMessageDescriptor *martlet_message(size_t index);\n"
                "#endif\n")
        with open(os.path.join(folder, "include", "module.modulemap"), "w") as out:
            out.write('module CEtcdProtos {\n  header "CEtcdProtos.h"\n  export *\n}\n')
        with open(os.path.join(folder, "messages.c"), "w") as out:
            out.write(note + '#include "CEtcdProtos.h"\n\n')
            out.write("static const ProtobufCMessageDescriptor *const messages[] = {\n")
            out.write("".join(f"  &{c_lower(full)}__descriptor,\n" for full in self.order))
            out.write(
                "};\n\nconst size_t martlet_messages_count ="
                " sizeof(messages) / sizeof(messages[0]);\n\n"
                "const ProtobufCMessageDescriptor *martlet_message(size_t index) {\n"
                "  return index < martlet_messages_count ? messages[index] : NULL;\n}\n")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--set", required=True)
    options.add_argument("--c", required=True)
    options.add_argument("--swift", required=True)
    options = options.parse_args()
    with open(options.set, "rb") as source:
        files = parse(source.read(), "set")["file"]
    generator = Generator(files)
    generator.write_c(options.c)
    generator.write_swift(options.swift)


main()
