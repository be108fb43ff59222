internal import Basics

/// Cuts the body of a streaming request into JSON documents as its pieces come: they follow each
/// other with blanks between them or none.
public struct Documents: Sendable {
  private var bytes: [UInt8] = []
  /// Where the document at hand begins; what lies before it was handed out.
  private var start = 0
  /// Up to here `bytes` was looked through.
  private var scanned = 0
  private var depth = 0
  private var isInString = false
  private var isEscaped = false
  private let bytesMax: Int

  /// `bytesMax` bounds a document that has not come whole.
  public init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Bytes of a document that is not whole.
  public var heldBytes: Int { bytes.count - start }

  public mutating func receive(_ piece: RawSpan) {
    bytes.removeFirst(start)
    scanned -= start
    start = 0
    bytes.append(contentsOf: piece)
  }

  /// The next document. Nil: more bytes are needed. At the end of the body, `isLast`, what is left
  /// is a document too, whole or not; blanks alone are none.
  public mutating func next(isLast: Bool) throws(BadRequest) -> [UInt8]? {
    if depth == 0, scanned == start { dropBlanks() }
    while scanned < bytes.count {
      let byte = bytes[scanned]
      scanned += 1
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == 0x5c {
          isEscaped = true
        } else if byte == 0x22 {
          isInString = false
          if depth == 0 { return take() }
        }
        continue
      }
      switch byte {
      case 0x22: isInString = true
      case 0x7b, 0x5b: depth += 1
      case 0x7d, 0x5d:
        depth -= 1
        if depth <= 0 { return take() }
      // A number or a word ends before what cannot belong to it.
      case 0x20, 0x09, 0x0a, 0x0d: if depth == 0 { return take() }
      default: break
      }
    }
    guard heldBytes <= bytesMax else { throw BadRequest(saying: "the document is too large") }
    return isLast && heldBytes > 0 ? take() : nil
  }

  private mutating func dropBlanks() {
    let blanks = bytes[start...].prefix { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a || $0 == 0x0d }
    start += blanks.count
    scanned = start
  }

  private mutating func take() -> [UInt8] {
    let document = [UInt8](bytes[start..<scanned])
    start = scanned
    depth = 0
    isInString = false
    isEscaped = false
    return document
  }
}
