import Foundation
import Testing

/// Reads the source tree as text and holds it against the rules of the house.
@Suite struct TidyTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// A source file: its path from the root, its module and its lines.
  struct Source: Sendable {
    var path: String
    var module: String
    var lines: [String]
    var isGenerated: Bool { path.contains("/Generated/") }
  }

  static let sources: [Source] = {
    let folder = root.appendingPathComponent("Sources")
    let found = FileManager.default.enumerator(atPath: folder.path)?.allObjects as? [String] ?? []
    return found.filter { $0.hasSuffix(".swift") }.sorted().map { path in
      let text = try? String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)
      return Source(
        path: path, module: String(path.prefix { $0 != "/" }),
        lines: (text ?? "").components(separatedBy: "\n"))
    }
  }()

  /// The `layers` table of Package.swift.
  static let layers: [String: Set<String>] = {
    let manifest = try? String(
      contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
    let table = (manifest ?? "").components(separatedBy: "\n]")[0]
    var layers: [String: Set<String>] = [:]
    let row = /\(\s*"(\w+)",\s*\[([^\]]*)\]/
    for match in table.matches(of: row) {
      layers[String(match.1)] = Set(match.2.matches(of: /"(\w+)"/).map { String($0.1) })
    }
    return layers
  }()

  static let pure: Set<String> = [
    "Basics", "Raft", "WAL", "MVCC", "Bolt", "Lease", "Auth", "GRPC", "HTTP1", "Peers",
    "Membership", "Replica", "Services", "Gateway",
  ]

  @Test func `the layer table was read`() {
    #expect(Self.layers["Basics"] != nil)
    #expect(Self.sources.count > 3)
  }

  @Test func `a module imports only what the layer table grants it`() {
    let system: Set<String> = ["Glibc", "Synchronization"]
    for source in Self.sources {
      guard let granted = Self.layers[source.module] else { continue }
      for line in source.lines {
        guard let match = line.firstMatch(of: /^(?:\w+ )?import (\w+)/) else { continue }
        let name = String(match.1)
        let allowed =
          granted.contains(name) || (system.contains(name) && !Self.pure.contains(source.module))
        #expect(allowed, "\(source.path) imports \(name)")
      }
    }
  }

  @Test func `imports stand in order, each once`() {
    for source in Self.sources where !source.isGenerated {
      let names = source.lines.compactMap {
        ($0.firstMatch(of: /^(?:\w+ )?import (\w+)$/)?.1).map(String.init)
      }
      #expect(names == Set(names).sorted(), "Sources/\(source.path)")
    }
  }

  @Test func `pure modules know no clock, thread, lock, file or chance`() {
    let banned = [
      "import Glibc", "import Foundation", "import Dispatch", "import Synchronization",
      ".random(", "Clock()", " Task {", "SystemRandomNumberGenerator", ": any ", "[any ",
    ]
    for source in Self.sources where Self.pure.contains(source.module) {
      for (number, line) in source.lines.enumerated() where !line.contains("//") {
        for word in banned where line.contains(word) {
          Issue.record("Sources/\(source.path):\(number + 1) has '\(word)'")
        }
      }
    }
  }

  @Test func `every thread stands in the architecture's table`() throws {
    let page = try String(
      contentsOf: Self.root.appendingPathComponent("docs/architecture.md"), encoding: .utf8)
    let table = page.components(separatedBy: "## Threads")[1].components(separatedBy: "\n## ")[0]
    let rows = table.components(separatedBy: "\n").compactMap { line in
      line.hasPrefix("| ") ? line.components(separatedBy: " | ")[0] : nil
    }
    for source in Self.sources {
      for line in source.lines {
        guard let match = line.firstMatch(of: /Thread\.(?:start|detach)\("([a-z]+(?:-[a-z]+)*)/)
        else {
          continue
        }
        #expect(
          rows.contains { $0.contains(match.1) }, "Sources/\(source.path) starts \(match.1)")
        #expect(
          !line.contains("_ = Thread.start"), "Sources/\(source.path): nobody joins \(match.1)")
      }
    }
  }

  @Test func `files stay under 800 lines`() {
    for source in Self.sources where !source.isGenerated {
      #expect(source.lines.count <= 800, "Sources/\(source.path)")
    }
  }

  @Test func `functions stay under 70 lines`() {
    for source in Self.sources where !source.isGenerated {
      var start: (line: Int, indent: Int)?
      for (number, line) in source.lines.enumerated() {
        let indent = line.prefix { $0 == " " }.count
        if let open = start, indent == open.indent, line.dropFirst(indent).hasPrefix("}") {
          let length = number - open.line + 1
          #expect(length <= 70, "Sources/\(source.path):\(open.line + 1) has \(length) lines")
          start = nil
        } else if start == nil, line.contains(/\b(func|init)\b.*[({]/),
          !line.contains("//"), !line.hasSuffix("}")
        {
          start = (number, indent)
        }
      }
    }
  }

  @Test func `unchecked sendability comes with its proof and stays rare`() {
    var count = 0
    for source in Self.sources {
      for (number, line) in source.lines.enumerated() where line.contains("@unchecked Sendable") {
        count += 1
        let before = source.lines[max(0, number - 8)..<number]
        #expect(
          before.contains { $0.contains("//") },
          "Sources/\(source.path):\(number + 1) says not why it may be shared")
      }
    }
    #expect(count <= 12)
  }
}
