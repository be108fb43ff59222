internal import Platform

/// The commands that work on files while no server runs: `martlet snapshot …`, `martlet export`,
/// and what etcdutl has of them when the program is called by that name.
public enum BackupCommand {
  /// etcd: pkg/cobrautl.
  private enum Status {
    static let failure: Int32 = 1
    static let badFeature: Int32 = 4
    static let interrupted: Int32 = 5
    static let badArguments: Int32 = 128
  }

  /// Carries out the command line when it is one of these, and returns the exit status; nil when
  /// it is for the server.
  public static func run(program: String, arguments: [String]) -> Int32? {
    let name = program.split(separator: "/").last.map(String.init) ?? program
    let isUtility = name == "etcdutl"
    let commands = ["snapshot", "export", "hashkv", "defrag"]
    guard isUtility || commands.contains(arguments.first ?? "") else { return nil }
    var line = Words(arguments)
    switch line.next() {
    case "snapshot": return snapshot(&line, isUtility ? "etcdutl" : "martlet")
    case "export" where !isUtility: return export(&line)
    case "hashkv": return hash(&line)
    case "defrag": return defragment(&line)
    case "version":
      Console.write("etcdutl version: \(Server.etcdVersion)\nAPI version: 3.5\n")
      return 0
    case .some(let word) where isUtility && ["backup", "migrate"].contains(word):
      return fail(
        "\(word) is for etcd's own data directories: \"martlet export\" makes one",
        Status.failure)
    case nil, "help", "-h", "--help":
      Console.write(usage(name))
      return 0
    case .some(let word):
      return fail(
        "unknown command \"\(word)\" for \"\(name)\"\nRun '\(name) --help' for usage.",
        Status.failure)
    }
  }

  private static func fail(_ text: String, _ status: Int32) -> Int32 {
    Console.write("Error: \(text)\n", toError: true)
    return status
  }

  private static func snapshot(_ line: inout Words, _ program: String) -> Int32 {
    switch line.next() {
    case "status": return status(&line)
    case "restore": return restore(&line)
    case "save" where program == "etcdutl":
      return fail(
        "In order to download snapshot use: `etcdctl snapshot save ...`", Status.badArguments)
    case "save": return save(&line)
    default:
      Console.write(usage(program))
      return 0
    }
  }

  // MARK: status

  private static func status(_ line: inout Words) -> Int32 {
    do throws(Words.Refusal) {
      try line.parse(flags: ["write-out"], switches: [])
    } catch {
      return fail(error.text, Status.failure)
    }
    guard line.plain.count == 1 else {
      return fail("snapshot status requires exactly one argument", Status.badArguments)
    }
    let format = line["write-out"] ?? "simple"
    guard ["simple", "table", "json", "fields"].contains(format) else {
      return fail("unsupported output format", Status.badFeature)
    }
    let progress = Progress("reading \(line.plain[0])")
    do throws(BackupError) {
      let status = try SnapshotStatus.read(line.plain[0]) { done, size in
        progress.show(size > 0 ? min(100, done * 100 / size) : 100)
      }
      progress.end()
      Console.write(StatusText.text(status, format))
      return 0
    } catch {
      return fail(error.text, Status.failure)
    }
  }

  // MARK: save

  private static func save(_ line: inout Words) -> Int32 {
    let names = ClientOptions.flags.union(ClientOptions.switches)
    do throws(Words.Refusal) {
      try line.parse(flags: ClientOptions.flags, switches: ClientOptions.switches)
      let unknown = try line.complete(
        names, from: Console.environment(), prefix: "ETCDCTL_")
      // Scripts for several versions of etcdctl set that one.
      for name in unknown where name != "ETCDCTL_API" {
        Console.write("unrecognized environment variable \(name)\n", toError: true)
      }
    } catch {
      return fail(error.text, Status.failure)
    }
    guard line.plain.count == 1 else {
      return fail("snapshot save expects one argument", Status.badArguments)
    }
    let server: ClientOptions
    do throws(Words.Refusal) {
      server = try ClientOptions(line)
    } catch {
      return fail(error.text, Status.badArguments)
    }
    do throws(BackupError) {
      try Save(server: server, path: line.plain[0]).run()
      Console.write("Snapshot saved at \(line.plain[0])\n")
      return 0
    } catch {
      return fail(error.text, Status.interrupted)
    }
  }

  // MARK: restore

