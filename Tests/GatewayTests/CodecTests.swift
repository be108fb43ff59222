import API
import Basics
import Gateway
import Services
import Testing

@Suite struct CodecTests {
  @Test func `a response is written as etcd's gateway writes it`() throws {
    let header = ResponseHeader(clusterID: 7, memberID: .max, revision: 2, raftTerm: 3)
    let kv = KeyValue(
      key: bytes("foo"), createRevision: 2, modRevision: 2, version: 1, value: bytes("<bar>"),
      lease: -1)
    let response = RangeResponse(header: header, kvs: [kv, KeyValue()], more: true, count: 2)
    #expect(
      try json(encoded { response.encode(into: &$0) }, as: "etcdserverpb.RangeResponse") == """
        {"header":{"cluster_id":"7","member_id":"18446744073709551615","revision":"2",\
        "raft_term":"3"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2",\
        "version":"1","value":"PGJhcj4=","lease":"-1"},{}],"more":true,"count":"2"}
        """)
  }

  @Test func `text is escaped as Go escapes it, enums have their names`() throws {
    let alarm = AlarmResponse(
      header: nil, alarms: [AlarmMember(memberID: 1, alarm: .init(rawValue: 1))])
    #expect(
      try json(encoded { alarm.encode(into: &$0) }, as: "etcdserverpb.AlarmResponse")
        == #"{"alarms":[{"memberID":"1","alarm":"NOSPACE"}]}"#)
    var status: [UInt8] = []
    let version = bytes("a<b\"\n\u{1}é")
    status.appendMessage(2, version.rawSpan)
    #expect(
      try json(status, as: "etcdserverpb.StatusResponse")
        == #"{"version":"a\u003cb\"\n\u0001é"}"#)
    var unknown: [UInt8] = []
    unknown.appendAlways(1, 77)
    #expect(try json(unknown, as: "mvccpb.Event") == #"{"type":77}"#)
  }

  @Test func `a member of a union is written even when it is empty`() throws {
    let txn = TxnResponse(
      header: nil, succeeded: false,
      responses: [ResponseOp(response: .responsePut(PutResponse(header: nil, prevKV: nil)))])
    #expect(
      try json(encoded { txn.encode(into: &$0) }, as: "etcdserverpb.TxnResponse")
        == #"{"responses":[{"response_put":{}}]}"#)
  }

  @Test func `fields that come out of order, in pieces or twice are merged`() throws {
    var kv: [UInt8] = []
    kv.appendField(4, 1 as Int64)
    let b = bytes("b")
    kv.appendMessage(1, b.rawSpan)
    kv.appendField(4, 2 as Int64)
    kv.appendAlways(99, 5)
    #expect(try json(kv, as: "mvccpb.KeyValue") == #"{"key":"Yg==","version":"2"}"#)
    var event: [UInt8] = []
    var first: [UInt8] = []
    first.appendField(4, 1 as Int64)
    var second: [UInt8] = []
    let k = bytes("k")
    second.appendMessage(1, k.rawSpan)
    event.appendMessage(2, first.rawSpan)
    event.appendMessage(2, second.rawSpan)
    #expect(try json(event, as: "mvccpb.Event") == #"{"kv":{"key":"aw==","version":"1"}}"#)
  }

  @Test func `requests are read by either name, numbers with or without quotes`() throws {
    let expected = encoded {
      RangeRequest(
        key: bytes("foo"), rangeEnd: bytes("fop"), limit: 5, revision: -1, sortOrder: .descend,
        sortTarget: .mod, serializable: true
      ).encode(into: &$0)
    }
    #expect(
      try wire(
        #"{"key":"Zm9v","rangeEnd":"Zm9w","limit":"5","revision":-1,"sort_order":"DESCEND","#
          + #""sortTarget":3,"serializable":true,"nothing":{"x":[1,null]}}"#,
        as: "etcdserverpb.RangeRequest") == expected)
    #expect(
      try wire(
        #" { "key":"Zm9v","range_end":"Zm9w","limit":5,"revision":"-1","sortOrder":"2" ,"#
          .replacing(#""sortOrder":"2""#, with: #""sortOrder":2"#)
          + #""sort_target":"MOD","serializable":true,"key":"Zm9v"} trailing"#,
        as: "etcdserverpb.RangeRequest") == expected)
  }

  @Test func `the comparison that Patroni leaves the result out of means equal`() throws {
    let expected = TxnRequest(
      compare: [
        Compare(target: .create, key: bytes("k"), targetUnion: .createRevision(0)),
        Compare(target: .value, key: bytes("k"), targetUnion: .value(bytes("v"))),
      ],
      success: [RequestOp(request: .requestPut(PutRequest(key: bytes("k"), lease: 9)))],
      failure: [
        RequestOp(
          request: .requestTxn(
            TxnRequest(
              compare: [],
              success: [
                RequestOp(request: .requestDeleteRange(DeleteRangeRequest(key: bytes("k"))))
              ], failure: [])))
      ])
    let request = #"""
      {"compare":[{"key":"aw==","target":"CREATE","create_revision":"0"},
      {"key":"aw==","target":"VALUE","value":"dg=="}],
      "success":[{"request_put":{"key":"aw==","lease":"9"}}],
      "failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"aw=="}}]}}]}
      """#
    #expect(
      try wire(request, as: "etcdserverpb.TxnRequest") == encoded { expected.encode(into: &$0) })
  }

  @Test func `of a union the last member counts, null is as if absent`() throws {
    let both = #"{"compare":[{"version":"1","mod_revision":"2","lease":null}]}"#
    let one = #"{"compare":[{"mod_revision":2}]}"#
    #expect(
      try wire(both, as: "etcdserverpb.TxnRequest")
        == wire(one, as: "etcdserverpb.TxnRequest"))
    #expect(try wire("null", as: "etcdserverpb.TxnRequest") == [])
    #expect(try wire("  ", as: "etcdserverpb.TxnRequest") == [])
  }

  @Test(arguments: [
    ("Zm9vYg==", "foob"), ("Zm9vYg", "foob"), ("_-8=", "\u{FFFF}"), ("Zm9v\n", "foo"), ("", ""),
    ("YQ==", "a"), ("YWI=", "ab"),
  ])
  func `bytes are taken in either alphabet, padded or not`(input: String, expected: String) throws {
    let got = try wire(
      #"{"key":"\#(input.replacing("\n", with: "\\n"))"}"#, as: "mvccpb.KeyValue")
    var kv: [UInt8] = []
    let key = input == "_-8=" ? [0xff, 0xef] : bytes(expected)
    kv.appendField(1, key.rawSpan)
    #expect(got == kv)
  }

  @Test(arguments: [
    (#"{"key":"Zm9v""#, "unexpected EOF"),
    ("hello", "invalid character 'h' looking for beginning of value"),
    (#"{"key":5}"#, "json: cannot unmarshal number into Go value of type []uint8"),
    (#"{"key":"Zm=v"}"#, "illegal base64 data at input byte 3"),
    (#"{"key":"Zm9vY"}"#, "illegal base64 data at input byte 5"),
    (#"{"limit":"x"}"#, "invalid character 'x' looking for beginning of value"),
    (#"{"limit":""}"#, "unexpected end of JSON input"),
    (#"{"limit":1.5}"#, "json: cannot unmarshal number 1.5 into Go value of type int64"),
    (
      #"{"limit":9223372036854775808}"#,
      "json: cannot unmarshal number 9223372036854775808 into Go value of type int64"
    ),
    (#"{"serializable":"true"}"#, "json: cannot unmarshal string into Go value of type bool"),
    (
      #"{"sort_order":"FOO"}"#,
      #"unknown value "\"FOO\"" for enum etcdserverpb.RangeRequest.SortOrder"#
    ),
    ("[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
    (#"{"key" "x"}"#, "invalid character '\"' after object key"),
    (#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
    (#"{a:1}"#, "invalid character 'a' looking for beginning of object key string"),
    (#"{"a":[1 2]}"#, "invalid character '2' after array element"),
    (#"{"a":tru3}"#, "invalid character '3' in literal true (expecting 'e')"),
    (#"{"a":01}"#, "invalid character '1' after object key:value pair"),
    (#"{"a":-x}"#, "invalid character 'x' in numeric literal"),
    (#"{"a":"\q"}"#, "invalid character 'q' in string escape code"),
    ("{\"a\":\"\u{1}\"}", "invalid character '\\x01' in string literal"),
  ])
  func `a bad request is told what is wrong in etcd's words`(input: String, expected: String) {
    #expect(throws: BadRequest(saying: expected)) {
      try wire(input, as: "etcdserverpb.RangeRequest")
    }
  }

  @Test func `every route's messages exist and every path of etcd's has a route`() {
    #expect(Route.paths.count == 51)
    for path in Route.paths {
      let route = Route(path: "/v3/" + path)
      #expect(route.flatMap { MessageShape(named: $0.request) } != nil, "\(path)")
      #expect(route.flatMap { MessageShape(named: $0.response) } != nil, "\(path)")
      #expect(Route(path: "/v3beta/" + path)?.method == route?.method)
    }
    #expect(Route(path: "/v3/kv/nothing") == nil)
    #expect(Route(path: "/v3alpha/kv/range") == nil)
    #expect(Route(path: "/v3/election/observe")?.response == "v3electionpb.LeaderResponse")
    #expect(Route(path: "/v3/kv/lease/leases")?.method == Method.leaseLeases)
  }
}
