import Basics
import Raft
import Simulator
import Testing
import WAL

@Suite struct SurveyTests {
  /// A log of two segments and a snapshot that it notes.
  func written() throws -> FaultyDisk {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 1200)
    for index in 1...30 as ClosedRange<UInt64> {
      try log.append([entry(index, index < 20 ? 1 : 2, "some text")], state(2, index))
      try log.sync()
    }
    try log.save(marker(10), ConfState(voters: []))
    return disk
  }

  @Test func `a survey gives what opening would, and changes nothing`() throws {
    let disk = try written()
    let names = try disk.list(directory)
    let last = directory + "/" + names.last!
    // A tail that was torn after the last whole record.
    var torn = disk.contents(last)
    let used = torn.count - torn.reversed().prefix { $0 == 0 }.count
    torn.removeLast(torn.count - used + 1)
    disk.set(last, torn)
    let survey = try Log.survey(disk, directory: directory) { markers in
      #expect(markers == [.none])
      return .none
    }
    #expect(disk.contents(last) == torn)
    #expect(try disk.list(directory) == names)
    #expect(survey.files.count > 1 && survey.files.last == last)
    #expect(survey.torn?.file == last)
    let recovered = try recover(disk)
    #expect(recovered.repair?.contains("offset \(survey.torn!.offset),") == true)
    #expect(survey.recovered.entries.map(\.index) == recovered.entries.map(\.index))
    #expect(survey.recovered.hardState == recovered.hardState)
    #expect(survey.lastIndex == LogIndex(30))
  }

  @Test func `entries have their terms from the snapshot on`() throws {
    let disk = try written()
    let survey = try Log.survey(disk, directory: directory) { markers in
      #expect(markers == [.none, marker(10)])
      return marker(10)
    }
    #expect(survey.torn == nil)
    #expect(survey.term(at: LogIndex(10)) == .zero)
    #expect(survey.term(at: LogIndex(11)) == Term(1))
    #expect(survey.term(at: LogIndex(20)) == Term(2))
    #expect(survey.term(at: LogIndex(30)) == Term(2))
    #expect(survey.term(at: LogIndex(31)) == .zero)
  }

  @Test func `a damaged log is told as opening tells it`() throws {
    let disk = try written()
    var bytes = disk.contents(firstFile)
    bytes[200] ^= 1
    disk.set(firstFile, bytes)
    let error = #expect(throws: WALError.self) {
      try Log.survey(disk, directory: directory) { _ in .none }
    }
    #expect(error?.text.contains(firstFile) == true)
  }
}
