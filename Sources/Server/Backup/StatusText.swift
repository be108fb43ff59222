/// A snapshot's status in etcdutl's formats. etcd: etcdutl/printer.go.
enum StatusText {
  static func text(_ status: SnapshotStatus, _ format: String) -> String {
    let cells = [
      String(status.hash, radix: 16), String(status.revision), String(status.rows),
      size(status.bytes),
    ]
    switch format {
    case "json":
      return "{\"hash\":\(status.hash),\"revision\":\(status.revision),"
        + "\"totalKey\":\(status.rows),\"totalSize\":\(status.bytes)}\n"
    case "fields":
      return "\"Hash\" : \(status.hash)\n\"Revision\" : \(status.revision)\n"
        + "\"Keys\" : \(status.rows)\n\"Size\" : \(status.bytes)\n"
    case "table": return table(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], cells)
    default: return cells.joined(separator: ", ") + "\n"
    }
  }

  /// Headers in the middle, cells on the right.
  static func table(_ headers: [String], _ cells: [String]) -> String {
    func blanks(_ count: Int) -> String { String(repeating: " ", count: count) }
    let widths = zip(headers, cells).map { max($0.count, $1.count) }
    let rule = "+" + widths.map { String(repeating: "-", count: $0 + 2) + "+" }.joined() + "\n"
    var head = "|"
    var row = "|"
    for (at, width) in widths.enumerated() {
      let room = width - headers[at].count
      head += " " + blanks(room / 2) + headers[at] + blanks(room - room / 2) + " |"
      row += " " + blanks(width - cells[at].count) + cells[at] + " |"
    }
    return rule + head + "\n" + rule + row + "\n" + rule
  }

  /// Go's humanize.Bytes: thousands, two digits.
  static func size(_ bytes: Int) -> String {
    guard bytes >= 10 else { return "\(bytes) B" }
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1000, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    let tenths = Int((value * 10 + 0.5).rounded(.down))
    return tenths >= 100
      ? "\(Int((Double(tenths) / 10).rounded(.toNearestOrEven))) \(units[unit])"
      : "\(tenths / 10).\(tenths % 10) \(units[unit])"
  }
}
