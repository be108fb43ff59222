internal import COpenSSL

/// SHA-1 of `bytes`, for the IDs that etcd derives with it; not for secrets.
public func sha1(_ bytes: [UInt8]) -> [UInt8] {
  var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
  unsafe martlet_sha1(bytes, bytes.count, &digest)
  return digest
}
