/// Who may do what, and by which tokens users are known here. Changed by the apply thread under
/// the write lock, read by others under the read lock. etcd: `authStore` with its token provider.
public struct AccessControl: ~Copyable, Sendable {
  public var store: AuthStore
  public var tokens: TokenTable

  public init(store: AuthStore, tokens: TokenTable) {
    self.store = store
    self.tokens = tokens
  }
}
