/* Status codes: names, texts, and the filling of an onekv_error.
 *
 * vsnprintf is the one function of <stdio.h> that core uses: it formats into memory and touches
 * no stream. It is used here only. */
#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
  const char *name;
  const char *text;
} STATUSES[] = {
#define X(code, text) {#code, text},
    ONEKV_STATUS_LIST(X)
#undef X
};

const char *onekv_status_name(onekv_status status) {
  return (unsigned)status < ONEKV_STATUS_COUNT ? STATUSES[status].name : "?";
}

const char *onekv_status_text(onekv_status status) {
  return (unsigned)status < ONEKV_STATUS_COUNT ? STATUSES[status].text : "unknown status";
}

onekv_status error_set(onekv_error *error, onekv_status status, const char *format, ...) {
  if (error == NULL) return status;
  error->status = status;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return status;
}

void text_format(char *out, size_t n_bytes, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(out, n_bytes, format, arguments);
  va_end(arguments);
}