  private static func restore(_ line: inout Words) -> Int32 {
    do throws(Words.Refusal) {
      try line.parse(
        flags: [
          "data-dir", "wal-dir", "initial-cluster", "initial-cluster-token",
          "initial-advertise-peer-urls", "name", "bump-revision", "initial-memory-map-size",
          "write-out",
        ], switches: ["skip-hash-check", "mark-compacted"])
    } catch {
      return fail(error.text, Status.failure)
    }
    guard line.plain.count == 1 else {
      return fail("snapshot restore requires exactly one argument", Status.badArguments)
    }
    var restore = Restore()
    restore.snapshot = line.plain[0]
    if let name = line["name"] { restore.name = name }
    restore.dataDirectory = line["data-dir"] ?? restore.name + ".etcd"
    restore.walDirectory = line["wal-dir"] ?? ""
    if let text = line["initial-cluster"] { restore.initialCluster = text }
    if let text = line["initial-cluster-token"] { restore.token = text }
    if let text = line["initial-advertise-peer-urls"] {
      restore.peerURLs = text.split(separator: ",", omittingEmptySubsequences: false)
        .map(String.init)
    }
    restore.skipsHashCheck = line.isOn("skip-hash-check")
    let bump = line["bump-revision"] ?? "0"
    guard let amount = UInt64(bump), amount <= UInt64(Int64.max) else {
      return fail(
        "invalid argument \"\(bump)\" for \"--bump-revision\" flag: it is no number",
        Status.failure)
    }
    guard (amount > 0) == line.isOn("mark-compacted") else {
      return fail("--mark-compacted required if --revision-bump > 0", Status.badArguments)
    }
    restore.revisionBump = amount
    do throws(BackupError) {
      try restore.run()
      Console.write(
        "restored \(restore.snapshot) to \(restore.dataDirectory)\n", toError: true)
      return 0
    } catch {
      return fail(error.text, Status.failure)
    }
  }

  // MARK: hashkv, defrag

  private static func hash(_ line: inout Words) -> Int32 {
    do throws(Words.Refusal) {
      try line.parse(flags: ["rev", "write-out"], switches: [])
    } catch {
      return fail(error.text, Status.failure)
    }
    guard line.plain.count == 1 else {
      return fail("accepts 1 arg(s), received \(line.plain.count)", Status.failure)
    }
    guard let revision = Int64(line["rev"] ?? "0"), revision >= 0 else {
      return fail("invalid argument \"\(line["rev"] ?? "")\" for \"--rev\" flag", Status.failure)
    }
    let format = line["write-out"] ?? "simple"
    guard ["simple", "table", "json", "fields"].contains(format) else {
      return fail("unsupported output format", Status.badFeature)
    }
    do throws(BackupError) {
      Console.write(try HistoryHash.read(line.plain[0], revision: revision).text(format))
      return 0
    } catch {
      return fail(error.text, Status.failure)
    }
  }

  private static func defragment(_ line: inout Words) -> Int32 {
    do throws(Words.Refusal) {
      try line.parse(flags: ["data-dir", "write-out"], switches: [])
    } catch {
      return fail(error.text, Status.failure)
    }
    guard let directory = line["data-dir"], line.plain.isEmpty else {
      return fail("defrag requires --data-dir and no argument", Status.badArguments)
    }
    do throws(BackupError) {
      let sizes = try StoppedStore(dataDirectory: directory).defragment()
      Console.write(
        "Finished defragmenting directory \(directory): \(StatusText.size(sizes.before)) before, "
          + "\(StatusText.size(sizes.after)) now\n")
      return 0
    } catch {
      return fail(error.text, Status.failure)
    }
  }

  // MARK: export

  private static func export(_ line: inout Words) -> Int32 {
    do throws(Words.Refusal) {
      try line.parse(flags: ["wal-dir"], switches: [])
    } catch {
      return fail(error.text, Status.failure)
    }
    guard line.plain.count == 2 else {
      return fail("export requires a data directory and a new directory", Status.badArguments)
    }
    do throws(BackupError) {
      try Export(
        dataDirectory: line.plain[0], walDirectory: line["wal-dir"] ?? "", target: line.plain[1]
      ).run()
      Console.write("exported \(line.plain[0]) to \(line.plain[1])\n", toError: true)
      return 0
    } catch {
      return fail(error.text, Status.failure)
    }
  }

  private static func usage(_ program: String) -> String {
    var text = """
      Usage:
        \(program) snapshot status <filename> [-w simple|fields|json|table]
          Prints hash, revision, number of rows and size of a snapshot.

        \(program) snapshot restore <filename> --data-dir <new directory> [flags]
          Makes a data directory from a snapshot. Flags: --name, --initial-cluster,
          --initial-cluster-token, --initial-advertise-peer-urls, --wal-dir, --skip-hash-check,
          --bump-revision with --mark-compacted.

        \(program) hashkv <snapshot or data directory> [--rev <revision>] [-w …]
          Prints the hash of the keys' history, as etcdctl endpoint hashkv does.

        \(program) defrag --data-dir <directory>
          Gives the free space of a stopped server's store back.

      """
    if program != "etcdutl" {
      text += """

          martlet snapshot save <filename> [flags]
            Fetches a snapshot from a running server. Flags, and variables ETCDCTL_…, as
            etcdctl's: --endpoints, --cacert, --cert, --key, --insecure-skip-tls-verify,
            --insecure-transport, --user, --password, --dial-timeout, --command-timeout.

          martlet export <data directory> <new directory> [--wal-dir <directory>]
            Makes a data directory for etcd from that of a stopped Martlet.

        """
    }
    return text
  }
}
