internal import Basics
internal import Gateway
internal import HTTP1
internal import HTTP2

/// What of the settings concerns requests without gRPC.
struct WebSettings: Sendable {
  var access: Access
  var hasGateway: Bool
  var wantsProfiler: Bool
  /// A request's body, or one document of a stream of them.
  var bodyBytesMax: Int
}

/// An answer to a request without gRPC, whole.
struct WebAnswer: Sendable {
  var status: Int
  /// Empty: no such field.
  var contentType: String
  var headers: [(name: String, value: String)] = []
  var body: [UInt8]

  init(_ status: Int, _ contentType: String, _ body: [UInt8]) {
    self.status = status
    self.contentType = contentType
    self.body = body
  }

  static func json(_ status: Int, _ body: [UInt8]) -> WebAnswer {
    WebAnswer(status, "application/json", body)
  }

  /// A text as Go's `http.Error` answers it.
  static func error(_ status: Int, _ text: String) -> WebAnswer {
    var answer = WebAnswer(status, "text/plain; charset=utf-8", Array("\(text)\n".utf8))
    answer.headers = [("X-Content-Type-Options", "nosniff")]
    return answer
  }

  /// The refusal of a method other than GET.
  static let onlyGET: WebAnswer = {
    var answer = error(405, "Method Not Allowed")
    answer.headers.insert(("Allow", "GET"), at: 0)
    return answer
  }()
}

/// A request without gRPC over either version of HTTP, until its answer is complete: what is to
/// be done with it, and what of its body has come. A class, since a call may go through several
/// numbers.
final class WebCall {
  enum Task {
    /// Answered as soon as the request has come whole.
    case answer(WebAnswer)
    case unary(Route)
    case stream(Route)
    case probe(HealthProbe)
  }

  let request: Request
  var task: Task
  /// Where the request came from: its stream of HTTP/2.
  let place: Session.StreamPlace?
  /// CORS fields, for any answer.
  var fields: [(name: String, value: String)] = []
  var body: [UInt8] = []
  var documents: Documents
  /// What of `heldBytes` is counted against the connection's limit.
  var countedBytes = 0
  /// Its messages go over a websocket.
  var isWebSocket = false
  /// The services know of the call.
  var isOpen = false
  /// No more of the body is wanted.
  var isSatisfied = false
  /// The head of a streamed answer is out.
  var hasBegun = false

  init(_ request: Request, _ task: Task, _ place: Session.StreamPlace?, bodyBytesMax: Int) {
    self.request = request
    self.task = task
    self.place = place
    documents = Documents(bytesMax: bodyBytesMax)
    headBytes = request.headers.reduce(request.path.utf8.count) {
      $0 + $1.name.utf8.count + $1.value.utf8.count
    }
  }

  private let headBytes: Int

  /// Bytes that it keeps: the head, and what has come of the body and is not used up.
  var heldBytes: Int { headBytes + body.count + documents.heldBytes }

  /// A field that grpc-gateway hands on to the call under `name`.
  func metadata(_ name: String) -> String? { request.header("grpc-metadata-\(name)") }
}
