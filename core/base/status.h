/* How errors are put together; onekv_types.h has the list of what can go wrong.
 *
 * Every function of core that can fail returns an onekv_status. Where a caller can act on the
 * detail it also fills an onekv_error, whose message names the key or tensor, what was found
 * and what was expected. Nothing here allocates or prints. */
#ifndef ONEKV_STATUS_H
#define ONEKV_STATUS_H

#include "core/onekv_types.h"

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
