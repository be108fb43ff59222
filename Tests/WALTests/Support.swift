import Basics
import Raft
import Simulator
import Testing
import WAL

let directory = "/data/wal"
let firstFile = "/data/wal/0000000000000000-0000000000000000.wal"

/// Where the first record behind the beginning of a log goes.
let headBytes = 64

func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

func hex(_ text: String) -> [UInt8] {
  let digits = Array(text)
  return stride(from: 0, to: digits.count, by: 2).map {
    UInt8(String(digits[$0...$0 + 1]), radix: 16)!
  }
}

func entry(_ index: UInt64, _ term: UInt64 = 1, _ text: String = "x") -> Entry {
  Entry(term: Term(term), index: LogIndex(index), kind: .normal, data: bytes(text))
}

func entries(_ range: ClosedRange<UInt64>, _ term: UInt64 = 1) -> [Entry] {
  range.map { entry($0, term, "entry \($0) of term \(term)") }
}

func state(_ term: UInt64, _ commit: UInt64) -> HardState {
  HardState(term: Term(term), vote: NodeID(7), commit: LogIndex(commit))
}

func marker(_ index: UInt64, _ term: UInt64 = 1) -> SnapshotMarker {
  SnapshotMarker(index: LogIndex(index), term: Term(term))
}

/// A disk with the directory that a log goes into.
func disk() throws -> FaultyDisk {
  let disk = FaultyDisk()
  try disk.makeDirectory("/data")
  try disk.syncDirectory("/")
  return disk
}

func create(_ disk: FaultyDisk, segmentBytes: Int = 1 << 20) throws -> Log<FaultyDisk> {
  var log = try Log.create(disk, directory: directory, metadata: bytes("whose"))
  log.segmentBytes = segmentBytes
  log.zeroBytes = 2048
  return log
}

func open(
  _ disk: FaultyDisk, _ recovered: inout Recovered, at start: SnapshotMarker
) throws(WALError) -> Log<FaultyDisk> {
  var log = try Log.open(disk, directory: directory, recovered: &recovered) {
    (_: [UInt8], _: [SnapshotMarker]) throws(DiskError) in start
  }
  log.zeroBytes = 2048
  return log
}

/// What a log on the disk gives; closes it again.
func recover(_ disk: FaultyDisk, at start: SnapshotMarker = .none) throws(WALError) -> Recovered {
  var recovered = Recovered()
  _ = try open(disk, &recovered, at: start)
  return recovered
}

/// The file of a log that etcd 3.5.1 wrote, up to its eighth record.
let written351 = hex(
  "040000000000008408041000000000001e00000000000082080110c6ed82fa0d1a1408ade8b2c5cc"
    + "a5a38e6110d2c8c4bef098eaec5900000d00000000000083080510cb8289281a0408001000000000"
    + "6d00000000000083080210c5b9d7bd051a63080110011801225b0800100018ade8b2c5cca5a38e61"
    + "224b7b226964223a363939373632333134343531313734373131372c227065657255524c73223a5b"
    + "22687474703a2f2f3132372e302e302e313a3233383933225d2c226e616d65223a226e227d000000"
    + "0f0000000000008108031095fda21b1a06080110001801001000000000000000080210b5bbb6e609"
    + "1a060800100218029900000000000087080210e395d8c6071a8e01080010021803228501088186fe"
    + "d0c4bfe896b40112035055541a262f302f6d656d626572732f363131633864326363386163623432"
    + "642f6174747269627574657322347b226e616d65223a226e222c22636c69656e7455524c73223a5b"
    + "22687474703a2f2f3132372e302e302e313a3233373933225d7d2800320038004800500058006000"
    + "680070007800800100000000000000001800000000000000080310a5e6818b091a0e080210ade8b2"
    + "c5cca5a38e611803")
