#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* OpenSSL's macros and typed stacks, which Swift cannot call, as functions. */

/* Versions as TLS1_2_VERSION; 0: the library's newest. */
static inline int martlet_tls_set_versions(SSL_CTX *context, int min, int max) {
  return SSL_CTX_set_min_proto_version(context, min) && SSL_CTX_set_max_proto_version(context, max);
}

/* No resumption: a resumed session would pass by the checks of certificates. */
static inline void martlet_tls_set_options(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}

static inline int martlet_tls_add_chain(SSL_CTX *context, X509 *certificate) {
  return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

static inline int martlet_tls_set_server_name(SSL *tls, const char *name) {
  return (int)SSL_set_tlsext_host_name(tls, name);
}

static inline BIO *martlet_memory(const void *bytes, int count) {
  return BIO_new_mem_buf(bytes, count);
}

static inline long martlet_memory_bytes(BIO *memory, char **bytes) {
  return BIO_get_mem_data(memory, bytes);
}

/* By the functions of old: those of EVP load the library's configuration and providers, 2 MiB that
   a server without TLS has no use for. */
static inline void martlet_sha1(const void *bytes, size_t count, unsigned char *digest) {
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  SHA_CTX context;
  SHA1_Init(&context);
  SHA1_Update(&context, bytes, count);
  SHA1_Final(digest, &context);
#pragma clang diagnostic pop
}

static int martlet_no_password(char *text, int size, int writes, void *data) { return -1; }

/* Without asking anybody for a password. */
static inline EVP_PKEY *martlet_read_key(BIO *memory) {
  return PEM_read_bio_PrivateKey(memory, NULL, martlet_no_password, NULL);
}

static inline X509 *martlet_read_certificate(BIO *memory) {
  return PEM_read_bio_X509(memory, NULL, martlet_no_password, NULL);
}

static inline X509_CRL *martlet_read_revocations(BIO *memory) {
  return PEM_read_bio_X509_CRL(memory, NULL, martlet_no_password, NULL);
}

static inline int martlet_revoked_count(X509_CRL *list) {
  STACK_OF(X509_REVOKED) *found = X509_CRL_get_REVOKED(list);
  return found ? sk_X509_REVOKED_num(found) : 0;
}

static inline const ASN1_INTEGER *martlet_revoked_serial(X509_CRL *list, int at) {
  return X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(list), at));
}

static inline int martlet_chain_count(X509_STORE_CTX *verification) {
  STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(verification);
  return chain ? sk_X509_num(chain) : 0;
}

static inline X509 *martlet_chain_at(X509_STORE_CTX *verification, int at) {
  return sk_X509_value(X509_STORE_CTX_get0_chain(verification), at);
}

/* The subject's alternative names; NULL when there are none. */
static inline void *martlet_names(const X509 *certificate) {
  return X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

static inline int martlet_names_count(const void *names) {
  return sk_GENERAL_NAME_num((const GENERAL_NAMES *)names);
}

/* 1: a DNS name, 2: an address in network order, 0: another kind. */
static inline int martlet_name_at(
    const void *names, int at, const unsigned char **bytes, int *count) {
  GENERAL_NAME *name = sk_GENERAL_NAME_value((const GENERAL_NAMES *)names, at);
  if (name->type != GEN_DNS && name->type != GEN_IPADD) return 0;
  ASN1_STRING *text = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
  *bytes = ASN1_STRING_get0_data(text);
  *count = ASN1_STRING_length(text);
  return name->type == GEN_DNS ? 1 : 2;
}

static inline void martlet_names_free(void *names) { GENERAL_NAMES_free((GENERAL_NAMES *)names); }

/* Seconds since 1970. */
static inline long martlet_seconds(const ASN1_TIME *time) {
  ASN1_TIME *zero = ASN1_TIME_set(NULL, 0);
  int days = 0, seconds = 0;
  ASN1_TIME_diff(&days, &seconds, zero, time);
  ASN1_TIME_free(zero);
  return days * 86400L + seconds;
}

/* Nothing could be read now: the caller tries again once more has come. */
static inline void martlet_pipe_is_dry(BIO *pipe, int is_dry) {
  BIO_clear_retry_flags(pipe);
  if (is_dry) BIO_set_retry_read(pipe);
}

static inline EVP_PKEY *martlet_make_key(void) { return EVP_EC_gen("P-521"); }

static inline int martlet_write_key(BIO *memory, EVP_PKEY *key) {
  return PEM_write_bio_PrivateKey_traditional(memory, key, NULL, NULL, 0, NULL, NULL);
}
