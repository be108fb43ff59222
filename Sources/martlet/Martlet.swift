internal import Config
internal import Platform
internal import Server

/// The command: reads flags and environment, and serves.
@main
enum Martlet {
  static func main() {
    let program = Process.arguments.first ?? ""
    let words = Array(Process.arguments.dropFirst())
    if words.first == "check" { Console.exit(Check.run(Array(words.dropFirst()))) }
    if let status = BackupCommand.run(program: program, arguments: words) { Console.exit(status) }
    do throws(ConfigError) {
      let settings = try Settings(
        arguments: words, environment: Console.environment(), read: read)
      if settings.wantsHelp {
        Console.write(Options.help)
        return
      }
      if settings.flag("version") {
        Console.write("etcd Version: \(Server.etcdVersion)\nMartlet Version: \(Server.version)\n")
        return
      }
      let options = try Options(settings, defaultHost: Machine.defaultHost)
      serve(options)
    } catch {
      Console.write("\(error.text)\n", toError: true)
      if error.exitStatus == 2 { Console.write("See 'martlet --help'.\n", toError: true) }
      Console.exit(error.exitStatus)
    }
  }

  private static func read(_ path: String) throws(ConfigError) -> [UInt8] {
    do throws(Errno) {
      return try FileSystem.contents(path, bytesMax: 1 << 20)
    } catch {
      throw ConfigError("open \(path): \(error) [--config-file]")
    }
  }

  private static func serve(_ options: Options) {
    do throws(StartError) {
      try Server.run(options)
      Console.exit(0)
    } catch {
      Console.write("martlet: \(error.text)\n", toError: true)
      Console.exit(1)
    }
  }
}
