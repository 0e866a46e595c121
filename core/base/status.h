/* Status codes and error texts: the one list of what can go wrong.
 *
 * Every function of core that can fail returns an onekv_status. Where a caller can act on the
 * detail it also fills an onekv_error, whose message names the key or tensor, what was found
 * and what was expected. Nothing here allocates or prints. */
#ifndef ONEKV_STATUS_H
#define ONEKV_STATUS_H

#include <stddef.h>

/* X(code, text). The text says what the code means; an onekv_error says where. */
#define ONEKV_STATUS_LIST(X)                                                                 \
  X(OK, "no error")                                                                          \
  X(OUT_OF_MEMORY, "memory could not be had")                                                \
  X(INVALID_ARGUMENT, "an argument is outside its documented range")                         \
  X(WRONG_STATE, "the call is not possible in this state")                                   \
  X(NOT_GGUF, "the bytes do not start like a GGUF file")                                     \
  X(UNSUPPORTED_VERSION, "the version of the file format is not supported")                  \
  X(TRUNCATED, "the bytes end too early")                                                    \
  X(CORRUPT, "a field of the file contradicts the format")                                   \
  X(UNSUPPORTED_TYPE, "an element type is not supported")                                    \
  X(UNSUPPORTED_MODEL, "the model uses a feature that is not supported")                     \
  X(MISSING_KEY, "a metadata key is missing")                                                \
  X(BAD_KEY, "a metadata key has a wrong type or value")                                     \
  X(MISSING_TENSOR, "a tensor is missing")                                                   \
  X(BAD_TENSOR, "a tensor has a wrong shape")                                                \
  X(UNKNOWN_TENSOR, "the file holds a tensor that the model does not use")                   \
  X(TOKEN_OUT_OF_RANGE, "a token id is not in the vocabulary")                               \
  X(CONTEXT_FULL, "the sequence does not fit in the context window")                         \
  X(SNAPSHOT_REFUSED, "the snapshot does not fit this model or is damaged")                  \
  X(NOT_FINITE, "the logits are not finite numbers")

typedef enum onekv_status {
#define X(code, text) ONEKV_##code,
  ONEKV_STATUS_LIST(X)
#undef X
      ONEKV_STATUS_COUNT
} onekv_status;

enum { ONEKV_MESSAGE_MAX = 256 };

typedef struct onekv_error {
  onekv_status status;
  char message[ONEKV_MESSAGE_MAX]; /* zero-terminated, cut if longer */
} onekv_error;

/* The code's name without prefix ("BAD_TENSOR"), static; "?" for a value outside the list. */
const char *onekv_status_name(onekv_status status);

/* The code's general text, static. */
const char *onekv_status_text(onekv_status status);

/* Fills *error (which may be NULL) and returns status, so that callers can write
 * `return error_set(error, ONEKV_BAD_KEY, "...", ...)`. Knows %s, %.*s, %zu, %u, %d, %llu, %g. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
onekv_status
error_set(onekv_error *error, onekv_status status, const char *format, ...);

/* snprintf, here so that no other file of core needs <stdio.h>. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void text_format(char *out, size_t n_bytes, const char *format, ...);

#endif
